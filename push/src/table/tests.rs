use rooms::{RoomSeq, UserNid};
use storage::StreamPos;

use super::*;

fn pusher(name: &str) -> PusherKey {
    PusherKey { user: UserNid(1), app_id: "app".into(), pushkey: name.into() }
}

fn place(number: u64) -> Place {
    (StreamPos(number), RoomSeq(1))
}

#[test]
fn a_pusher_has_one_turn_at_a_time_and_is_forgotten_when_nothing_waits() {
    let mut table = Table::default();
    let a = pusher("a");
    table.add(&a, place(1));
    table.add(&a, place(2));
    assert_eq!(table.take_ready(4), Some(a.clone()));
    assert_eq!(table.take_ready(4), None);
    table.remove(&a, place(1));
    table.end_turn(&a, Turn::Done);
    assert_eq!(table.take_ready(4), Some(a.clone()), "something is left");
    table.remove(&a, place(2));
    table.end_turn(&a, Turn::Done);
    assert!(table.is_empty());
    assert_eq!(table.take_ready(4), None);
}

#[test]
fn what_failed_waits_for_its_time_whatever_comes() {
    let mut table = Table::default();
    let a = pusher("a");
    table.add(&a, place(1));
    table.take_ready(1).unwrap();
    table.end_turn(&a, Turn::Failed { now_ms: 7, until_ms: 50 });
    table.add(&a, place(2));
    table.expire(49);
    assert_eq!(table.take_ready(1), None);
    assert_eq!((table.next_timer(), table.failures(&a), table.failing_since(&a)), (Some(50), 1, Some(7)));
    table.expire(50);
    assert_eq!(table.take_ready(1), Some(a));
    assert_eq!(table.next_timer(), None);
}

#[test]
fn those_that_failed_get_half_of_the_places() {
    let mut table = Table::default();
    let dead: Vec<_> = (0..10).map(|number| pusher(&format!("dead{number}"))).collect();
    for key in &dead {
        table.add(key, place(1));
        table.take_ready(100).unwrap();
        table.end_turn(key, Turn::Failed { now_ms: 0, until_ms: 1 });
    }
    table.expire(1);
    assert_eq!(std::iter::from_fn(|| table.take_ready(4)).count(), 2);
    let living = pusher("living");
    table.add(&living, place(2));
    assert_eq!(table.take_ready(4), Some(living));
}

#[test]
fn a_badge_waits_for_more_to_come_and_a_notification_does_not() {
    let mut table = Table::default();
    let a = pusher("a");
    table.add_badge(&a, 10);
    table.add_badge(&a, 20);
    assert_eq!((table.take_ready(1), table.next_timer()), (None, Some(10)));
    table.add(&a, place(1));
    assert_eq!(table.take_ready(1), Some(a.clone()));
    assert_eq!(table.next_timer(), None);
    table.remove(&a, place(1));
    table.settle_badge(&a, table.badge_mark(&a));
    table.end_turn(&a, Turn::Done);
    assert!(table.is_empty());
}

#[test]
fn of_a_long_queue_the_oldest_are_named() {
    let mut table = Table::default();
    let a = pusher("a");
    for number in [2, 1, 3, 3] {
        table.add(&a, place(number));
    }
    assert_eq!(table.overflow(&a, 1, 4), []);
    assert_eq!(table.overflow(&a, 3, 4), [place(1), place(2)]);
    assert_eq!(table.overflow(&pusher("b"), 9, 4), []);
}

#[test]
fn a_badge_that_becomes_due_again_is_not_settled() {
    let mut table = Table::default();
    let a = pusher("a");
    table.add_badge(&a, 1);
    table.expire(1);
    table.take_ready(1).unwrap();
    let mark = table.badge_mark(&a);
    table.add_badge(&a, 2);
    table.settle_badge(&a, mark);
    table.end_turn(&a, Turn::Done);
    assert_eq!(table.take_ready(1), Some(a));
}
