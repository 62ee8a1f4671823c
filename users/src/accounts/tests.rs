use std::thread;

use super::*;
use crate::{
    DeviceLogin, UsersConfig,
    fixture::{Fixture, block_on},
};

fn new_account(localpart: &str) -> NewAccount<'_> {
    NewAccount {
        localpart,
        password: None,
        kind: AccountKind::User,
        admin: AdminRights::IfFirst,
        registration_token: None,
    }
}

#[test]
fn the_first_account_is_admin_and_only_that_one() {
    let f = Fixture::new();
    assert!(f.run(f.users.create_account(new_account("alice"))).unwrap().is_admin);
    assert!(!f.run(f.users.create_account(new_account("bob"))).unwrap().is_admin);
}

#[test]
fn a_guest_or_bot_does_not_take_the_first_admins_place() {
    let f = Fixture::with_config(UsersConfig {
        settings: crate::UsersSettings { allow_guests: true, ..Default::default() },
        ..Default::default()
    });
    f.run(f.users.create_guest()).unwrap();
    assert!(f.run(f.users.create_account(new_account("alice"))).unwrap().is_admin);
}

#[test]
fn concurrent_registrations_of_one_name_give_one_account_and_of_many_one_admin() {
    let f = Fixture::new();
    let names = ["same", "same", "same", "same", "a", "b", "c", "d"];
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .map(|name| {
                let users = f.users.clone();
                scope.spawn(move || block_on(users.create_account(new_account(name))))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let created: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(created.len(), 5);
    assert_eq!(created.iter().filter(|account| account.is_admin).count(), 1);
    let refused = results.iter().filter(|result| matches!(result, Err(UserError::UserInUse))).count();
    assert_eq!(refused, 3);
}

#[test]
fn localparts_follow_the_strict_grammar() {
    let f = Fixture::new();
    for bad in ["", "Alice", "al ice", "älice", "@alice", "alice:example.org"] {
        assert!(matches!(f.users.check_available(bad), Err(UserError::InvalidUsername(_))), "{bad}");
    }
    let long = "a".repeat(300);
    assert!(matches!(f.users.check_available(&long), Err(UserError::InvalidUsername(_))));
    assert!(f.users.check_available("a-z_0.9=/+").is_ok());
}

#[test]
fn passwords_are_checked_changed_and_never_accepted_for_others() {
    let f = Fixture::new();
    let new = NewAccount { password: Some("correct horse"), ..new_account("alice") };
    let alice = f.run(f.users.create_account(new)).unwrap();
    assert!(alice.has_password);
    assert!(f.run(f.users.check_password(&alice.user_id, "correct horse")).is_ok());
    let wrong = f.run(f.users.check_password(&alice.user_id, "wrong horse"));
    assert!(matches!(wrong, Err(UserError::Forbidden(_))));
    f.run(f.users.set_password(alice.user, "battery staple")).unwrap();
    assert!(f.run(f.users.check_password(&alice.user_id, "correct horse")).is_err());
    assert!(f.run(f.users.check_password(&alice.user_id, "battery staple")).is_ok());
    let nobody = f.users.parse_local_user("nobody").unwrap();
    assert!(matches!(f.run(f.users.check_password(&nobody, "battery staple")), Err(UserError::Forbidden(_))));
    let weak = f.run(f.users.set_password(alice.user, "short"));
    assert!(matches!(weak, Err(UserError::WeakPassword(_))));
}

#[test]
fn an_account_without_password_accepts_none() {
    let f = Fixture::new();
    let alice = f.account("alice");
    assert!(matches!(f.run(f.users.check_password(&alice.user_id, "")), Err(UserError::Forbidden(_))));
}

#[test]
fn a_deactivated_account_is_closed_and_its_name_stays_taken() {
    let f = Fixture::new();
    let alice = f.account("alice");
    let login = f.run(f.users.start_session(alice.user, DeviceLogin::default())).unwrap();
    f.run(f.users.set_profile_field(alice.user, "displayname", Some("Alice".into()))).unwrap();
    f.run(f.users.deactivate(alice.user)).unwrap();
    let refused = f.run(f.users.authenticate(&login.tokens.access_token));
    assert!(matches!(refused, Err(UserError::UnknownToken { .. })));
    assert!(matches!(f.run(f.users.create_account(new_account("alice"))), Err(UserError::UserInUse)));
    assert!(f.users.profile(alice.user).unwrap().is_empty());
    assert!(f.users.active_user(&alice.user_id).unwrap().is_none());
    let again = f.run(f.users.start_session(alice.user, DeviceLogin::default()));
    assert!(matches!(again, Err(UserError::UserDeactivated)));
    f.run(f.users.deactivate(alice.user)).unwrap();
}

#[test]
fn locking_reaches_open_sessions_at_once() {
    let f = Fixture::new();
    let alice = f.account("alice");
    let login = f.run(f.users.start_session(alice.user, DeviceLogin::default())).unwrap();
    let token = login.tokens.access_token.as_str();
    f.run(f.users.authenticate(token)).unwrap();
    let lock = |locked| AccountFlags { locked: Some(locked), ..AccountFlags::default() };
    f.run(f.users.set_account_flags(alice.user, lock(true))).unwrap();
    assert!(matches!(f.run(f.users.authenticate(token)), Err(UserError::UserLocked)));
    assert!(f.run(f.users.authenticate_even_locked(token)).is_ok());
    f.run(f.users.set_account_flags(alice.user, lock(false))).unwrap();
    assert!(f.run(f.users.authenticate(token)).is_ok());
    let suspend = AccountFlags { suspended: Some(true), ..AccountFlags::default() };
    f.run(f.users.set_account_flags(alice.user, suspend)).unwrap();
    let session = f.run(f.users.authenticate(token)).unwrap();
    assert!(matches!(session.check_may_write(), Err(UserError::UserSuspended)));
}

#[test]
fn accounts_are_listed_in_pages() {
    let f = Fixture::new();
    let made: Vec<_> = ["a", "b", "c"].iter().map(|name| f.account(name).user).collect();
    let first = f.users.list_accounts(None, 2).unwrap();
    assert_eq!(first.iter().map(|account| account.user).collect::<Vec<_>>(), made[..2]);
    let rest = f.users.list_accounts(Some(made[1]), 2).unwrap();
    assert_eq!(rest.iter().map(|account| account.user).collect::<Vec<_>>(), made[2..]);
}
