use crate::{UserError, fixture::Fixture};

#[test]
fn the_same_filter_has_one_id_and_others_follow_densely() {
    let f = Fixture::new();
    let (alice, bob) = (f.account("alice").user, f.account("bob").user);
    let store = |user, json: &str| f.run(f.users.store_filter(user, json.into())).unwrap();
    assert_eq!((store(alice, "{}"), store(alice, r#"{"a":1}"#), store(alice, "{}")), (0, 1, 0));
    assert_eq!(store(bob, r#"{"b":1}"#), 0);
    assert_eq!(f.users.filter(alice, 1).unwrap().as_deref(), Some(&br#"{"a":1}"#[..]));
    assert!(f.users.filter(bob, 1).unwrap().is_none());
    let big = f.run(f.users.store_filter(alice, vec![b' '; 70_000]));
    assert!(matches!(big, Err(UserError::TooLarge(_))));
}
