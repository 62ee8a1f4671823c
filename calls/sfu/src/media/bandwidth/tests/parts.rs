//! The parts by themselves.
use super::super::{
    Micros,
    acknowledged::Acknowledged,
    control::Control,
    group::{Arrival, Group},
    history::{Fate, History, Sent},
    loss::Loss,
    probing::{Probing, Room},
};

fn sent(at: Micros) -> Sent {
    Sent { at, bytes: 1_000, probe: None, fate: Fate::Waiting }
}

#[test]
fn the_history_forgets_what_is_old_and_what_is_out_of_turn() {
    let mut history = History::default();
    for number in 100..10_100 {
        history.push(number, sent(0));
    }
    assert_eq!(history.len(), 4_096);
    assert!(history.report(100, true).is_none() && history.report(10_100, true).is_none());
    assert!(history.report(10_099, false).is_some(), "lost");
    assert!(history.report(10_099, false).is_none(), "lost, as known");
    assert_eq!(history.report(10_099, true).unwrap().fate, Fate::Lost, "came after all");
    assert!(history.report(10_099, true).is_none() && history.report(10_099, false).is_none());
    history.push(5, sent(0));
    assert_eq!(history.len(), 1);
    assert!(history.report(5, true).is_some());
}

#[test]
fn the_confirmed_rate_survives_jumps_of_the_clock() {
    let mut acknowledged = Acknowledged::new();
    assert_eq!(acknowledged.rate(), None);
    for jump in [0, 3_600_000_000, -7_200_000_000, i64::MAX / 4, 0] {
        for step in 0..100 {
            acknowledged.note(jump + step * 10_000, 1_250);
        }
        let rate = acknowledged.rate().unwrap();
        assert!((rate - 1e6).abs() < 1e4, "{rate}");
    }
}

#[test]
fn losses_count_when_they_are_more_than_chance() {
    let judge = |lost: u32, all: u32| {
        let mut loss = Loss::default();
        assert_eq!(loss.judge(0), None);
        (0..all).for_each(|number| loss.note(number < lost));
        loss.judge(250_000)
    };
    assert_eq!(judge(10, 15), None, "too few");
    assert_eq!(judge(5, 40), None, "mere chance");
    assert_eq!(judge(20, 40), Some(0.5));
    assert_eq!(judge(0, 0), None);
}

#[test]
fn what_was_held_up_together_is_one_group() {
    let arrival = |sent, came| Arrival { sent, came, bytes: 1_000, probe: false };
    let mut group = Group::new(arrival(0, 50_000));
    assert!(group.takes(arrival(4_000, 90_000)), "sent together");
    assert!(group.takes(arrival(20_000, 51_000)), "came together");
    assert!(!group.takes(arrival(20_000, 71_000)), "as late as the first");
    assert!(!group.takes(arrival(20_000, 60_000)), "came by itself");
    group.add(arrival(20_000, 51_000));
    assert_eq!(group.delay, 31_000);
}

#[test]
fn a_rise_needs_evidence_and_a_fall_never_raises() {
    let mut control = Control::new(1_000_000);
    control.pass(true, Some(1e6), 100_000, 0);
    control.pass(true, Some(1e6), 100_000, 1_000_000);
    assert!((control.value() - 1.08e6).abs() < 1e3, "eight percent within a second");
    control.pass(true, Some(500e3), 100_000, 2_000_000);
    assert!((control.value() - 1.08e6).abs() < 1e3, "not borne out");
    control.fall_to(5e6, 30.0, 2_000_000);
    assert!((control.value() - 1.08e6).abs() < 1e3, "more than thought");
    control.fall_to(800e3, 30.0, 2_000_000);
    assert!((control.value() - 680e3).abs() < 1e3);
    control.raise_to(100e3);
    assert!((control.value() - 680e3).abs() < 1e3);
    control.pass(false, Some(2e6), 100_000, 3_000_000);
    assert!((control.value() - 680e3).abs() < 1e3, "into a queue");
    control.pass(true, Some(2e6), 100_000, 3_000_000);
    assert!((control.value() - 1.8e6).abs() < 1e3, "it got through");
}

/// Sends a probe of which so much comes, so many times slower than it left, and gives the rate measured.
fn probe(probing: &mut Probing, start: Micros, received: u32, slower: i64) -> Option<f64> {
    let room = Room { value: 1e6, wish: 6e6, fell: None };
    let burst = probing.next(&room, start).unwrap();
    assert!(burst.rate == 2_000_000 && burst.bytes >= 5_000);
    assert_eq!(probing.next(&room, start), None, "one at a time");
    let count = (burst.bytes as u32).div_ceil(1_000);
    for number in 0..count {
        probing.note_sent(burst.id, u64::from(number), 1_000, start + i64::from(number) * 4_000);
    }
    for number in 0..count {
        assert_eq!(probing.judge(0, 1e6, 50_000, start + 50_000), None, "its end is not reported");
        let came = 7_000_000 + i64::from(number) * 4_000 * slower;
        probing.note_fate(burst.id, &sent(start), (number < received).then_some(came));
    }
    probing.judge(u64::from(count), 1e6, 50_000, start + 100_000)
}

#[test]
fn probes_measure_and_come_less_often_if_they_fail() {
    let mut probing = Probing::default();
    let room = Room { value: 1e6, wish: 6e6, fell: None };
    let due = |probing: &mut Probing, from: Micros| {
        (from..).step_by(100_000).find(|now| Probing::next(probing, &room, *now).is_some())
    };
    assert_eq!(probe(&mut probing, 0, 100, 1), Some(2e6), "all of it");
    assert_eq!(probe(&mut probing, 200_000, 100, 2), Some(0.95e6), "the way's limit");
    assert_eq!(probe(&mut probing, 2_300_000, 3, 1), None, "too little came");
    assert_eq!(due(&mut probing, 2_400_000), Some(4_400_000));
    assert_eq!(due(&mut probing, 4_400_000), Some(7_400_000), "forgotten after two seconds");
    let calm = Room { value: 1e6, wish: 6e6, fell: Some(0) };
    let mut probing = Probing::default();
    assert!(probing.next(&calm, 1_400_000).is_none() && probing.next(&calm, 1_500_000).is_some());
    assert!(Probing::default().next(&Room { wish: 1e6, ..room }, 0).is_none(), "no need");
}
