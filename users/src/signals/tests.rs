use std::time::Duration;

use super::*;
use crate::fixture::Fixture;

#[test]
fn what_a_user_did_is_counted_by_the_hour() {
    let f = Fixture::new();
    let (alice, bob) = (f.account("alice").user, f.account("bob").user);
    f.run(f.users.count_signal(alice, Signal::Invitations, 2));
    let later = f.clock.now_ms() + 2 * HOUR_MS;
    f.clock.advance(Duration::from_millis(2 * HOUR_MS));
    f.run(f.users.count_signal(alice, Signal::Invitations, 3));
    f.run(f.users.count_signal(alice, Signal::Joins, 1));
    f.run(f.users.count_signal(alice, Signal::Joins, 0));
    assert_eq!(f.users.signals_since(alice, Signal::Invitations, 0).unwrap(), 5);
    assert_eq!(f.users.signals_since(alice, Signal::Invitations, later).unwrap(), 3);
    assert_eq!(f.users.signals_since(alice, Signal::Joins, 0).unwrap(), 1);
    assert_eq!(f.users.signals_since(alice, Signal::Joins, u64::MAX).unwrap(), 0);
    assert_eq!(f.users.signals_since(bob, Signal::Invitations, 0).unwrap(), 0);
}
