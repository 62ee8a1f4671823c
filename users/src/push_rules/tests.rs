use serde_json::json;

use super::*;
use crate::fixture::Fixture;

fn rule(pattern: &str) -> NewRule {
    serde_json::from_value(json!({ "actions": ["notify"], "pattern": pattern })).unwrap()
}

#[test]
fn rules_are_edited_and_compiled_anew() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let defaults = f.users.compiled_push_rules(user).unwrap();
    assert!(Arc::ptr_eq(&defaults, &CompiledRuleset::defaults()), "users without edits share the defaults");
    let kind = RuleKind::Content;
    f.run(f.users.put_push_rule(user, kind, "cake", rule("cake"), Placement::default())).unwrap();
    assert!(!Arc::ptr_eq(&defaults, &f.users.compiled_push_rules(user).unwrap()));
    assert!(f.users.push_rules(user).unwrap().rule(kind, "cake").is_some());
    assert!(f.reopen().push_rules(user).unwrap().rule(kind, "cake").is_some());
    f.run(f.users.delete_push_rule(user, kind, "cake")).unwrap();
    assert!(Arc::ptr_eq(&defaults, &f.users.compiled_push_rules(user).unwrap()));
}

#[test]
fn refused_and_empty_edits_write_nothing() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let (kind, before) = (RuleKind::Content, f.store.visible());
    let missing = f.run(f.users.delete_push_rule(user, kind, "none"));
    assert!(matches!(missing, Err(UserError::PushRule(EditError::NotFound))));
    let reserved = f.run(f.users.put_push_rule(user, kind, ".mine", rule("x"), Placement::default()));
    assert!(matches!(reserved, Err(UserError::PushRule(EditError::ReservedId))));
    assert_eq!(f.store.visible(), before);
    f.run(f.users.put_push_rule(user, kind, "a", rule("a"), Placement::default())).unwrap();
    let after = f.store.visible();
    f.run(f.users.set_push_rule_actions(user, kind, "a", &[Action::Notify])).unwrap();
    assert_eq!(f.store.visible(), after, "the same actions again");
}

#[test]
fn edits_of_two_devices_at_once_are_both_kept() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    std::thread::scope(|scope| {
        for number in 0..5 {
            let users = f.users.clone();
            scope.spawn(move || {
                let id = format!("r{number}");
                let edit = users.put_push_rule(user, RuleKind::Content, &id, rule("x"), Placement::default());
                crate::fixture::block_on(edit).unwrap();
            });
        }
    });
    let rules = f.users.push_rules(user).unwrap();
    assert_eq!(rules.of_kind(RuleKind::Content).iter().filter(|rule| !rule.default).count(), 5);
}
