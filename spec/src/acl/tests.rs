use serde_json::json;

use super::*;

fn allows(content: &Value, server: &str) -> bool {
    ServerAcl::parse(&content.to_string()).allows(&ServerName::parse(server).unwrap())
}

#[test]
fn each_rule_in_its_order() {
    let deny_evil = json!({"allow": ["*"], "deny": ["*.evil.com", "evil.com"]});
    let no_literals = json!({"allow": ["*"], "allow_ip_literals": false});
    let only_some = json!({"allow": ["*.corp.example", "partner?.example"], "deny": ["old.corp.example"]});
    let table = [
        // Denied wins over allowed, ports and case mean nothing.
        (&deny_evil, "good.com", true),
        (&deny_evil, "evil.com", false),
        (&deny_evil, "evil.com:8448", false),
        (&deny_evil, "EVIL.com:1", false),
        (&deny_evil, "a.b.evil.com", false),
        (&deny_evil, "notevil.com", true),
        (&deny_evil, "evil.com.org", true),
        // Literals.
        (&no_literals, "1.2.3.4", false),
        (&no_literals, "1.2.3.4:8448", false),
        (&no_literals, "[::1]", false),
        (&no_literals, "[2001:db8::1]:8448", false),
        (&no_literals, "010.1.1.1", false),
        (&no_literals, "1.2.3.4.example", true),
        (&deny_evil, "1.2.3.4", true),
        // Only what is allowed.
        (&only_some, "chat.corp.example", true),
        (&only_some, "old.corp.example", false),
        (&only_some, "corp.example", false),
        (&only_some, "partner1.example", true),
        (&only_some, "partner12.example", false),
    ];
    for (content, server, expected) in table {
        assert_eq!(allows(content, server), expected, "{server} by {content}");
    }
}

#[test]
fn what_is_missing_or_malformed_has_its_default() {
    let table = [
        (json!({}), "a.example", false),
        (json!({"allow": "*"}), "a.example", false),
        (json!({"allow": ["*", 7]}), "a.example", true),
        (json!({"allow": ["*"], "deny": "a.example"}), "a.example", true),
        (json!({"allow": ["*"], "deny": [{}, "a.example"]}), "a.example", false),
        (json!({"allow": ["*"], "allow_ip_literals": "no"}), "1.2.3.4", true),
        (json!({"allow": ["*"], "allow_ip_literals": null}), "[::1]", true),
        (json!({"allow": [""]}), "a.example", false),
    ];
    for (content, server, expected) in table {
        assert_eq!(allows(&content, server), expected, "{server} by {content}");
    }
    assert!(!ServerAcl::parse("[]").allows(&ServerName::parse("a.example").unwrap()));
}

#[test]
fn long_lists_of_stars_are_quick() {
    let pattern = "*a".repeat(2000);
    let content = json!({"allow": ["*"], "deny": [pattern]});
    assert!(allows(&content, &format!("{}.example", "a".repeat(200))));
}
