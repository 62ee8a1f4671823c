use super::*;

fn event(bytes: usize) -> PartialEvent {
    PartialEvent { id: EventId::parse("$e").unwrap(), seq: RoomSeq(1), bytes, unknown: Vec::new() }
}

#[test]
fn parts_are_of_bounded_number_and_size() {
    let lengths = |events: Vec<PartialEvent>| split_parts(&events).iter().map(|part| part.len()).collect::<Vec<_>>();
    assert_eq!(lengths(Vec::new()), Vec::<usize>::new());
    assert_eq!(lengths(vec![event(10); 2 * PART_EVENTS + 1]), [PART_EVENTS, PART_EVENTS, 1]);
    assert_eq!(lengths(vec![event(PART_BYTES / 2); 5]), [2, 2, 1]);
    assert_eq!(lengths(vec![event(2 * PART_BYTES); 2]), [1, 1], "one that is too large is a part of its own");
}

#[tokio::test]
async fn a_room_has_one_task_which_looks_once_more_if_it_is_asked() {
    let (resyncs, room) = (Resyncs::default(), RoomNid(7));
    assert!(resyncs.claim(room));
    assert!(!resyncs.claim(room), "a task is at it");
    assert!(!resyncs.release(room), "it looks once more");
    assert!(resyncs.release(room));
    assert!(resyncs.claim(room), "a new one");
    assert!(!resyncs.claim(room));
    resyncs.asked_again(room).await;
    assert!(resyncs.release(room), "it has been told already");
}
