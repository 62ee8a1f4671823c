use rooms::{RoomNid, RoomSeq};
use spec::ids::ServerName;
use storage::StreamPos;

use super::{Stretch, Table, Turn};

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn table_with(names: &[&str]) -> Table {
    let mut table = Table::default();
    for text in names {
        table.open_room(&name(text), RoomNid(1), Stretch::new(RoomSeq(1), RoomSeq(2)));
        table.wake(&name(text));
    }
    table
}

#[test]
fn turns_go_round_and_only_so_many_at_a_time() {
    let mut table = table_with(&["a", "b", "c"]);
    assert_eq!(table.take_ready(2), Some(name("a")));
    assert_eq!(table.take_ready(2), Some(name("b")));
    assert_eq!(table.take_ready(2), None, "two at a time");
    table.wake(&name("a"));
    table.end_turn(&name("a"), Turn::Done);
    assert_eq!(table.take_ready(2), Some(name("c")), "who had a turn is behind those who wait");
    table.end_turn(&name("c"), Turn::Done);
    assert_eq!(table.take_ready(2), Some(name("a")));
}

#[test]
fn a_server_with_nothing_left_is_forgotten() {
    let mut table = table_with(&["a"]);
    table.take_ready(1);
    table.get(&name("a")).unwrap().rooms.clear();
    table.end_turn(&name("a"), Turn::Done);
    assert_eq!(table.len(), 0);
    assert_eq!(table.take_ready(1), None);
}

#[test]
fn a_server_that_failed_waits_for_its_time_or_its_return() {
    let mut table = table_with(&["a"]);
    table.take_ready(1);
    table.end_turn(&name("a"), Turn::BackOff(100));
    table.wake(&name("a"));
    assert_eq!(table.take_ready(1), None, "what is new does not end a back-off");
    assert_eq!(table.next_timer(), Some(100));
    table.expire(99);
    assert_eq!(table.take_ready(1), None);
    table.expire(100);
    assert_eq!(table.take_ready(1), Some(name("a")));
    table.end_turn(&name("a"), Turn::BackOff(200));
    table.resume(&name("a"));
    assert_eq!(table.take_ready(1), Some(name("a")), "it has returned");
    assert_eq!(table.next_timer(), None);
}

#[test]
fn what_is_told_once_is_dropped_for_a_server_that_failed() {
    let mut table = Table::default();
    table.destination(&name("a")).ephemeral.note_presence(rooms::UserNid(1));
    table.wake_at(&name("a"), 10);
    assert_eq!(table.take_ready(1), None);
    table.expire(10);
    assert_eq!(table.take_ready(1), Some(name("a")));
    table.end_turn(&name("a"), Turn::BackOff(50));
    assert_eq!(table.len(), 0, "there is nothing to wait for");
}

#[test]
fn what_gathers_goes_along_with_what_is_urgent() {
    let mut table = Table::default();
    table.destination(&name("a")).ephemeral.note_presence(rooms::UserNid(1));
    table.wake_at(&name("a"), 1000);
    table.open_room(&name("a"), RoomNid(1), Stretch::new(RoomSeq(1), RoomSeq(2)));
    table.wake(&name("a"));
    assert_eq!(table.take_ready(1), Some(name("a")));
    assert_eq!(table.next_timer(), None);
}

#[test]
fn a_row_that_is_going_needs_another_one() {
    let mut table = table_with(&["a"]);
    assert!(table.extend_room(&name("a"), RoomNid(1), RoomSeq(7)));
    assert_eq!(table.get(&name("a")).unwrap().rooms[&RoomNid(1)].stretch.latest, RoomSeq(7));
    assert!(!table.extend_room(&name("a"), RoomNid(2), RoomSeq(7)));
    assert!(!table.extend_room(&name("b"), RoomNid(1), RoomSeq(7)));
    table.get(&name("a")).unwrap().rooms.get_mut(&RoomNid(1)).unwrap().stretch.ending = true;
    assert!(!table.extend_room(&name("a"), RoomNid(1), RoomSeq(8)));
}

#[test]
fn a_stretch_reaches_back_and_never_forward() {
    let (mut table, name) = (Table::default(), ServerName::parse("there").unwrap());
    assert_eq!(table.reach_back(&name, StreamPos(5)), StreamPos(5));
    table.destination(&name).devices = Some(Stretch::new(StreamPos(7), StreamPos(9)));
    assert_eq!(table.reach_back(&name, StreamPos(5)), StreamPos(5));
    assert_eq!(table.reach_back(&name, StreamPos(8)), StreamPos(7));
    // A row that is being deleted goes only if it still says what it said: a new one has to say something else.
    table.destination(&name).devices = Some(Stretch { ending: true, ..Stretch::new(StreamPos(7), StreamPos(9)) });
    assert_eq!(table.reach_back(&name, StreamPos(7)), StreamPos(6));
    assert_eq!(table.reach_back(&name, StreamPos(8)), StreamPos(6));
    assert_eq!(table.reach_back(&name, StreamPos(3)), StreamPos(3));
}
