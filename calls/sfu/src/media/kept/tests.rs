#![expect(clippy::disallowed_methods, reason = "some instant is needed to count from")]

use super::*;

fn packet(seq: u64) -> Packet {
    Packet::sample(1, seq, &[1])
}

#[test]
fn a_packet_is_found_by_its_number_and_not_repeated_at_once() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let rest = Duration::from_millis(50);
    let mut kept = Kept::default();
    // One is late, one never comes.
    for seq in [65_533, 65_534, 65_537, 65_536, 65_538] {
        kept.push(packet(seq), at(0));
    }
    assert_eq!(kept.repeat(0, rest, at(10)).map(|packet| packet.seq), Some(65_536));
    assert!(kept.repeat(0, rest, at(40)).is_none(), "it is on its way");
    assert!(kept.repeat(0, rest, at(60)).is_some());
    assert_eq!(kept.repeat(65_534, rest, at(60)).map(|packet| packet.seq), Some(65_534));
    assert!(kept.repeat(65_535, rest, at(60)).is_none(), "it was never sent");
    assert!(kept.repeat(3, rest, at(60)).is_none(), "it is not sent yet");
    assert!(kept.repeat(2, rest, at(5000)).is_none(), "too old");
    assert_eq!((kept.recent(0).unwrap().seq, kept.recent(1).unwrap().seq), (65_538, 65_537));
}

#[test]
fn no_more_are_kept_than_are_useful() {
    let start = Instant::now();
    let mut kept = Kept::default();
    for seq in 0..2000 {
        kept.push(packet(seq), start);
    }
    assert_eq!(kept.0.len(), MOST);
    kept.push(packet(2000), start + LONGEST + Duration::from_millis(1));
    assert_eq!(kept.0.len(), 1);
    kept.clear();
    assert!(kept.recent(0).is_none());
}
