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
