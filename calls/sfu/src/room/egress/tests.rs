#![expect(clippy::disallowed_methods, reason = "some instant is needed to count from")]

use std::net::Ipv4Addr;

use str0m::crypto::dtls::SrtpProfile;

use super::*;

fn transmit(port: u16) -> Transmit {
    Transmit {
        proto: Protocol::Udp,
        source: (Ipv4Addr::LOCALHOST, 7882).into(),
        destination: (Ipv4Addr::LOCALHOST, port).into(),
        contents: vec![0].into(),
    }
}

fn egress() -> Egress {
    let mut egress = Egress::new(KeySlot::default());
    let material: Vec<u8> = (0..88).collect();
    egress.keys = Keys::new(&material, SrtpProfile::AEAD_AES_256_GCM, true);
    egress.note_way(&transmit(1), false);
    egress
}

fn packet(seq: u64) -> Packet {
    Packet::sample(5, seq, &[1; 1000])
}

const REPEATS: Repeats = Repeats { ssrc: 6, payload_type: 97 };

/// The SSRCs and numbers of what is sent now.
fn flush(egress: &mut Egress, now: Instant) -> Vec<(u8, u16)> {
    let mut sealed = Sealed::default();
    egress.flush(&mut sealed, now);
    sealed.packets().map(|(_, packet)| (packet[11], u16::from_be_bytes([packet[2], packet[3]]))).collect()
}

#[test]
fn a_check_on_another_way_asks_the_engine_where_media_go() {
    let mut egress = egress();
    egress.note_way(&transmit(1), true);
    assert!(!egress.take_doubt());
    egress.note_way(&transmit(2), true);
    assert!(egress.take_doubt() && !egress.take_doubt());
    assert_eq!(egress.way.map(|way| way.destination.port()), Some(1));
    egress.note_way(&transmit(2), false);
    assert_eq!(egress.way.map(|way| way.destination.port()), Some(2));
}

#[test]
fn what_is_missing_is_sent_again_on_the_stream_for_that() {
    let start = Instant::now();
    let later = start + Duration::from_millis(30);
    let mut egress = egress();
    for seq in 1000..1004 {
        egress.push(packet(seq), Some(REPEATS));
    }
    assert_eq!(flush(&mut egress, start), [(5, 1000), (5, 1001), (5, 1002), (5, 1003)]);
    for seq in [1001, 1003, 1009] {
        egress.queue.push(Queued::Missing(5, seq));
    }
    egress.queue.push(Queued::Missing(7, 1000));
    assert_eq!(flush(&mut egress, later), [(6, 1000), (6, 1001)]);
    egress.queue.push(Queued::Missing(5, 1001));
    assert_eq!(flush(&mut egress, later), [], "it is on its way");
    egress.forget_sent(5);
    egress.queue.push(Queued::Missing(5, 1000));
    assert_eq!(flush(&mut egress, later), []);
    egress.push(packet(1004), Some(REPEATS));
    egress.queue.push(Queued::Missing(5, 1004));
    assert_eq!(flush(&mut egress, later), [(5, 1004), (6, 1002)], "numbers of repetitions go on");
}

#[test]
fn no_number_is_sealed_twice() {
    let mut egress = egress();
    for seq in [1000, 1002, 1001, 1002, 1000] {
        egress.push(packet(seq), None);
    }
    assert_eq!(flush(&mut egress, Instant::now()), [(5, 1000), (5, 1002), (5, 1001)]);
}

#[test]
fn not_much_of_what_is_sent_is_sent_again() {
    let start = Instant::now();
    let mut egress = egress();
    for seq in 1000..1500 {
        egress.push(packet(seq), Some(REPEATS));
    }
    flush(&mut egress, start);
    for seq in 1000..1500 {
        egress.queue.push(Queued::Missing(5, seq));
    }
    assert_eq!(flush(&mut egress, start).len(), REPEAT_BURST / 1000);
}

#[test]
fn without_keys_nothing_is_sent_and_nothing_is_held() {
    let mut egress = Egress::new(KeySlot::default());
    egress.note_way(&transmit(1), false);
    egress.push(packet(1000), None);
    assert_eq!(flush(&mut egress, Instant::now()), []);
    assert!(egress.queue.is_empty());
}

/// A report as libsrtp seals it: of SSRC 9 the packets 10, 11 and 26 are missing.
#[test]
fn a_report_of_missing_packets_is_acted_on_and_the_engine_need_not_see_it() {
    let report = [
        0x81, 0xcd, 0, 3, 0, 0, 0, 1, 0x6e, 0xb4, 0xe0, 0xfb, 0xb7, 0xeb, 0x61, 0x69, 0x80, 0, 0, 1, 0x2c, 0xed, 0xc0,
        0x94, 0x17, 0xca, 6, 0x53, 0x18, 0xe2,
    ];
    let master: Vec<u8> = (1..=30).collect();
    let material = [&master[..16], &[0; 16], &master[16..], &[0; 14]].concat();
    let start = Instant::now();
    let mut egress = egress();
    egress.keys = Keys::new(&material, SrtpProfile::AES128_CM_SHA1_80, false);
    assert!(egress.take_reports(&report, start).for_engine, "nothing was sent on that SSRC");
    for seq in 1..20 {
        egress.push(Packet { ssrc: 9, ..packet(seq) }, Some(REPEATS));
    }
    flush(&mut egress, start);
    let taken = egress.take_reports(&report, start + Duration::from_millis(30));
    assert_eq!((taken, egress.missing), (Taken::default(), 3));
    assert_eq!(flush(&mut egress, start + Duration::from_millis(30)), [(6, 1000), (6, 1001)]);
    assert_eq!(egress.missing, 0);
}

#[test]
fn reports_that_cannot_be_opened_are_for_the_engine() {
    let mut egress = egress();
    let taken = egress.take_reports(&[0x81, 205, 0, 3, 0, 0, 0, 1], Instant::now());
    assert_eq!(taken, Taken { for_engine: true, fell: false });
}
