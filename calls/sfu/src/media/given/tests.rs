use std::collections::HashSet;

use super::*;

#[test]
fn no_number_is_given_out_twice() {
    let mut given = Given::default();
    for (seq, expected) in [
        (70_000, true),
        (70_000, false),
        (70_003, true),
        (70_001, true),
        (70_001, false),
        (70_003, false),
        (70_003 + REACH, true),
        (70_002, false),
        (70_004, true),
        (90_000, true),
        (90_000 - REACH + 1, true),
        (90_000 - REACH, false),
    ] {
        assert_eq!(given.take(seq), expected, "{seq}");
    }
}

#[test]
fn whatever_the_order_every_number_is_given_at_most_once() {
    let mut random: u64 = 7;
    let (mut given, mut seen, mut base) = (Given::default(), HashSet::new(), 5000u64);
    for _ in 0..200_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let step = random >> 33;
        base += if step.is_multiple_of(1000) { step % 3000 } else { step % 3 };
        let seq = base - step % 700;
        if given.take(seq) {
            assert!(seen.insert(seq), "{seq}");
        }
    }
    assert!(seen.len() > 100_000);
}
