use super::*;

fn event(seq: i64, after: &[i64]) -> (PartialEvent, Vec<RoomSeq>) {
    let id = EventId::parse(format!("$event{seq}")).unwrap();
    let event = PartialEvent { id, seq: RoomSeq(seq), bytes: 0, unknown: Vec::new() };
    (event, after.iter().copied().map(RoomSeq).collect())
}

fn order(events: Vec<(PartialEvent, Vec<RoomSeq>)>) -> Vec<i64> {
    in_order(events).into_iter().map(|event| event.seq.0).collect()
}

#[test]
fn events_come_after_those_that_they_follow_and_otherwise_as_they_came() {
    assert_eq!(order(Vec::new()), Vec::<i64>::new());
    assert_eq!(order(vec![event(1, &[]), event(2, &[1]), event(3, &[1])]), [1, 2, 3]);
    // The child came first; what it follows is cited twice, as previous and as auth event.
    assert_eq!(order(vec![event(1, &[]), event(2, &[4, 4]), event(3, &[1]), event(4, &[1])]), [1, 3, 4, 2]);
    let chain = (1..100).map(|seq| event(seq, &[seq + 1])).chain([event(100, &[])]).collect();
    assert_eq!(order(chain), (1..=100).rev().collect::<Vec<_>>());
}

#[test]
fn no_event_is_left_out_whatever_it_follows() {
    assert_eq!(order(vec![event(1, &[2]), event(2, &[1]), event(3, &[9])]), [1, 2, 3]);
}
