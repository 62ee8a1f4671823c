use super::*;
use crate::{AccountKind, AdminRights, NewAccount};
use crate::{UsersConfig, fixture::Fixture};

fn fixture() -> Fixture {
    let server_notices = ServerNoticesConfig {
        localpart: Some("notices".into()),
        display_name: Some("The server".into()),
        ..ServerNoticesConfig::default()
    };
    Fixture::with_config(UsersConfig { server_notices, ..UsersConfig::default() })
}

fn say(body: &str) -> ServerNotice {
    let content = Map::from_iter([("msgtype".to_owned(), "m.text".into()), ("body".to_owned(), body.into())]);
    ServerNotice { kind: "m.room.message".into(), state_key: None, content }
}

#[test]
fn notices_at_once_make_one_room_and_invite_once() {
    let f = fixture();
    let alice = f.account("alice");
    f.run(async {
        let (a, b) = tokio::join!(
            f.users.send_server_notice(&alice.user_id, say("a"), None),
            f.users.send_server_notice(&alice.user_id, say("b"), None),
        );
        assert_ne!(a.unwrap(), b.unwrap());
    });
    let rooms = f.rooms.user_rooms(alice.user).unwrap();
    assert_eq!(rooms.len(), 1);
    let (room, row) = rooms.first_key_value().unwrap();
    assert_eq!(row.membership, Membership::Invite);
    assert!(f.users.tags(alice.user, *room).unwrap().contains_key(NOTICE_TAG));
    assert!(matches!(f.users.check_may_leave(alice.user, *room), Err(UserError::CannotLeaveNotices)));
}

#[test]
fn the_sender_is_nobody_who_could_log_in() {
    let f = fixture();
    let alice = f.account("alice");
    // Before the first notice, and after it.
    assert!(matches!(f.users.check_available("notices"), Err(UserError::Exclusive(_))));
    f.run(f.users.send_server_notice(&alice.user_id, say("a"), None)).unwrap();
    assert!(f.users.check_available("notices").is_err());
    let sender = f.users.account_by_id(&f.users.parse_local_user("notices").unwrap()).unwrap().unwrap();
    assert!(!sender.has_password && !sender.is_admin);
    assert_eq!(f.users.display_name(sender.user).unwrap().as_deref(), Some("The server"));
    let refused = f.run(f.users.send_server_notice(&sender.user_id, say("a"), None));
    assert!(matches!(refused, Err(UserError::InvalidParam(_))), "{refused:?}");
}

#[test]
fn an_account_with_a_password_sends_no_notices() {
    let f = fixture();
    let (alice, sender) = (f.account("alice"), f.users.parse_local_user("notices").unwrap());
    let new = NewAccount {
        localpart: "notices",
        password: Some("correct horse"),
        kind: AccountKind::User,
        admin: AdminRights::Denied,
        registration_token: None,
    };
    f.run(f.users.create_reserved_account(sender, new)).unwrap();
    let refused = f.run(f.users.send_server_notice(&alice.user_id, say("a"), None));
    assert!(matches!(refused, Err(UserError::Forbidden(_))), "{refused:?}");
}

#[test]
fn the_room_is_the_same_after_a_restart() {
    let f = fixture();
    let alice = f.account("alice");
    f.run(f.users.send_server_notice(&alice.user_id, say("a"), None)).unwrap();
    let users = f.reopen();
    f.run(users.send_server_notice(&alice.user_id, say("b"), None)).unwrap();
    assert_eq!(f.rooms.user_rooms(alice.user).unwrap().len(), 1);
}

#[test]
fn a_section_that_cannot_be_is_refused() {
    assert_eq!(ServerNoticesConfig::default().check(), Ok(()));
    let config = ServerNoticesConfig { localpart: Some("Not valid".into()), ..ServerNoticesConfig::default() };
    assert_eq!(config.check().unwrap_err().0, "server_notices.localpart");
    let config = ServerNoticesConfig { room_avatar_url: Some("https://x".into()), ..ServerNoticesConfig::default() };
    assert_eq!(config.check().unwrap_err().0, "server_notices.room_avatar_url");
}
