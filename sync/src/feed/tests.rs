use rooms::RoomSeq;
use storage::{Backend, Options};

use super::*;

fn rows(rooms: impl IntoIterator<Item = u64>) -> BTreeMap<RoomNid, UserRoom> {
    let row =
        UserRoom { membership: Membership::Join, seq: RoomSeq(1), pos: StreamPos(1), forgotten: false, left_at: None };
    rooms.into_iter().map(|room| (RoomNid(room), row)).collect()
}

fn feed(capacity: usize) -> Arc<Feed> {
    let store = Store::open(Options::new(Backend::Memory, Vec::new())).unwrap();
    let feed = Feed::follow(&store, capacity);
    feed.log.write().floor = StreamPos::ZERO;
    feed
}

fn commit(feed: &Feed, pos: u64, topics: &[Topic]) {
    feed.record(&[Committed { pos: StreamPos(pos), topics: topics.iter().copied().collect() }]);
}

fn room(id: u64) -> Topic {
    Topic::new(TOPIC_ROOM, id)
}

#[test]
fn changes_are_found_by_walking_and_by_looking_up() {
    let feed = feed(0);
    let user = Topic::new(TOPIC_MEMBERSHIP, 9);
    commit(&feed, 1, &[room(1)]);
    commit(&feed, 2, &[room(2), user]);
    commit(&feed, 3, &[Topic::new(TOPIC_EPHEMERAL, 1), room(7)]);
    commit(&feed, 4, &[room(2)]);
    let changes = feed.room_changes(StreamPos(1), &rows(1..=3));
    let expected = RoomChanges {
        timelines: vec![RoomNid(2)],
        receipts: vec![RoomNid(1)],
        members: Some(vec![(RoomNid(2), UserNid(9))]),
    };
    assert_eq!(changes, expected);
    assert_eq!(feed.room_changes(StreamPos(4), &rows(1..=3)).timelines, []);
    // Much happens elsewhere: the rooms are looked up.
    for pos in 5..500 {
        commit(&feed, pos, &[room(100 + pos)]);
    }
    let changes = feed.room_changes(StreamPos(1), &rows(1..=3));
    assert_eq!(changes, RoomChanges { members: None, ..expected });
}

#[test]
fn what_was_forgotten_may_have_changed() {
    let feed = feed(1024);
    commit(&feed, 1, &[room(1)]);
    for pos in 2..2000 {
        commit(&feed, pos, &[room(5)]);
    }
    assert!(feed.may_have_changed(room(2), StreamPos(1)), "too long ago to know");
    assert!(!feed.may_have_changed(room(1), StreamPos(1500)));
    assert!(feed.may_have_changed(room(5), StreamPos(1500)));
    assert!(!feed.may_have_changed(room(5), StreamPos(1999)));
    assert_eq!(feed.room_changes(StreamPos(1), &rows([1, 2])).timelines, [RoomNid(1), RoomNid(2)]);
    assert!(feed.log.read().last.len() <= 2, "forgotten topics take no memory");
}
