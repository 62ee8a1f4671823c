use serde_json::{Value, json};

use super::*;
use crate::fixture::Fixture;

fn judge(blocking: Value, filter: Value, sender: &str) -> InvitePermission {
    let raw = |value: &Value| serde_json::value::to_raw_value(value).unwrap();
    let rules = InviteRules::read(Some(&raw(&blocking)), Some(&raw(&filter)));
    rules.judge(&UserId::parse(sender).unwrap())
}

#[test]
fn all_invitations_can_be_blocked() {
    let judge = |blocking| judge(blocking, json!({"allowed_users": ["@a:x.org"]}), "@a:x.org");
    assert_eq!(judge(json!({"default_action": "block"})), InvitePermission::Block);
    for other in [json!({"default_action": "allow"}), json!({"default_action": 1}), json!({}), json!("block")] {
        assert_eq!(judge(other.clone()), InvitePermission::Allow, "{other}");
    }
}

#[test]
fn users_come_before_servers_and_allowing_before_blocking() {
    use InvitePermission::{Allow, Block, Ignore};
    let all = json!({
        "allowed_users": ["@friend:bad.org"],
        "ignored_users": ["@friend:bad.org", "@bore:*"],
        "blocked_users": ["@bore:good.org", "@troll?:*"],
        "allowed_servers": ["good.org", "fine.bad.org"],
        "ignored_servers": ["dull.org", "*.dull.org"],
        "blocked_servers": ["*bad.org", "dull.org"],
    });
    for (sender, expected) in [
        ("@friend:bad.org", Allow),
        ("@bore:good.org", Ignore),
        ("@troll1:good.org", Block),
        ("@troll:good.org", Allow),
        ("@x:good.org", Allow),
        ("@x:fine.bad.org", Allow),
        ("@x:more.bad.org", Block),
        ("@x:dull.org", Ignore),
        ("@x:a.dull.org", Ignore),
        ("@x:elsewhere.org", Allow),
    ] {
        assert_eq!(judge(json!({}), all.clone(), sender), expected, "{sender}");
    }
    let off = json!({"enabled": false, "blocked_servers": ["*"]});
    assert_eq!(judge(json!({}), off, "@x:bad.org"), Allow);
    // Malformed rules are no rules.
    assert_eq!(judge(json!({}), json!({"blocked_servers": "*"}), "@x:bad.org"), Allow);
}

#[test]
fn a_slip_in_one_list_leaves_the_others() {
    for slip in [json!(null), json!("*"), json!({}), json!([1, null])] {
        let filter = json!({"enabled": "yes", "ignored_users": slip, "blocked_servers": [7, "*"]});
        assert_eq!(judge(json!({}), filter, "@x:bad.org"), InvitePermission::Block, "{slip}");
    }
}

#[test]
fn rules_stay_in_memory_until_the_data_change() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let bob = UserId::parse("@bob:bad.org").unwrap();
    let set = |kind: &str, content: Value| {
        let content = serde_json::value::to_raw_value(&content).unwrap();
        f.run(f.users.set_account_data(user, kind, &content)).unwrap();
    };
    let rules = f.users.invite_rules(user).unwrap();
    assert!(!rules.may_ignore() && rules.judge(&bob) == InvitePermission::Allow);
    assert!(Arc::ptr_eq(&rules, &f.users.invite_rules(user).unwrap()));
    set(FILTER_TYPE, json!({"ignored_servers": ["bad.org"]}));
    let rules = f.users.invite_rules(user).unwrap();
    assert!(rules.may_ignore() && rules.judge(&bob) == InvitePermission::Ignore);
    set(BLOCKING_TYPE, json!({"default_action": "block"}));
    assert_eq!(f.users.invite_rules(user).unwrap().judge(&bob), InvitePermission::Block);
}
