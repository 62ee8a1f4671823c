use std::time::Duration;

use super::*;
use crate::fixture::Fixture;

#[test]
fn a_token_names_its_user_for_an_hour() {
    let f = Fixture::new();
    let alice = f.account("alice");
    let token = f.run(f.users.create_openid_token(alice.user)).unwrap();
    assert_eq!((token.expires_in, &*token.matrix_server_name), (3_600, "example.org"));
    assert_eq!(f.reopen().openid_user(&token.access_token).unwrap(), alice.user_id);
    assert!(f.users.openid_user("other").is_err());
    assert!(f.run(f.users.authenticate(&token.access_token)).is_err(), "no access to the account");
    f.clock.advance(Duration::from_secs(3_600));
    assert!(matches!(f.users.openid_user(&token.access_token), Err(UserError::UnknownToken { .. })));
    f.run(f.users.delete_expired()).unwrap();
    assert_eq!(f.store.scan(&OPENID_TOKENS, &()).iter().count(), 0);
}
