//! Ways that carry too little.
use super::{
    call,
    link::{Call, Holds, LAYERS, Link, Source},
};

#[test]
fn loss_of_20_percent_lowers() {
    for seed in 0..10 {
        let link = Link { loss: 0.2, ..Link::new(20e6, 50.0) };
        let mut call = call(2_500_000, 1_700_000, Source::Layers, link, seed);
        call.run(10_000.0);
        let fell = call.when(0.0, |sample| sample.value < 1.7e6);
        println!("fell below 1.7 M after {fell}, at the end {}, loss {}", call.estimate.value(), call.estimate.loss());
        assert!(fell < 6_000.0);
    }
}

#[test]
fn a_narrowing_way_is_found_and_left_again() {
    for seed in 0..4 {
        for queue_ms in [100.0, 300.0, 1000.0] {
            for source in [Source::Layers, Source::PacedLayers] {
                let link = Link {
                    capacity: vec![(0.0, 5e6), (10_000.0, 500e3), (40_000.0, 5e6)],
                    queue_ms,
                    ..Link::new(5e6, 30.0)
                };
                let mut call = call(2_500_000, 1_700_000, source, link, seed);
                call.run(60_000.0);
                assert!(call.least(0.0, 10_000.0) >= 1.7e6);
                let found = call.when(10_000.0, |sample| sample.value <= 475e3) - 10_000.0;
                let deep = call.between(14_000.0, 40_000.0).map(|sample| sample.queue_ms).fold(0.0, f64::max);
                let mean = call.mean(12_000.0, 40_000.0) / 500e3;
                let wide = call.when(40_000.0, |sample| sample.sending >= 1.7e6) - 40_000.0;
                println!(
                    "seed {seed}, queue {queue_ms}, {source:?}: found {found} ms, deepest after 4 s {deep:.0} ms, mean \
                     {mean:.2}, wide again {wide} ms"
                );
                if found > 1200.0 || !(0.75..=1.0).contains(&mean) || deep > 150.0 || wide > 10_000.0 {
                    call.print(9_500.0, 45_000.0, 100.0);
                }
                assert!(found <= 1_200.0 && deep <= 150.0 && (0.75..=1.0).contains(&mean) && wide <= 10_000.0);
            }
        }
    }
}

#[test]
fn a_sender_that_follows_uses_a_narrow_way() {
    for seed in 0..4 {
        for capacity in [300e3, 500e3, 1e6, 3e6] {
            for queue_ms in [100.0, 300.0, 1000.0] {
                let link = Link { queue_ms, ..Link::new(capacity, 30.0) };
                let mut call = call(2_500_000, 6_000_000, Source::Follow(6e6), link, seed);
                call.run(60_000.0);
                let found = call.when(0.0, |sample| sample.value <= 0.95 * capacity);
                let mean = call.mean(8_000.0, 60_000.0) / capacity;
                let queue: f64 = call.between(8_000.0, 60_000.0).map(|sample| sample.queue_ms).sum::<f64>() / 5200.0;
                println!(
                    "seed {seed}, {:.0} k, queue {queue_ms}: found {found} ms, mean {mean:.2}, queue {queue:.0} ms",
                    capacity / 1e3
                );
                if !(0.75..=1.0).contains(&mean) {
                    call.print(0.0, 60_000.0, 200.0);
                }
                assert!((0.75..=1.0).contains(&mean));
                assert!(queue < 100.0);
            }
        }
    }
}

#[test]
fn a_way_that_is_narrow_from_the_beginning_is_found() {
    for seed in 0..4 {
        for queue_ms in [100.0, 300.0, 1000.0] {
            for source in [Source::Layers, Source::PacedLayers] {
                let link = Link { queue_ms, ..Link::new(500e3, 30.0) };
                let mut call = call(2_500_000, 1_700_000, source, link, seed);
                call.run(40_000.0);
                let found = call.when(0.0, |sample| sample.value <= 475e3);
                let mean = call.mean(3_000.0, 40_000.0) / 500e3;
                let deep = call.between(5_000.0, 40_000.0).map(|sample| sample.queue_ms).fold(0.0, f64::max);
                println!("seed {seed}, queue {queue_ms}, {source:?}: found {found} ms, mean {mean:.2}, deep {deep:.0}");
                if found > 1300.0 || !(0.75..=1.0).contains(&mean) {
                    call.print(0.0, 40_000.0, 100.0);
                }
                assert!(found <= 1_300.0 && (0.75..=1.0).contains(&mean));
            }
        }
    }
}

/// Runs a way that becomes narrow, while the arrivals are disturbed.
fn is_found_narrow(name: &str, make: impl Fn() -> Link) {
    for seed in 0..4 {
        for source in [Source::Layers, Source::PacedLayers, Source::Follow(1.7e6)] {
            let link = Link { capacity: vec![(0.0, 5e6), (10_000.0, 500e3), (40_000.0, 5e6)], ..make() };
            let mut call = call(2_500_000, 1_700_000, source, link, seed);
            call.run(60_000.0);
            let before = call.least(3_000.0, 10_000.0);
            let found = call.when(10_000.0, |sample| sample.value <= 475e3) - 10_000.0;
            let deep = call.between(14_000.0, 40_000.0).map(|sample| sample.queue_ms).fold(0.0, f64::max);
            let mean = call.mean(12_000.0, 40_000.0) / 500e3;
            let wide = call.when(40_000.0, |sample| sample.sending >= 1.7e6) - 40_000.0;

            println!(
                "{name}, seed {seed}, {source:?}: before {:.0} k, found {found} ms, deepest after 4 s {deep:.0} ms, mean \
                 {mean:.2}, wide again {wide} ms",
                before / 1e3
            );
            assert!(before >= 1.7e6 && found <= 1_700.0 && (0.6..=1.1).contains(&mean) && wide <= 20_000.0);
        }
    }
}

#[test]
fn a_narrow_way_shows_through_disturbed_arrivals() {
    let queue_ms = 300.0;
    is_found_narrow("hiccups", || Link {
        holds: Holds::Hiccups(1000.0, 40.0),
        noise: 2.0,
        queue_ms,
        ..Link::new(5e6, 20.0)
    });
    is_found_narrow("lumps", || Link { holds: Holds::Lumps(10.0), queue_ms, ..Link::new(5e6, 20.0) });
    is_found_narrow("jitter", || Link { noise: 7.5, queue_ms, ..Link::new(5e6, 20.0) });
    is_found_narrow("feedback lost", || Link { feedback_loss: 0.2, queue_ms, ..Link::new(5e6, 20.0) });
    is_found_narrow("loss", || Link { loss: 0.05, queue_ms, ..Link::new(5e6, 100.0) });
}

#[test]
fn a_narrow_way_without_a_queue_is_told_by_its_losses() {
    for seed in 0..4 {
        let capacity = vec![(0.0, 5e6), (10_000.0, 500e3)];
        let link = Link { capacity, queue_ms: 10.0, ..Link::new(5e6, 20.0) };
        let mut call = call(2_500_000, 1_700_000, Source::Layers, link, seed);
        call.run(40_000.0);
        let found = call.when(10_000.0, |sample| sample.value < 1.7e6) - 10_000.0;
        let (mean, loss) = (call.mean(15_000.0, 40_000.0), call.estimate.loss());
        println!("seed {seed}: lower layer after {found} ms, mean {mean}, loss {loss}");
        assert!(found <= 1_500.0 && mean < 1.7e6);
    }
}

/// How often a call changed its layer after five seconds, and which share of the time it sent the one that fits.
fn layers(call: &Call, fit: u64) -> (usize, f64) {
    let late: Vec<_> = call.between(5_000.0, f64::MAX).collect();
    let changes = late.windows(2).filter(|pair| pair[0].sending != pair[1].sending).count();
    let fitting = late.iter().filter(|sample| sample.sending == fit as f64).count();
    (changes, fitting as f64 / late.len() as f64)
}

#[test]
fn the_layer_that_fits_is_kept() {
    let [small, middle, large] = LAYERS;
    for (capacity, fit) in
        [(200e3, small), (400e3, small), (750e3, middle), (1.2e6, middle), (2e6, large), (3e6, large)]
    {
        for source in [Source::Layers, Source::PacedLayers, Source::KeyedLayers] {
            for holds in [Holds::None, Holds::Hiccups(1000.0, 40.0)] {
                for seed in 0..2 {
                    let link = Link { holds, noise: 1.0, ..Link::new(capacity, 30.0) };
                    let mut call = call(2_500_000, 1_700_000, source, link, seed);
                    call.run(60_000.0);
                    let (changes, share) = layers(&call, fit);
                    println!(
                        "{capacity}, {source:?}, {holds:?}: {changes} changes, {share:.2} of the time, {} probes",
                        call.probes.len()
                    );
                    assert!(changes <= 3 && share >= 0.85);
                }
            }
        }
    }
}

#[test]
fn a_way_too_narrow_for_anything_is_left_again() {
    for capacity in [40e3, 100e3] {
        for seed in 0..4 {
            let source = if seed % 2 == 0 { Source::Layers } else { Source::PacedLayers };
            let link = Link { capacity: vec![(0.0, capacity), (20_000.0, 5e6)], ..Link::new(1e6, 30.0) };
            let mut call = call(2_500_000, 1_700_000, source, link, seed);
            call.run(50_000.0);
            let wide = call.when(20_000.0, |sample| sample.sending >= 1.7e6) - 20_000.0;
            println!("{source:?}: value {:.0} k before, wide {wide} ms after", call.mean(15_000.0, 20_000.0) / 1e3);
            assert!(wide < 12_000.0);
        }
    }
}

#[test]
fn a_sender_that_does_not_obey_keeps_the_measure() {
    for (seed, source) in [Source::Frames(1.7e6), Source::Even(1.7e6), Source::Even(600e3)].into_iter().enumerate() {
        for queue_ms in [100.0, 300.0, 1000.0] {
            let link = Link { queue_ms, ..Link::new(500e3, 30.0) };
            let mut call = call(2_500_000, 1_700_000, source, link, seed as u64);
            call.run(30_000.0);
            let (least, mean) = (call.least(2_000.0, 30_000.0) / 500e3, call.mean(2_000.0, 30_000.0) / 500e3);

            println!("{source:?}, queue {queue_ms}: least {least:.2}, mean {mean:.2}");
            assert!(least >= 0.5 && mean <= 1.0);
        }
    }
}
