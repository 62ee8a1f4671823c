#![expect(clippy::disallowed_methods, reason = "some instant is needed to count from")]

use std::time::Duration;

use super::*;

const VIDEO: u32 = 90_000;

fn frame(picture: u16, tl0: u8) -> Vp8 {
    Vp8 { picture_id: Some((picture, true)), tl0: Some(tl0), key_idx: Some(0), ..Vp8::default() }
}

#[test]
fn gaps_of_the_source_stay_gaps() {
    let now = Instant::now();
    let mut munger = Munger::default();
    munger.switch(70_000, 5, None, now, VIDEO);
    let sent: Vec<u64> =
        [70_000, 70_001, 70_004, 70_002].iter().map(|seq| munger.renumber(*seq, 5, now).unwrap().seq).collect();
    assert_eq!(sent, [1000, 1001, 1004, 1002]);
    assert_eq!(munger.renumber(69_999, 5, now), None, "older than the source");
}

#[test]
fn another_source_follows_on() {
    let start = Instant::now();
    let mut munger = Munger::default();
    munger.switch(500, 10_000, Some(&frame(20, 7)), start, VIDEO);
    let last = munger.renumber(500, 10_000, start).unwrap();
    let pictures = munger.renumber_vp8(&frame(20, 7), true);
    assert_eq!(pictures, MungedVp8 { picture_id: Some(20), tl0: Some(7), key_idx: Some(0) });

    let later = start + Duration::from_millis(100);
    munger.switch(9, 4_000_000_000, Some(&frame(0x7fff, 200)), later, VIDEO);
    let next = munger.renumber(9, 4_000_000_000, later).unwrap();
    assert_eq!(next.seq, last.seq + 1);
    assert_eq!(next.time, last.time + 9000);
    let pictures = munger.renumber_vp8(&frame(0x7fff, 200), next.newest);
    assert_eq!((pictures.picture_id, pictures.tl0), (Some(21), Some(8)));
    munger.renumber(10, 4_000_003_000, later);
    assert_eq!(munger.renumber_vp8(&frame(0, 201), true).picture_id, Some(22), "the source's number wraps");
}

#[test]
fn two_frames_never_share_a_time() {
    let now = Instant::now();
    let mut munger = Munger::default();
    munger.switch(1, 1, None, now, VIDEO);
    let first = munger.renumber(1, 1, now).unwrap();
    munger.switch(1, 1, None, now, VIDEO);
    assert_eq!(munger.renumber(1, 1, now).unwrap().time, first.time + 1);
}

/// Whatever the sources and the switches: no number is sent twice, and without loss there is no gap.
#[test]
fn sequence_numbers_are_continuous_for_any_switches() {
    let random = runtime::Random::seeded(5);
    let mut now = Instant::now();
    let mut munger = Munger::default();
    let mut sources = [random.below(65_536), random.below(1 << 20), 0];
    let mut current = usize::MAX;
    for expected in FIRST_SEQ..FIRST_SEQ + 5000 {
        now += Duration::from_millis(random.below(50));
        let source = if random.below(20) == 0 { random.below(3) as usize } else { current.min(2) };
        let seq = sources[source];
        sources[source] += 1;
        if source != current {
            munger.switch(seq, random.u64() as u32, None, now, VIDEO);
            current = source;
        }
        assert_eq!(munger.renumber(seq, 0, now).unwrap().seq, expected);
    }
}
