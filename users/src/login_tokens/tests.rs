use std::time::Duration;

use super::*;
use crate::fixture::Fixture;

#[test]
fn a_login_token_works_once_and_for_two_minutes() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let (token, life) = f.users.create_login_token(user);
    assert_eq!(life, 120_000);
    assert_eq!(f.users.take_login_token(&token).unwrap(), user);
    assert!(matches!(f.users.take_login_token(&token), Err(UserError::Forbidden(_))));
    let (late, _) = f.users.create_login_token(user);
    f.clock.advance(Duration::from_secs(120));
    assert!(f.users.take_login_token(&late).is_err());
}

#[test]
fn login_tokens_are_bounded() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    for _ in 0..MAX_TOKENS + 10 {
        f.users.create_login_token(user);
    }
    assert_eq!(f.users.inner.login_tokens.0.lock().owners.len(), MAX_TOKENS);
}
