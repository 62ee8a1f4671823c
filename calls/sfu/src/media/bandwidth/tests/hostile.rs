//! Receivers that say nothing, or what is not true.
use std::time::Duration;

use super::{
    super::{Bandwidth, Outcome},
    call,
    link::{Link, Random, Source},
    start,
};

#[test]
fn a_silence_lowers_and_what_follows_raises() {
    for source in [Source::Frames(1.7e6), Source::Layers, Source::Follow(1.7e6)] {
        let link = Link { silence: (10_000.0, 15_000.0), ..Link::new(20e6, 20.0) };
        let mut call = call(2_500_000, 1_700_000, source, link, 1);
        call.run(15_000.0);
        let during = call.estimate.value();
        call.run(25_000.0);
        let again = call.when(15_100.0, |sample| sample.value >= 1.7e6) - 15_000.0;
        println!("{source:?}: during the silence {during}, 1.7 M again {again} ms after it");
        assert!((50_000..1_000_000).contains(&during));
        assert!(again < 5_000.0);
    }
}

#[test]
fn a_lying_receiver_does_no_harm() {
    let start = start();
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut estimate = Bandwidth::new(2_500_000);
        estimate.set_wish(if seed % 2 == 0 { 6_000_000 } else { u64::MAX });
        let mut number = if seed % 3 == 0 { u64::MAX - 2_000 } else { random.next() };
        for step in 0..3_000u64 {
            let now = start + Duration::from_millis(step * 20);
            let mut probe = estimate.next_probe(now);
            for _ in 0..4 {
                let id = probe.map(|probe| probe.id).or(random.next().is_multiple_of(20).then(|| random.next() as u32));
                estimate.note_sent(number, random.next() as usize % 2_000, id, now);
                number = number.wrapping_add(1);
            }
            probe.take();
            let outcomes: Vec<_> = (0..random.next() % 20).map(|_| lie(&mut random, number, step)).collect();
            estimate.note_feedback(&outcomes, now);
            estimate.note_time(now);
            assert!((30_000..=100_000_000).contains(&estimate.value()));
            assert!((0.0..=1.0).contains(&estimate.loss()));
            assert!(estimate.rtt().is_none_or(|rtt| rtt < Duration::from_secs(600)));
        }
        assert!(estimate.history.len() <= 4096);
    }
}

/// An outcome that may be true, and may be anything.
fn lie(random: &mut Random, number: u64, step: u64) -> Outcome {
    let number = match random.next() % 8 {
        0 => number.wrapping_add(random.next() % 5_000),
        1 => number.wrapping_sub(random.next()),
        2 => random.next().wrapping_mul(random.next()),
        _ => number.wrapping_sub(random.next() % 30),
    };
    let arrival = match random.next() % 12 {
        0 => None,
        1 => Some(Duration::MAX),
        2 => Some(Duration::ZERO),
        3 => Some(Duration::from_secs(random.next() % 100_000)),
        4 => Some(Duration::from_millis(i64::MAX.unsigned_abs() / 1_000)),
        _ => Some(Duration::from_millis(step * 20 + random.next() % 20)),
    };
    Outcome { number, arrival }
}

#[test]
fn all_lost_lowers_to_the_floor_at_most() {
    let start = start();
    let mut estimate = Bandwidth::new(2_500_000);
    for step in 0..1_000u64 {
        let now = start + Duration::from_millis(step * 50);
        for part in 0..10 {
            estimate.note_sent(step * 10 + part, 1_200, None, now);
        }
        let outcomes: Vec<_> = (0..10).map(|part| Outcome { number: step * 10 + part, arrival: None }).collect();
        estimate.note_feedback(&outcomes, now + Duration::from_millis(40));
        estimate.note_feedback(&[], now + Duration::from_millis(41));
    }
    assert_eq!(estimate.value(), 30_000);
    assert!(estimate.loss() > 0.99);
}

#[test]
fn nothing_sent_changes_nothing() {
    let start = start();
    let mut estimate = Bandwidth::new(2_500_000);
    estimate.set_wish(6_000_000);
    for step in 0..100u64 {
        let now = start + Duration::from_millis(step * 400);
        estimate.note_time(now);
        assert_eq!(estimate.next_probe(now), None);
    }
    assert_eq!(estimate.value(), 2_500_000);
    assert!(!estimate.is_measured() && estimate.rtt().is_none());
}
