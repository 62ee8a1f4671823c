use serde_json::json;

use super::*;

#[test]
fn an_answer_holds_so_many_bytes_of_profiles() {
    let mut profiles = Profiles::default();
    for user in 0..100 {
        let fits = profiles.add(UserNid(user), "a.big".to_owned(), json!(["x".repeat(20_000)]));
        assert_eq!(fits, profiles.contains(UserNid(user)));
    }
    // A small one still fits where a big one does not.
    assert!(profiles.add(UserNid(100), "a.small".to_owned(), json!({"x": null})));
    let bytes = serde_json::to_vec(&profiles.users.values().collect::<Vec<_>>()).unwrap().len();
    assert!((MAX_BYTES - 30_000..MAX_BYTES + 30_000).contains(&bytes), "{bytes}");
    assert!(profiles.contains(UserNid(100)) && !profiles.contains(UserNid(99)));
}
