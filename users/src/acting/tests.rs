use std::time::Duration;

use super::*;
use crate::fixture::Fixture;

#[test]
fn acting_for_a_user_ends_in_time_and_leaves_no_device() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let until = f.clock.now_ms() + 60_000;
    let acting = f.run(f.users.start_acting(user, "support", Some(until))).unwrap();
    let token = acting.tokens.access_token;
    assert_eq!(f.run(f.users.authenticate(&token)).unwrap().user, user);
    assert_eq!(f.users.devices(user).unwrap().len(), 1);
    f.run(f.users.delete_expired()).unwrap();
    assert!(f.run(f.users.authenticate(&token)).is_ok());
    f.clock.advance(Duration::from_secs(60));
    assert!(matches!(f.run(f.users.authenticate(&token)), Err(UserError::UnknownToken { .. })));
    f.run(f.users.delete_expired()).unwrap();
    assert_eq!(f.users.devices(user).unwrap(), []);
    assert!(f.store.scan(&ACTING_SESSIONS, &()).is_empty().unwrap());
}

#[test]
fn nobody_acts_for_an_account_that_is_closed_or_for_a_time_that_is_over() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let over = f.run(f.users.start_acting(user, "support", Some(f.clock.now_ms())));
    assert!(matches!(over, Err(UserError::InvalidParam(_))));
    f.run(f.users.deactivate(user)).unwrap();
    assert!(matches!(f.run(f.users.start_acting(user, "support", None)), Err(UserError::UserDeactivated)));
}
