use std::collections::BTreeMap;
use std::sync::Arc;

use rooms::RoomNid;
use spec::ids::ServerName;
use storage::{Batch, Read, StreamPos, Value, ValueBuf};

use super::{MAX_PER_ROOM, MAX_PER_SERVER, MEMORY_BYTES, Next, STAGED, Staged, StagedRow, Staging};
use crate::FederationConfig;
use crate::inbound::fixture::Here;

const ROOM: RoomNid = RoomNid(7);

fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

fn staged(place: u32, bytes: usize) -> Staged {
    Staged { key: (ROOM, StreamPos(1), place), origin: server("there.test"), pdu: None, bytes }
}

fn places(next: Next) -> Vec<u32> {
    match next {
        Next::Work(group) => group.into_iter().map(|event| event.key.2).collect(),
        Next::ReadDisk(_) | Next::Nothing => Vec::new(),
    }
}

#[test]
fn a_row_is_read_as_it_was_written() {
    let row = StagedRow { origin: server("there.test:8448"), json: Arc::from(&b"{\"a\":1}"[..]) };
    let mut out = ValueBuf::new();
    row.encode(&mut out);
    assert_eq!(StagedRow::decode(out.as_slice()).unwrap(), row);
    for damaged in [&b""[..], &[1], &[2, 1, b'a'], &[1, 200, b'a'], &[1, 2, b'!', b'!', b'{']] {
        assert!(StagedRow::decode(damaged).is_err(), "{damaged:?}");
    }
}

#[test]
fn a_room_has_one_worker_while_there_is_work() {
    let staging = Staging::new();
    assert!(staging.push(ROOM, vec![staged(0, 10)]));
    assert!(!staging.push(ROOM, vec![staged(1, 10)]));
    assert_eq!(places(staging.take(ROOM)), [0, 1]);
    assert!(!staging.push(ROOM, vec![staged(2, 10)]), "the worker has not ended yet");
    assert_eq!(places(staging.take(ROOM)), [2]);
    assert!(matches!(staging.take(ROOM), Next::Nothing));
    assert!(staging.queues.lock().rooms.is_empty());
    assert!(staging.push(ROOM, vec![staged(3, 10)]));
}

#[test]
fn groups_are_bounded_in_number_and_bytes() {
    let staging = Staging::new();
    staging.push(ROOM, (0..150).map(|place| staged(place, 10)).collect());
    assert_eq!(places(staging.take(ROOM)).len(), 100);
    assert_eq!(places(staging.take(ROOM)).len(), 50);
    staging.push(ROOM, (0..3).map(|place| staged(place, 1_500_000)).collect());
    assert_eq!(places(staging.take(ROOM)), [0]);
    assert_eq!(places(staging.take(ROOM)), [1]);
}

#[test]
fn what_does_not_fit_into_memory_is_read_from_the_disk_in_its_order() {
    let staging = Staging::new();
    staging.push(ROOM, vec![staged(0, MEMORY_BYTES), staged(1, 1)]);
    // There is room again, but the older event on the disk comes first.
    assert_eq!(places(staging.take(ROOM)), [0]);
    staging.push(ROOM, vec![staged(2, 1)]);
    let Next::ReadDisk(seen) = staging.take(ROOM) else { panic!("nothing on the disk") };
    // One more while the disk is read: its end was not seen.
    staging.push(ROOM, vec![staged(3, 1)]);
    staging.finish_disk(ROOM, seen);
    let Next::ReadDisk(seen) = staging.take(ROOM) else { panic!("nothing on the disk") };
    staging.finish_disk(ROOM, seen);
    assert!(matches!(staging.take(ROOM), Next::Nothing));
}

#[test]
fn what_waits_is_bounded_for_each_server() {
    let staging = Staging::new();
    let (one, other) = (server("one.test"), server("other.test"));
    let rooms = |room: u64, count: usize| BTreeMap::from([(RoomNid(room), count)]);
    staging.reserve(&one, &rooms(1, MAX_PER_ROOM)).unwrap();
    assert!(staging.reserve(&one, &rooms(1, 1)).is_err());
    // Neither in that room nor elsewhere does it stand in another server's way.
    staging.reserve(&other, &rooms(1, MAX_PER_ROOM)).unwrap();
    for room in 2..=(MAX_PER_SERVER / MAX_PER_ROOM) as u64 {
        staging.reserve(&one, &rooms(room, MAX_PER_ROOM)).unwrap();
    }
    assert!(staging.reserve(&one, &rooms(99, 1)).is_err());
    assert_eq!(staging.waiting(), MAX_PER_SERVER + MAX_PER_ROOM);
    staging.release(RoomNid(1), [&one, &one]);
    staging.reserve(&one, &rooms(1, 2)).unwrap();
    assert!(staging.reserve(&one, &rooms(1, 1)).is_err());
    staging.release(RoomNid(1), std::iter::repeat_n(&one, MAX_PER_ROOM));
    staging.release(RoomNid(1), std::iter::repeat_n(&other, MAX_PER_ROOM));
    assert!(!staging.queues.lock().rooms.contains_key(&RoomNid(1)), "an idle room leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_before_the_start_is_worked_on() {
    let (disk, room, join, messages);
    {
        let here = Here::new();
        (_, room) = here.room().await;
        join = here.join_of_bob(room);
        messages = here.messages(room, &join, 150);
        // As if the server had ended right after it acknowledged them.
        let mut batch = Batch::new();
        for (place, event) in (0_u32..).zip(messages.iter().rev().chain([&join])) {
            let row = StagedRow { origin: here.peer.name.clone(), json: event.json.clone() };
            batch.put(&STAGED, &(room, StreamPos::PENDING, place), &row);
        }
        // A row that is no event goes away and stops nothing.
        let row = StagedRow { origin: here.peer.name.clone(), json: Arc::from(&b"{}"[..]) };
        batch.put(&STAGED, &(room, StreamPos::PENDING, 1000), &row);
        here.federation.store.commit(batch).await.unwrap();
        here.federation.store.close().unwrap();
        disk = here.disk.clone();
    }
    let here = Here::on(disk, FederationConfig::default());
    crate::inbound::resume(&here.federation);
    assert_eq!(here.federation.staged_events(), 152);
    here.settle().await;
    assert!(here.has(room, &join));
    assert!(messages.iter().all(|message| here.has(room, message)));
    assert!(here.federation.store.scan(&STAGED, &()).is_empty().unwrap());
    // The first hundred events wait for the others; nothing is fetched that is here.
    assert_eq!(here.peer.take_asked(), Vec::<String>::new());
    assert_eq!(here.federation.inbound.counters.dropped.get(), 0);
}
