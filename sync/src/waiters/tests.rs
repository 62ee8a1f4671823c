use rooms::RoomSeq;
use storage::StreamPos;

use super::*;

fn rows(rooms: &[(u64, Membership)]) -> Rows {
    let row = |membership| UserRoom { membership, seq: RoomSeq(1), pos: StreamPos(1), forgotten: false, left_at: None };
    Arc::new(rooms.iter().map(|(room, membership)| (RoomNid(*room), row(*membership))).collect())
}

/// Whether the registration was woken since it was last asked.
fn woken(registration: &Registration) -> bool {
    let mut future = std::pin::pin!(registration.waiter.wake.notified());
    future.as_mut().enable()
}

fn room(id: u64) -> Topic {
    Topic::new(TOPIC_ROOM, id)
}

#[test]
fn topics_wake_whom_they_concern() {
    let waiters = Arc::<Waiters>::default();
    let alice = waiters.register(UserNid(1), DeviceNid(11));
    let tablet = waiters.register(UserNid(1), DeviceNid(12));
    let bob = waiters.register(UserNid(2), DeviceNid(21));
    alice.index(&rows(&[(5, Membership::Join), (6, Membership::Invite)]));
    bob.index(&rows(&[(6, Membership::Join)]));
    let wake = |topic| waiters.wake(&[topic], 10);
    for (topic, expected) in [
        (room(5), [true, true, false]),
        (room(6), [false, false, true]),
        (Topic::new(TOPIC_EPHEMERAL, 5), [true, true, false]),
        (Topic::new(TOPIC_USER, 2), [false, false, true]),
        (Topic::new(TOPIC_MEMBERSHIP, 1), [true, true, false]),
        (Topic::new(TOPIC_DEVICE, 12), [false, true, false]),
        (room(7), [false, false, false]),
    ] {
        wake(topic);
        assert_eq!([woken(&alice), woken(&tablet), woken(&bob)], expected, "{topic:?}");
    }
    assert_eq!(waiters.wake(&[room(5)], 0).as_slice(), [RoomNid(5)], "too many: left to the caller");
    assert!(!woken(&alice));
    waiters.wake_rooms(&[RoomNid(5)]);
    assert!(woken(&alice));
}

#[test]
fn the_index_follows_memberships_and_forgets_the_idle() {
    let waiters = Arc::<Waiters>::default();
    let alice = waiters.register(UserNid(1), DeviceNid(11));
    alice.index(&rows(&[(5, Membership::Join)]));
    alice.index(&rows(&[(5, Membership::Leave), (6, Membership::Join)]));
    waiters.wake(&[room(5)], 10);
    assert!(!woken(&alice));
    waiters.wake(&[room(6)], 10);
    assert!(woken(&alice));
    drop(alice);
    assert!(waiters.is_empty());
    let again = waiters.register(UserNid(1), DeviceNid(11));
    waiters.wake(&[room(6)], 10);
    assert!(woken(&again), "still indexed");
    drop(again);
    for user in 100..100 + 2 * SPARE_ENTRIES as u64 {
        let passing = waiters.register(UserNid(user), DeviceNid(user));
        passing.index(&rows(&[(user, Membership::Join)]));
    }
    let state = waiters.state.lock();
    assert!(state.users.len() <= SPARE_ENTRIES + 2 && state.rooms.len() <= SPARE_ENTRIES + 2);
    assert_eq!(state.idle, state.users.len());
    assert!(state.devices.is_empty());
}
