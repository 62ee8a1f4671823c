use std::time::Duration;

use super::*;
use crate::{AccountKind, AdminRights, DeviceLogin, NewAccount, UsersConfig, UsersSettings, fixture::Fixture};

fn new_account(localpart: &str) -> NewAccount<'_> {
    NewAccount {
        localpart,
        password: None,
        kind: AccountKind::User,
        admin: AdminRights::IfFirst,
        registration_token: None,
    }
}

fn with_settings(settings: UsersSettings) -> Fixture {
    Fixture::with_config(UsersConfig { settings, ..UsersConfig::default() })
}

#[test]
fn who_registers_waits_for_approval_and_the_first_account_does_not() {
    let f = with_settings(UsersSettings { registration_approval: true, ..Default::default() });
    let first = f.run(f.users.register_account(new_account("first"))).unwrap();
    assert!(!f.users.facts(first.user).unwrap().awaits_approval);
    let second = f.run(f.users.register_account(new_account("second"))).unwrap();
    let log_in = || f.run(f.users.start_session(second.user, DeviceLogin::default()));
    assert!(matches!(log_in(), Err(UserError::AwaitingApproval)));
    f.run(f.users.change_facts(second.user, |facts| facts.awaits_approval = false)).unwrap();
    assert!(log_in().is_ok());
    let made = f.run(f.users.create_account(new_account("made"))).unwrap();
    assert!(!f.users.facts(made.user).unwrap().awaits_approval);
}

#[test]
fn an_expired_account_is_refused_until_it_is_renewed() {
    let f = with_settings(UsersSettings { account_validity_days: 1, ..Default::default() });
    let user = f.account("alice").user;
    let token = f.run(f.users.start_session(user, DeviceLogin::default())).unwrap().tokens.access_token;
    f.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert!(f.run(f.users.authenticate(&token)).is_ok());
    f.clock.advance(Duration::from_secs(1));
    assert!(matches!(f.run(f.users.authenticate(&token)), Err(UserError::AccountExpired)));
    let again = f.run(f.users.start_session(user, DeviceLogin::default()));
    assert!(matches!(again, Err(UserError::AccountExpired)));
    let renewed = f.users.next_expiry_ms();
    f.run(f.users.change_facts(user, |facts| facts.expires_at_ms = renewed)).unwrap();
    assert!(f.run(f.users.authenticate(&token)).is_ok());
}

#[test]
fn an_open_session_notices_what_is_decided() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let token = f.run(f.users.start_session(user, DeviceLogin::default())).unwrap().tokens.access_token;
    assert!(!f.run(f.users.authenticate(&token)).unwrap().is_shadow_banned);
    let limit = RateLimitOverride { per_second: 0, burst: 0 };
    let change = |facts: &mut AccountFacts| {
        facts.is_shadow_banned = true;
        facts.rate_limit = Some(limit);
    };
    f.run(f.users.change_facts(user, change)).unwrap();
    let session = f.run(f.users.authenticate(&token)).unwrap();
    assert!(session.is_shadow_banned);
    assert!(session.rate_limit.unwrap().is_unlimited());
    assert!(!f.users.may_send(user).unwrap());
}

#[test]
fn a_pretended_event_id_looks_like_one_and_is_the_same_for_the_same_transaction() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let id = f.users.pretend_event_id(user, Some("a"));
    assert_eq!(id.len(), 44);
    assert!(spec::ids::EventId::parse(&id).is_ok());
    assert_eq!(f.users.pretend_event_id(user, Some("a")), id);
    assert_ne!(f.users.pretend_event_id(user, Some("b")), id);
    assert_ne!(f.users.pretend_event_id(user, None), f.users.pretend_event_id(user, None));
    assert_ne!(f.reopen().pretend_event_id(user, Some("a")), id);
}

#[test]
fn nothing_is_decided_about_who_has_no_account_and_types_have_a_length() {
    let f = Fixture::new();
    let unknown = f.run(f.users.change_facts(UserNid(99), |facts| facts.is_shadow_banned = true));
    assert!(matches!(unknown, Err(UserError::NotFound(_))));
    let user = f.account("alice").user;
    let long = f.run(f.users.change_facts(user, |facts| facts.user_type = Some("x".repeat(256))));
    assert!(matches!(long, Err(UserError::TooLarge(_))));
    assert_eq!(f.users.facts(user).unwrap(), AccountFacts::default());
}
