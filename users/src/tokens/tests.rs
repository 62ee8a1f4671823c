use std::time::Duration;

use super::*;
use crate::{DeviceLogin, fixture::Fixture};

fn refreshable(f: &Fixture) -> IssuedTokens {
    let alice = f.account("alice");
    let login = DeviceLogin { device_id: Some("D"), refreshable: true, ..DeviceLogin::default() };
    f.run(f.users.start_session(alice.user, login)).unwrap().tokens
}

fn is_valid(f: &Fixture, token: &str) -> bool {
    f.run(f.users.authenticate(token)).is_ok()
}

fn refresh_token(tokens: &IssuedTokens) -> &str {
    tokens.refresh_token.as_deref().unwrap()
}

#[test]
fn a_token_names_its_session_also_after_a_restart() {
    let f = Fixture::new();
    let alice = f.account("alice");
    let login = DeviceLogin { device_id: Some("D"), ..DeviceLogin::default() };
    let token = f.run(f.users.start_session(alice.user, login)).unwrap().tokens.access_token;
    let session = f.run(f.users.authenticate(&token)).unwrap();
    assert_eq!((session.user, &*session.device_id), (alice.user, "D"));
    assert!(token.starts_with("cdt_"));
    assert!(f.run(f.reopen().authenticate(&token)).is_ok());
    assert!(matches!(f.run(f.users.authenticate("cdt_other")), Err(UserError::UnknownToken { soft_logout: false })));
}

#[test]
fn the_second_look_at_a_token_reads_nothing() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    let alice = session.user;
    let token = f.run(f.users.start_session(alice, DeviceLogin::default())).unwrap().tokens.access_token;
    let first = f.run(f.users.authenticate(&token)).unwrap();
    let second = f.run(f.users.authenticate(&token)).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn logging_in_again_on_a_device_ends_its_old_token() {
    let f = Fixture::new();
    let alice = f.account("alice");
    let login = DeviceLogin { device_id: Some("D"), ..DeviceLogin::default() };
    let old = f.run(f.users.start_session(alice.user, login)).unwrap().tokens.access_token;
    assert!(is_valid(&f, &old));
    let new = f.run(f.users.start_session(alice.user, login)).unwrap().tokens.access_token;
    assert!(!is_valid(&f, &old));
    assert!(is_valid(&f, &new));
    assert_eq!(f.users.devices(alice.user).unwrap().len(), 1);
}

#[test]
fn an_expired_token_is_a_soft_logout() {
    let f = Fixture::new();
    let tokens = refreshable(&f);
    assert_eq!(tokens.expires_in_ms, Some(3_600_000));
    assert!(is_valid(&f, &tokens.access_token));
    f.clock.advance(Duration::from_secs(3_600));
    let refused = f.run(f.users.authenticate(&tokens.access_token));
    assert!(matches!(refused, Err(UserError::UnknownToken { soft_logout: true })));
    let fresh = f.run(f.users.refresh(refresh_token(&tokens))).unwrap();
    assert!(is_valid(&f, &fresh.access_token));
}

#[test]
fn an_old_refresh_token_lives_until_a_new_token_is_used() {
    let f = Fixture::new();
    let first = refreshable(&f);
    let lost = f.run(f.users.refresh(refresh_token(&first))).unwrap();
    let second = f.run(f.users.refresh(refresh_token(&first))).unwrap();
    assert!(!is_valid(&f, &lost.access_token), "the pair that was never used ends with the next one");
    assert!(is_valid(&f, &first.access_token));
    assert!(is_valid(&f, &second.access_token));
    assert!(!is_valid(&f, &first.access_token), "the first use ends the old pair");
    assert!(f.run(f.users.refresh(refresh_token(&first))).is_err());
    let third = f.run(f.users.refresh(refresh_token(&second))).unwrap();
    assert!(is_valid(&f, &third.access_token));
}

#[test]
fn using_the_new_refresh_token_ends_the_old_one_too() {
    let f = Fixture::new();
    let first = refreshable(&f);
    let second = f.run(f.users.refresh(refresh_token(&first))).unwrap();
    let third = f.run(f.users.refresh(refresh_token(&second))).unwrap();
    assert!(f.run(f.users.refresh(refresh_token(&first))).is_err());
    assert!(!is_valid(&f, &first.access_token));
    assert!(is_valid(&f, &third.access_token));
}

#[test]
fn an_expired_or_unknown_refresh_token_gives_nothing() {
    let config = crate::UsersConfig {
        settings: crate::UsersSettings { refresh_token_lifetime_seconds: 60, ..Default::default() },
        ..Default::default()
    };
    let f = Fixture::with_config(config);
    let tokens = refreshable(&f);
    f.clock.advance(Duration::from_secs(61));
    assert!(f.run(f.users.refresh(refresh_token(&tokens))).is_err());
    assert!(f.run(f.users.refresh("cdr_other")).is_err());
    assert!(f.run(f.users.refresh(&tokens.access_token)).is_err());
}

#[test]
fn a_logout_whose_request_was_dropped_ends_the_token_all_the_same() {
    let f = Fixture::new();
    let alice = f.account("alice").user;
    for _ in 0..50 {
        let login = DeviceLogin { device_id: Some("D"), ..DeviceLogin::default() };
        let token = f.run(f.users.start_session(alice, login)).unwrap().tokens.access_token;
        assert!(is_valid(&f, &token));
        {
            let mut logout = std::pin::pin!(f.users.delete_device(alice, "D"));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            // Submits the commit; whether it is done by then or not, nobody waits for it.
            let _dropped_here = logout.as_mut().poll(&mut context);
        }
        f.run(f.users.create_openid_token(alice)).unwrap();
        assert!(!is_valid(&f, &token), "a later commit is visible, so the logout is");
        f.run(f.users.delete_device(alice, "D")).unwrap();
    }
}

#[test]
fn nobody_gets_in_after_a_logout_however_many_are_reading() {
    let f = Fixture::new();
    let alice = f.account("alice").user;
    for _ in 0..30 {
        let token = f.run(f.users.start_session(alice, DeviceLogin::default())).unwrap();
        let (device_id, token) = (token.device_id, token.tokens.access_token);
        let done = std::sync::atomic::AtomicBool::new(false);
        let read = || crate::fixture::block_on(f.users.authenticate(&token)).is_ok();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        read();
                    }
                });
            }
            crate::fixture::block_on(f.users.delete_device(alice, &device_id)).unwrap();
            let refused = !read();
            done.store(true, Ordering::SeqCst);
            assert!(refused);
        });
        assert!(!read());
        assert!(f.users.inner.sessions.in_doubt.lock().is_empty());
    }
}

#[test]
fn nothing_that_comes_while_a_device_is_deleted_outlives_it() {
    let f = Fixture::new();
    let alice = f.account("alice").user;
    let refreshable = || DeviceLogin { device_id: Some("D"), refreshable: true, ..DeviceLogin::default() };
    for _ in 0..100 {
        let session = f.run(f.users.start_session(alice, refreshable())).unwrap();
        let refresh_token = session.tokens.refresh_token.unwrap();
        let refreshed = std::thread::scope(|scope| {
            let refreshing = scope.spawn(|| crate::fixture::block_on(f.users.refresh(&refresh_token)));
            crate::fixture::block_on(f.users.delete_device(alice, "D")).unwrap();
            refreshing.join().unwrap()
        });
        if let Ok(tokens) = refreshed {
            assert!(!is_valid(&f, &tokens.access_token), "logged out");
        }
        f.run(f.users.start_session(alice, refreshable())).unwrap();
        let (users, login) = (&f.users, refreshable());
        let again = std::thread::scope(|scope| {
            let again = scope.spawn(move || crate::fixture::block_on(users.start_session(alice, login)).unwrap());
            crate::fixture::block_on(f.users.delete_device(alice, "D")).unwrap();
            again.join().unwrap()
        });
        let is_there = f.users.device(alice, "D").unwrap().is_some();
        assert_eq!(is_valid(&f, &again.tokens.access_token), is_there, "a login is before the logout or after it");
        assert_eq!(crate::fsck::check(&f.store).unwrap().problems, []);
    }
}
