//! Ways that carry everything, and receivers that make it hard to see.
use super::{
    call,
    link::{Holds, Link, Source},
};

#[test]
fn a_wide_way_is_found_wide() {
    for seed in 0..10 {
        let mut call = call(2_500_000, 6_000_000, Source::Follow(6e6), Link::new(20e6, 20.0), seed);
        call.run(20_000.0);
        let found = call.when(0.0, |sample| sample.value >= 6e6);
        println!("6 Mbit/s found after {found} ms, at the end {}, probes {:?}", call.estimate.value(), call.probes);
        assert!(found < 2_500.0);
        assert!(call.least(found, 20_000.0) >= 6e6);
    }
}

#[test]
fn little_to_send_does_not_lower() {
    for (seed, source) in [Source::Frames(1e6), Source::Even(1e6), Source::Frames(100e3)].into_iter().enumerate() {
        let mut call = call(2_500_000, 1_000_000, source, Link::new(20e6, 20.0), seed as u64);
        call.run(30_000.0);
        assert!(call.least(0.0, 30_000.0) >= 2.5e6);
        assert!(call.estimate.value() <= 2_500_000);
        assert!(call.estimate.is_measured());
    }
}

/// Runs a way that carries everything for a minute, with several senders.
fn stays_above_what_is_sent(make: impl Fn() -> Link) {
    for seed in 0..2 {
        for rate in [150e3, 500e3, 1.7e6, 2.4e6] {
            for source in [Source::Frames(rate), Source::Even(rate)] {
                let mut call = call(2_500_000, rate as u64, source, make(), seed);
                call.run(60_000.0);
                let least = call.least(0.0, 60_000.0);
                println!("seed {seed}, {source:?}: least {:.0} k", least / 1e3);
                assert!(least >= rate);
            }
        }
        let mut call = call(2_500_000, 6_000_000, Source::Follow(6e6), make(), seed);
        call.run(60_000.0);
        let found = call.when(0.0, |sample| sample.value >= 6e6);
        let least = call.least(found, 60_000.0);
        println!("seed {seed}: 6 Mbit/s after {found} ms, then least {:.0} k", least / 1e3);
        assert!(found < 12_000.0 && least >= 6e6);
    }
}

#[test]
fn hiccups_of_the_receiver_are_no_queue() {
    stays_above_what_is_sent(|| Link { holds: Holds::Hiccups(1000.0, 40.0), noise: 2.0, ..Link::new(20e6, 20.0) });
}

#[test]
fn long_and_frequent_hiccups_are_no_queue() {
    stays_above_what_is_sent(|| Link { holds: Holds::Hiccups(300.0, 100.0), noise: 2.0, ..Link::new(20e6, 20.0) });
}

#[test]
fn small_jitter_is_no_queue() {
    stays_above_what_is_sent(|| Link { noise: 7.5, feedback_ms: 50.0, ..Link::new(20e6, 20.0) });
}

#[test]
fn great_jitter_is_no_queue() {
    stays_above_what_is_sent(|| Link { noise: 15.0, feedback_ms: 50.0, ..Link::new(20e6, 20.0) });
}

#[test]
fn lumps_are_no_queue() {
    stays_above_what_is_sent(|| Link { holds: Holds::Lumps(10.0), ..Link::new(20e6, 20.0) });
    stays_above_what_is_sent(|| Link { holds: Holds::Lumps(20.0), noise: 2.0, ..Link::new(20e6, 20.0) });
}

#[test]
fn random_loss_of_5_percent_is_borne() {
    stays_above_what_is_sent(|| Link { loss: 0.05, ..Link::new(20e6, 100.0) });
}

#[test]
fn a_longer_way_is_no_queue() {
    for (seed, source) in [Source::Frames(1.7e6), Source::Even(1.7e6), Source::Follow(6e6)].into_iter().enumerate() {
        for (noise, loss) in [(0.0, 0.0), (2.0, 0.0), (2.0, 0.05)] {
            let link = Link { delay: vec![(0.0, 20.0), (20_000.0, 100.0)], noise, loss, ..Link::new(20e6, 20.0) };
            let mut call = call(2_500_000, 6_000_000, source, link, seed as u64);
            call.run(40_000.0);
            let before = call.least(19_000.0, 20_000.0);
            let least = call.least(20_000.0, 40_000.0);
            let back = call.least(25_000.0, 40_000.0);
            println!("{source:?}, noise {noise}: before {before}, least {least}, after 5 s {back}");
            assert!(least >= before * 0.7 && back >= before * 0.8);
        }
    }
}

#[test]
fn lost_and_rare_feedback_is_no_harm() {
    stays_above_what_is_sent(|| Link { feedback_loss: 0.2, noise: 1.0, ..Link::new(20e6, 20.0) });
    stays_above_what_is_sent(|| Link { feedback_ms: 400.0, noise: 1.0, ..Link::new(20e6, 20.0) });
}
