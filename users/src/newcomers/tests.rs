use std::time::Duration;

use super::*;
use crate::{Account, AdminRights, DeviceLogin, NewAccount, UsersConfig, UsersSettings, fixture::Fixture};

fn register(f: &Fixture, localpart: &str) -> Account {
    let new = NewAccount {
        localpart,
        password: None,
        kind: AccountKind::User,
        admin: AdminRights::Denied,
        registration_token: None,
    };
    f.run(f.users.register_account(new)).unwrap()
}

fn log_in(f: &Fixture, user: UserNid) -> std::sync::Arc<Session> {
    let token = f.run(f.users.start_session(user, DeviceLogin::default())).unwrap().tokens.access_token;
    f.run(f.users.authenticate(&token)).unwrap()
}

#[test]
fn only_who_registered_themself_is_a_newcomer() {
    let settings = UsersSettings { allow_guests: true, ..UsersSettings::default() };
    let f = Fixture::with_config(UsersConfig { settings, ..UsersConfig::default() });
    let (alice, made) = (register(&f, "alice").user, f.account("made").user);
    let guest = f.run(f.users.create_guest()).unwrap().user;
    let created = f.clock.now_ms();
    assert_eq!(log_in(&f, alice).spam_rules_since_ms(), Some(created));
    assert_eq!(log_in(&f, guest).spam_rules_since_ms(), Some(created));
    assert_eq!(log_in(&f, made).spam_rules_since_ms(), None);
    f.run(f.users.set_role(alice, Role::Moderator)).unwrap();
    assert_eq!(log_in(&f, alice).spam_rules_since_ms(), None);
}

#[test]
fn an_open_session_notices_an_exemption_and_its_end() {
    let f = Fixture::new();
    let alice = register(&f, "alice").user;
    let token = f.run(f.users.start_session(alice, DeviceLogin::default())).unwrap().tokens.access_token;
    let since = || f.run(f.users.authenticate(&token)).unwrap().spam_rules_since_ms();
    let created = since();
    assert!(created.is_some());
    f.clock.advance(Duration::from_secs(60));
    f.run(f.users.set_spam_exemption(alice, true)).unwrap();
    assert_eq!((since(), f.users.has_spam_rules(alice).unwrap()), (None, false));
    f.run(f.users.set_spam_exemption(alice, false)).unwrap();
    assert_eq!((since(), f.users.has_spam_rules(alice).unwrap()), (created, true));
    let unlimited = RateLimitOverride { per_second: 0, burst: 0 };
    f.run(f.users.change_facts(alice, |facts| facts.rate_limit = Some(unlimited))).unwrap();
    assert_eq!(since(), None);
    let nobody = f.run(f.users.set_spam_exemption(UserNid(999), true));
    assert!(matches!(nobody, Err(UserError::NotFound(_))));
}

#[test]
fn an_approved_account_is_exempted() {
    let settings = UsersSettings { registration_approval: true, ..UsersSettings::default() };
    let f = Fixture::with_config(UsersConfig { settings, ..UsersConfig::default() });
    let alice = register(&f, "alice").user;
    f.run(f.users.approve(alice)).unwrap();
    assert_eq!(log_in(&f, alice).spam_rules_since_ms(), None);
}

#[test]
fn refusals_are_counted_by_rule_and_hour_and_forgotten_in_the_end() {
    let f = Fixture::new();
    let (alice, bob) = (log_in(&f, register(&f, "alice").user), log_in(&f, register(&f, "bob").user));
    let metrics = Metrics::new();
    f.users.publish_metrics(&metrics);
    f.run(f.users.note_spam(&alice, SpamRule::Links));
    f.run(f.users.note_spam(&bob, SpamRule::Joins));
    f.clock.advance(Duration::from_millis(HOUR_MS));
    let later = f.clock.now_ms();
    f.run(f.users.note_spam(&alice, SpamRule::Links));
    let found = f.users.spam_refusals(0).unwrap();
    let shown: Vec<_> = found.iter().map(|refusals| (refusals.user, refusals.rule, refusals.count)).collect();
    assert_eq!(shown, [(alice.user, SpamRule::Links, 2), (bob.user, SpamRule::Joins, 1)]);
    assert_eq!(found.first().unwrap().last_hour_ms, later / HOUR_MS * HOUR_MS);
    assert_eq!(f.users.spam_refusals(later).unwrap().len(), 1);
    let text = metrics.render();
    assert!(text.contains("conduit_spam_refusals_total{rule=\"links\"} 2"), "{text}");
    f.clock.advance(Duration::from_millis(HOUR_MS * REFUSALS_KEPT_HOURS));
    f.run(f.users.delete_expired()).unwrap();
    assert_eq!(f.users.spam_refusals(0).unwrap().len(), 1);
}

#[test]
fn each_rule_has_a_number_of_its_own() {
    let numbers: std::collections::BTreeSet<u8> = SpamRule::ALL.into_iter().map(SpamRule::number).collect();
    assert_eq!(numbers, (1..=6).collect());
}
