use serde_json::json;

use super::*;
use crate::fixture::Fixture;

fn set(f: &Fixture, user: UserNid, key: &str, value: Option<Value>) -> Result<ProfileChange, UserError> {
    f.run(f.users.set_profile_field(user, key, value))
}

#[test]
fn fields_are_set_told_and_deleted() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let change = set(&f, user, "displayname", Some(json!("Alice"))).unwrap();
    assert_eq!((change.old, change.new), (None, Some(json!("Alice"))));
    assert!(change.pos.is_some());
    let same = set(&f, user, "displayname", Some(json!("Alice"))).unwrap();
    assert!(same.pos.is_none(), "nothing changed, nothing is written");
    set(&f, user, "m.tz", Some(json!("Europe/Berlin"))).unwrap();
    set(&f, user, "org.example.pronouns", Some(json!([{ "summary": "she/her" }]))).unwrap();
    assert_eq!(f.users.profile(user).unwrap().len(), 3);
    assert_eq!(f.users.display_name(user).unwrap().as_deref(), Some("Alice"));
    set(&f, user, "displayname", Some(json!(""))).unwrap();
    set(&f, user, "m.tz", None).unwrap();
    assert_eq!(f.users.profile(user).unwrap().keys().collect::<Vec<_>>(), ["org.example.pronouns"]);
}

#[test]
fn keys_values_and_the_whole_have_limits() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    assert!(matches!(set(&f, user, &"k".repeat(256), Some(json!(1))), Err(UserError::KeyTooLarge)));
    for bad in ["", "Upper", "sp ace", "1digit", "ümlaut"] {
        assert!(matches!(set(&f, user, bad, Some(json!(1))), Err(UserError::InvalidParam(_))), "{bad}");
    }
    assert!(matches!(set(&f, user, "displayname", Some(json!(5))), Err(UserError::InvalidParam(_))));
    assert!(matches!(set(&f, user, "displayname", Some(json!("x".repeat(2_000)))), Err(UserError::TooLarge(_))));
    set(&f, user, "a.one", Some(json!("x".repeat(40_000)))).unwrap();
    assert!(matches!(set(&f, user, "a.two", Some(json!("x".repeat(40_000)))), Err(UserError::ProfileTooLarge)));
    set(&f, user, "a.one", Some(json!("y".repeat(60_000)))).unwrap();
}

fn records(f: &Fixture, user: UserNid) -> (usize, usize) {
    let of_user = |key: &(StreamPos, UserNid, String)| key.1 == user;
    let log = f.store.scan(&PROFILE_LOG, &()).keys().map(Result::unwrap).filter(of_user).count();
    (f.store.scan(&PROFILE_CHANGES, &user).keys().count(), log)
}

#[test]
fn ever_new_fields_leave_a_bounded_record() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    set(&f, user, "a.kept", Some(json!(1))).unwrap();
    for n in 0..MAX_RECORDED + 20 {
        set(&f, user, &format!("b.{n}"), Some(json!(n))).unwrap();
        set(&f, user, &format!("b.{n}"), None).unwrap();
    }
    assert_eq!(records(&f, user), (MAX_RECORDED, MAX_RECORDED));
    let changes = f.users.profile_changes(StreamPos::ZERO, f.store.visible(), 1_000).unwrap().unwrap();
    let has = |field: &str| changes.iter().any(|(_, changed)| changed == field);
    assert!(has("a.kept") && !has("b.0"), "what is there stays, what went first is forgotten");
    assert!(has(&format!("b.{}", MAX_RECORDED + 19)));
}

#[test]
fn a_profile_has_so_many_fields() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    for n in 0..MAX_FIELDS {
        set(&f, user, &format!("b.{n}"), Some(json!(1))).unwrap();
    }
    assert!(matches!(set(&f, user, "b.more", Some(json!(1))), Err(UserError::ProfileTooLarge)));
    set(&f, user, "b.1", Some(json!(2))).unwrap();
    // Every user can be given a name.
    set(&f, user, "displayname", Some(json!("Alice"))).unwrap();
}

#[test]
fn so_many_changes_are_read_and_no_more() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let since = f.store.visible();
    set(&f, user, "a.one", Some(json!(1))).unwrap();
    let middle = f.store.visible();
    set(&f, user, "a.two", Some(json!(1))).unwrap();
    let until = f.store.visible();
    let changes = |since, until, limit| f.users.profile_changes(since, until, limit).unwrap();
    assert_eq!(changes(since, until, 2).map(|changes| changes.len()), Some(2));
    assert_eq!(changes(since, until, 1), None);
    assert_eq!(changes(since, middle, 1), Some(vec![(user, "a.one".to_owned())]));
    assert_eq!(f.users.profile_changes_of(user, middle, until).unwrap(), ["a.two"]);
    assert_eq!(f.users.profile_changes_of(user, since, middle).unwrap(), ["a.one"]);
}

#[test]
fn changes_at_one_moment_leave_one_record() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    for round in 0..20 {
        std::thread::scope(|scope| {
            for number in 0..4 {
                let users = f.users.clone();
                scope.spawn(move || {
                    let value = Some(json!([round, number]));
                    crate::fixture::block_on(users.set_profile_field(user, "a.one", value)).unwrap();
                });
            }
        });
    }
    assert_eq!(records(&f, user), (1, 1));
}

#[test]
fn erasing_a_profile_erases_when_it_changed() {
    let f = Fixture::new();
    let (user, other) = (f.account("alice").user, f.account("bob").user);
    for user in [user, other] {
        set(&f, user, "a.one", Some(json!(1))).unwrap();
        set(&f, user, "a.two", Some(json!(1))).unwrap();
        set(&f, user, "a.two", None).unwrap();
    }
    f.run(f.users.erase_profile(user)).unwrap();
    assert!(f.users.profile(user).unwrap().is_empty());
    assert_eq!((records(&f, user), records(&f, other)), ((0, 0), (2, 2)));
}
