use serde_json::json;

use super::*;

fn rules(events: &[(&str, serde_json::Value)]) -> PolicyRules {
    let (mut rules, list) = (PolicyRules::default(), Arc::from("!list"));
    for (kind, content) in events {
        if let Some(rule) = PolicyRule::read(kind, &content.to_string()) {
            rules.add(&list, rule);
        }
    }
    rules
}

#[test]
fn each_form_of_rule_names_whom_it_should() {
    let rules = rules(&[
        ("m.policy.rule.user", json!({"entity": "@Spam:evil.example", "recommendation": "m.ban", "reason": "spam"})),
        ("m.room.rule.user", json!({"entity": "@bot?*:*", "recommendation": "org.matrix.mjolnir.ban"})),
        ("org.matrix.mjolnir.rule.server", json!({"entity": "*.evil.example", "recommendation": "m.ban"})),
        ("m.policy.rule.room", json!({"entity": "!AbC:evil.example", "recommendation": "m.takedown"})),
    ]);
    let table = [
        (PolicySubject::User, "@spam:evil.example", true),
        (PolicySubject::User, "@spam:evil.example.org", false),
        (PolicySubject::User, "@bot1:any.example", true),
        (PolicySubject::User, "@bot:any.example", false),
        (PolicySubject::Server, "a.evil.example", true),
        (PolicySubject::Server, "evil.example", false),
        (PolicySubject::Room, "!AbC:evil.example", true),
        (PolicySubject::Room, "!abc:evil.example", false),
        // A rule for users is none for rooms.
        (PolicySubject::Room, "@spam:evil.example", false),
    ];
    for (subject, id, expected) in table {
        assert_eq!(rules.find(subject, id).is_some(), expected, "{subject:?} {id}");
    }
    let found = rules.find(PolicySubject::User, "@spam:evil.example").unwrap();
    assert_eq!((found.rule.reason(), &*found.list), (Some("spam"), "!list"));
}

#[test]
fn a_hash_names_one_and_may_be_written_with_or_without_padding() {
    // The example of MSC4205.
    let hash = "VPqwbUV7mMMkOVto3kPwsNXXiALMs7VCKWh3OeqqjGs=";
    for (key, hash) in [("hashes", hash), ("org.matrix.msc4205.hashes", hash.trim_end_matches('='))] {
        let rules = rules(&[("m.policy.rule.user", json!({key: {"sha256": hash}, "recommendation": "m.takedown"}))]);
        let found = rules.find(PolicySubject::User, "@yarrgh:example.com").map(|found| found.rule.recommendation());
        assert_eq!(found, Some(Recommendation::Takedown), "{key}");
        assert!(rules.find(PolicySubject::User, "@yarrgh2:example.com").is_none());
    }
}

#[test]
fn the_strongest_rule_counts() {
    let rules = rules(&[
        ("m.policy.rule.user", json!({"entity": "@a:x", "recommendation": "m.ban"})),
        ("m.policy.rule.user", json!({"entity": "@*:x", "recommendation": "org.matrix.msc4204.takedown"})),
        ("m.policy.rule.user", json!({"entity": "@a:*", "recommendation": "m.ban"})),
    ]);
    assert_eq!(rules.matching(PolicySubject::User, "@a:x").count(), 3);
    let found = rules.find(PolicySubject::User, "@a:x").unwrap();
    assert_eq!(found.rule.recommendation(), Recommendation::Takedown);
}

#[test]
fn what_is_no_rule_is_none() {
    let long = "x".repeat(300);
    let table = [
        ("m.room.name", json!({"entity": "x", "recommendation": "m.ban"})),
        // Taken back.
        ("m.policy.rule.user", json!({})),
        ("m.policy.rule.user", json!({"entity": "@a:x"})),
        ("m.policy.rule.user", json!({"recommendation": "m.ban"})),
        ("m.policy.rule.user", json!({"entity": "", "recommendation": "m.ban"})),
        ("m.policy.rule.user", json!({"entity": long, "recommendation": "m.ban"})),
        ("m.policy.rule.user", json!({"entity": 1, "recommendation": "m.ban"})),
        ("m.policy.rule.user", json!({"entity": "@a:x", "recommendation": "fi.mau.meowlnir.unban"})),
        ("m.policy.rule.user", json!({"hashes": {"sha256": "c2hvcnQ="}, "recommendation": "m.ban"})),
        ("m.policy.rule.user", json!({"hashes": {"sha512": "c2hvcnQ="}, "recommendation": "m.ban"})),
    ];
    for (kind, content) in table {
        assert!(PolicyRule::read(kind, &content.to_string()).is_none(), "{kind} {content}");
    }
    assert!(PolicyRule::read("m.policy.rule.user", "no JSON").is_none());
}
