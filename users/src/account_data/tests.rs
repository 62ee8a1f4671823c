use serde_json::{json, value::to_raw_value};

use super::*;
use crate::fixture::Fixture;

fn raw(value: Value) -> Box<RawValue> {
    to_raw_value(&value).unwrap()
}

fn set(f: &Fixture, user: UserNid, kind: &str, value: Value) {
    f.run(f.users.set_account_data(user, kind, &raw(value))).unwrap();
}

#[test]
fn changes_are_told_once_with_their_latest_content() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let start = f.store.visible();
    set(&f, user, "m.a", json!({ "n": 1 }));
    let middle = f.store.visible();
    set(&f, user, "m.b", json!({ "n": 2 }));
    set(&f, user, "m.a", json!({ "n": 3 }));
    let end = f.store.visible();
    let changes = |since, until| {
        let events = f.users.account_data_changes(user, since, until).unwrap();
        events.into_iter().map(|event| (event.kind, event.content.get().to_owned())).collect::<Vec<_>>()
    };
    let (a, b) = (("m.a".to_owned(), r#"{"n":3}"#.to_owned()), ("m.b".to_owned(), r#"{"n":2}"#.to_owned()));
    assert_eq!(changes(start, end), [b.clone(), a.clone()]);
    assert_eq!(changes(middle, end), [b, a]);
    assert!(changes(end, f.store.visible()).is_empty());
    assert!(f.users.account_data_changes(UserNid(99), start, end).unwrap().is_empty());
}

#[test]
fn push_rules_are_always_there_and_change_like_account_data() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let all = f.users.all_account_data(user).unwrap();
    assert_eq!(all.iter().map(|event| &*event.kind).collect::<Vec<_>>(), ["m.push_rules"]);
    assert!(all[0].content.get().contains(".m.rule.master"));
    let since = f.store.visible();
    let kind = spec::push::RuleKind::Override;
    f.run(f.users.set_push_rule_enabled(user, kind, ".m.rule.master", true)).unwrap();
    let changes = f.users.account_data_changes(user, since, f.store.visible()).unwrap();
    assert_eq!(changes.len(), 1);
    let content: Value = serde_json::from_str(changes[0].content.get()).unwrap();
    assert_eq!(content["global"]["override"][0]["enabled"], json!(true));
}

#[test]
fn server_managed_and_malformed_data_is_refused() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    for kind in ["m.push_rules", "m.fully_read"] {
        let refused = f.run(f.users.set_account_data(user, kind, &raw(json!({}))));
        assert!(matches!(refused, Err(UserError::ReservedAccountData)));
        let refused = f.run(f.users.set_room_account_data(user, RoomNid(1), kind, &raw(json!({}))));
        assert!(matches!(refused, Err(UserError::ReservedAccountData)));
    }
    assert!(matches!(f.run(f.users.set_account_data(user, "m.a", &raw(json!([])))), Err(UserError::BadJson(_))));
    let big = raw(json!({ "x": "y".repeat(70_000) }));
    assert!(matches!(f.run(f.users.set_account_data(user, "m.a", &big)), Err(UserError::TooLarge(_))));
    assert!(f.run(f.users.set_account_data(user, &"k".repeat(256), &raw(json!({})))).is_err());
}

#[test]
fn the_ignore_list_is_read_from_account_data_and_follows_it() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    assert!(f.users.ignored_users(user).unwrap().is_empty());
    set(&f, user, "m.ignored_user_list", json!({ "ignored_users": { "@bob:example.org": {}, "nonsense": {} } }));
    let ignored = f.users.ignored_users(user).unwrap();
    assert_eq!(ignored.iter().map(UserId::as_str).collect::<Vec<_>>(), ["@bob:example.org"]);
    assert!(Arc::ptr_eq(&ignored, &f.users.ignored_users(user).unwrap()));
    set(&f, user, "m.ignored_user_list", json!({ "ignored_users": 5 }));
    assert!(f.users.ignored_users(user).unwrap().is_empty());
}

#[test]
fn tags_of_two_devices_at_once_are_both_kept() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let room = RoomNid(1);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let users = f.users.clone();
            scope.spawn(move || {
                let tag = format!("u.{number}");
                crate::fixture::block_on(users.set_tag(user, room, &tag, Map::new())).unwrap();
            });
        }
    });
    assert_eq!(f.users.tags(user, room).unwrap().len(), 6);
    f.run(f.users.delete_tag(user, room, "u.3")).unwrap();
    f.run(f.users.delete_tag(user, room, "u.3")).unwrap();
    assert_eq!(f.users.tags(user, room).unwrap().len(), 5);
    assert!(f.users.tags(user, RoomNid(2)).unwrap().is_empty());
    let wrong = json!({ "order": "first" }).as_object().unwrap().clone();
    assert!(f.run(f.users.set_tag(user, room, "u.x", wrong)).is_err());
}

#[test]
fn room_data_changes_name_their_room() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let since = f.store.visible();
    f.run(f.users.set_fully_read(user, RoomNid(1), "$a")).unwrap();
    f.run(f.users.set_fully_read(user, RoomNid(2), "$b")).unwrap();
    f.run(f.users.set_fully_read(user, RoomNid(1), "$c")).unwrap();
    let changes = f.users.room_account_data_changes(user, since, f.store.visible()).unwrap();
    let seen: Vec<_> = changes.iter().map(|event| (event.room.0, event.content.get())).collect();
    assert_eq!(seen, [(2, r#"{"event_id":"$b"}"#), (1, r#"{"event_id":"$c"}"#)]);
    assert_eq!(f.users.all_room_account_data(user, RoomNid(1)).unwrap().len(), 1);
}
