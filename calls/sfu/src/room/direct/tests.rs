#![expect(clippy::disallowed_methods, reason = "some instant is needed to count from")]

use std::net::Ipv4Addr;

use super::*;

#[test]
fn a_packet_goes_through_the_engine_at_first_and_now_and_then() {
    let start = Instant::now();
    let mut line = DirectLine::default();
    let admitted: Vec<bool> =
        (0..60).map(|packet| line.admits(true, start + Duration::from_millis(packet * 20))).collect();
    let through: Vec<usize> = (0..60).filter(|packet| !admitted[*packet]).collect();
    assert_eq!(through, [0, 25, 50]);
    assert!(!line.admits(false, start + Duration::from_millis(1200)), "what comes late goes through the engine");
}

#[test]
fn the_header_tells_the_level_and_the_line() {
    let numbers = Munged { seq: 0x1_0203, time: 0x0405_0607, newest: true };
    let mut header = Vec::new();
    write_header(&mut header, numbers, 111, 0x0809_0a0b, true);
    assert_eq!(header, [0x90, 0x80 | 111, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    let values = ExtensionValues { audio_level: Some(-37), voice_activity: Some(true), ..ExtensionValues::default() };
    write_extensions(&mut header, Ids { level: Some(1), mid: Some(4) }, "ab".into(), &values);
    assert_eq!(header[12..], [0xbe, 0xde, 0, 2, 0x10, 0x80 | 37, 0x41, b'a', b'b', 0, 0, 0]);

    let mut bare = Vec::new();
    write_extensions(&mut bare, Ids { level: None, mid: Some(15) }, "ab".into(), &values);
    assert_eq!(bare, [0xbe, 0xde, 0, 0], "what has no number of one byte is left out");
}

#[test]
fn a_check_on_another_way_asks_the_engine_where_media_go() {
    let transmit = |port| Transmit {
        proto: Protocol::Udp,
        source: (Ipv4Addr::LOCALHOST, 7882).into(),
        destination: (Ipv4Addr::LOCALHOST, port).into(),
        contents: vec![0].into(),
    };
    let mut direct = Direct::new(SealerSlot::default());
    direct.note_way(&transmit(1), false);
    direct.note_way(&transmit(1), true);
    assert!(direct.way.is_some());
    direct.note_way(&transmit(2), true);
    assert!(direct.way.is_none());
}
