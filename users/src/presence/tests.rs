use std::time::Duration;

use super::*;
use crate::fixture::Fixture;

fn state(f: &Fixture, user: UserNid) -> (PresenceState, bool) {
    let presence = f.users.presence(user).unwrap();
    (presence.state, presence.currently_active)
}

fn pass(f: &Fixture, seconds: u64) {
    f.clock.advance(Duration::from_secs(seconds));
    f.users.expire_presence();
}

#[test]
fn a_syncing_user_becomes_idle_and_then_offline() {
    let f = Fixture::new();
    let user = UserNid(1);
    let sync = f.users.begin_sync(user, PresenceState::Online).unwrap();
    assert_eq!(state(&f, user), (PresenceState::Online, true));
    pass(&f, 61);
    assert_eq!(state(&f, user), (PresenceState::Online, false));
    pass(&f, 240);
    assert_eq!(state(&f, user), (PresenceState::Unavailable, false), "still syncing, but idle");
    f.users.record_activity(user);
    assert_eq!(state(&f, user), (PresenceState::Online, true));
    drop(sync);
    pass(&f, 29);
    assert_eq!(state(&f, user).0, PresenceState::Online);
    pass(&f, 2);
    assert_eq!(state(&f, user), (PresenceState::Offline, false));
}

#[test]
fn readers_see_each_changed_user_once() {
    let f = Fixture::new();
    let mut observer = f.users.observe_presence();
    let start = f.users.presence_counter();
    f.users.set_presence(UserNid(1), PresenceState::Online, Some("here")).unwrap();
    f.users.set_presence(UserNid(2), PresenceState::Online, None).unwrap();
    f.users.set_presence(UserNid(1), PresenceState::Unavailable, Some("gone")).unwrap();
    let (changes, counter) = f.users.presence_changes_since(start);
    assert_eq!(changes.iter().map(|presence| presence.user).collect::<Vec<_>>(), [UserNid(2), UserNid(1)]);
    assert_eq!(changes[1].status_msg.as_deref(), Some("gone"));
    assert_eq!(observer.try_recv().unwrap(), UserNid(1));
    f.users.record_activity(UserNid(2));
    assert!(f.users.presence_changes_since(counter).0.is_empty(), "activity while active is no news");
    assert_eq!(f.users.presence_changes_since(999).0.len(), 2, "a counter of another life starts over");
}

#[test]
fn an_invisible_sync_or_switched_off_presence_leaves_no_trace() {
    let f = Fixture::new();
    assert!(f.users.begin_sync(UserNid(1), PresenceState::Offline).is_none());
    assert!(f.users.presence(UserNid(1)).is_none());
    let off = Fixture::with_config(crate::UsersConfig {
        settings: crate::UsersSettings { presence: false, ..Default::default() },
        ..Default::default()
    });
    off.users.set_presence(UserNid(1), PresenceState::Online, None).unwrap();
    off.users.record_activity(UserNid(1));
    assert!(off.users.begin_sync(UserNid(1), PresenceState::Online).is_none());
    assert!(off.users.presence(UserNid(1)).is_none());
}

#[test]
fn remote_presence_ends_when_its_server_falls_silent() {
    let f = Fixture::new();
    let user = UserNid(5);
    f.users.record_remote_presence(Presence {
        user,
        state: PresenceState::Online,
        status_msg: None,
        last_active_ms: u64::MAX,
        currently_active: true,
    });
    assert_eq!(state(&f, user), (PresenceState::Online, true));
    assert!(f.users.presence(user).unwrap().last_active_ms < u64::MAX, "not in the future");
    pass(&f, 1_000);
    assert_eq!(state(&f, user).0, PresenceState::Online);
    pass(&f, 900);
    assert_eq!(state(&f, user).0, PresenceState::Offline);
}

#[test]
fn a_long_status_is_refused() {
    let f = Fixture::new();
    let long = "x".repeat(1_025);
    assert!(matches!(
        f.users.set_presence(UserNid(1), PresenceState::Online, Some(&long)),
        Err(UserError::TooLarge(_))
    ));
}
