use std::{thread, time::Duration};

use super::*;
use crate::{
    UsersConfig,
    fixture::{Fixture, block_on},
};

fn with_secret() -> Fixture {
    Fixture::with_config(UsersConfig {
        registration_shared_secret: Some("shared".into()),
        registration_token: Some("configured".into()),
        ..UsersConfig::default()
    })
}

fn request(nonce: &str, secret: &str, admin: bool) -> SharedSecretRegistration {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    let rights = if admin { "admin" } else { "notadmin" };
    mac.update(format!("{nonce}\0alice\0wonderland\0{rights}").as_bytes());
    let mac = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    SharedSecretRegistration {
        nonce: nonce.into(),
        username: "alice".into(),
        password: "wonderland".into(),
        admin,
        user_type: None,
        mac,
    }
}

#[test]
fn whoever_knows_the_secret_may_register_an_admin_once_per_nonce() {
    let f = with_secret();
    let nonce = f.users.new_registration_nonce().unwrap();
    let account = f.run(f.users.register_with_shared_secret(&request(&nonce, "shared", true))).unwrap();
    assert!(account.is_admin && account.has_password);
    let again = f.run(f.users.register_with_shared_secret(&request(&nonce, "shared", true)));
    assert!(matches!(again, Err(UserError::InvalidParam(_))));
}

#[test]
fn a_wrong_secret_or_an_old_nonce_is_refused() {
    let f = with_secret();
    let nonce = f.users.new_registration_nonce().unwrap();
    let wrong = f.run(f.users.register_with_shared_secret(&request(&nonce, "guess", true)));
    assert!(matches!(wrong, Err(UserError::Forbidden(_))));
    let used_up = f.run(f.users.register_with_shared_secret(&request(&nonce, "shared", true)));
    assert!(matches!(used_up, Err(UserError::InvalidParam(_))));
    let nonce = f.users.new_registration_nonce().unwrap();
    f.clock.advance(Duration::from_secs(60));
    let late = f.run(f.users.register_with_shared_secret(&request(&nonce, "shared", true)));
    assert!(matches!(late, Err(UserError::InvalidParam(_))));
    let mut raised = request(&f.users.new_registration_nonce().unwrap(), "shared", false);
    raised.admin = true;
    assert!(matches!(f.run(f.users.register_with_shared_secret(&raised)), Err(UserError::Forbidden(_))));
    assert!(Fixture::new().users.new_registration_nonce().is_err());
}

#[test]
fn registration_tokens_end_by_use_and_time() {
    let f = with_secret();
    let valid = |token: &str| f.users.is_registration_token_valid(token).unwrap();
    assert!(valid("configured"));
    assert!(!valid("unknown") && !valid("") && !valid("with space"));
    let expires = 1_700_000_000_000 + 1_000;
    f.run(f.users.create_registration_token(Some("brief".into()), None, Some(expires))).unwrap();
    assert!(valid("brief"));
    f.clock.advance(Duration::from_secs(1));
    assert!(!valid("brief"));
    assert!(f.run(f.users.create_registration_token(Some("brief".into()), None, None)).is_err());
    assert_eq!(f.users.list_registration_tokens().unwrap().len(), 1);
    f.run(f.users.delete_registration_token("brief")).unwrap();
    assert!(f.users.list_registration_tokens().unwrap().is_empty());
}

#[test]
fn a_token_for_two_creates_two_accounts_however_many_race() {
    let f = with_secret();
    f.run(f.users.create_registration_token(Some("two".into()), Some(2), None)).unwrap();
    let created = thread::scope(|scope| {
        let threads: Vec<_> = ["a", "b", "c", "d", "e"]
            .into_iter()
            .map(|localpart| {
                let users = f.users.clone();
                scope.spawn(move || {
                    let new = NewAccount {
                        localpart,
                        password: None,
                        kind: AccountKind::User,
                        admin: AdminRights::Denied,
                        registration_token: Some("two"),
                    };
                    block_on(users.create_account(new)).is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum::<usize>()
    });
    assert_eq!(created, 2);
    assert_eq!(f.users.list_registration_tokens().unwrap()[0].uses, 2);
}

#[test]
fn nonces_are_bounded() {
    let nonces = Nonces::default();
    for number in 0..MAX_NONCES + 10 {
        nonces.remember(number.to_string(), 0);
    }
    assert!(!nonces.take("0", 1));
    assert!(nonces.take(&(MAX_NONCES + 9).to_string(), 1));
    assert!(nonces.0.lock().expiry.len() <= MAX_NONCES);
}

#[test]
fn a_token_can_be_changed_and_shows_who_is_under_way() {
    let f =
        Fixture::with_config(UsersConfig { registration: crate::RegistrationMode::Token, ..UsersConfig::default() });
    f.run(f.users.create_registration_token(Some("open".into()), Some(1), None)).unwrap();
    let auth = crate::AuthData {
        kind: Some("m.login.registration_token".into()),
        token: Some("open".into()),
        ..crate::AuthData::default()
    };
    assert_eq!(f.users.pending_registrations("open"), 0);
    let later = f.clock.now_ms() + 1;
    let changed = f.run(f.users.update_registration_token("open", Some(None), Some(Some(later)))).unwrap();
    assert_eq!((changed.uses_allowed, changed.expires_at_ms), (None, Some(later)));
    assert_eq!(f.users.registration_token("open").unwrap(), Some(changed));
    let past = f.run(f.users.update_registration_token("open", None, Some(Some(1))));
    assert!(matches!(past, Err(UserError::InvalidParam(_))));
    let unknown = f.run(f.users.update_registration_token("other", None, None));
    assert!(matches!(unknown, Err(UserError::NotFound(_))));
    assert_eq!(f.users.registration_token("no such token").unwrap(), None);
    let done = f.run(f.users.authenticate_interactively(crate::UiaPurpose::Register, Some(&auth))).unwrap();
    assert!(matches!(done, crate::UiaOutcome::Complete { .. }));
    assert_eq!(f.users.pending_registrations("open"), 0);
}
