use super::*;

fn packet() -> Packet {
    Packet {
        ssrc: 0x0809_0a0b,
        payload_type: 111,
        seq: 0x1_0203,
        time: 0x0405_0607,
        marker: true,
        level: Some(0x80 | 37),
        orientation: None,
        mid: "ab".into(),
        ids: ExtensionIds { level: Some(1), orientation: Some(2), mid: Some(4), number: None },
        payload: Arc::new([9, 8, 7]),
        vp8: None,
    }
}

#[test]
fn the_header_tells_the_level_and_the_line() {
    let mut header = Vec::new();
    packet().write_header(&mut header, 0);
    assert_eq!(header[..12], [0x90, 0x80 | 111, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(header[12..], [0xbe, 0xde, 0, 2, 0x10, 0x80 | 37, 0x41, b'a', b'b', 0, 0, 0]);
}

#[test]
fn a_picture_has_its_orientation_and_a_number_in_the_transport() {
    let ids = ExtensionIds { level: None, orientation: Some(2), mid: None, number: Some(14) };
    let mut header = Vec::new();
    Packet { level: None, orientation: Some(3), ids, ..packet() }.write_header(&mut header, 0xfffe);
    assert_eq!(header[12..], [0xbe, 0xde, 0, 2, 0x20, 3, 0xe1, 0xff, 0xfe, 0, 0, 0]);
}

#[test]
fn a_repetition_has_the_numbers_of_its_stream_and_the_one_it_was_sent_with() {
    let (mut header, mut scratch) = (Vec::new(), Vec::new());
    let repeats = Repeats { ssrc: 0x1122_3344, payload_type: 97 };
    packet().write_repeat_header(&mut header, repeats, 0x3_0405, 0);
    assert_eq!(header[..12], [0x90, 0x80 | 97, 4, 5, 4, 5, 6, 7, 0x11, 0x22, 0x33, 0x44]);
    assert_eq!(packet().repeat_body(&mut scratch), [2, 3, 9, 8, 7]);
}

#[test]
fn what_is_sent_of_vp8_has_the_lines_numbers_also_when_repeated() {
    let mut packet = packet();
    packet.payload = Arc::new([0x90, 0xf0, 0x81, 0x02, 5, 0x43, 1, 2]);
    packet.vp8 = Some(MungedVp8 { picture_id: Some(0x1234), tl0: Some(77), key_idx: Some(0x1f) });
    let sent = [0x90, 0xf0, 0x92, 0x34, 77, 0x5f, 1, 2];
    let mut scratch = Vec::new();
    assert_eq!(packet.body(&mut scratch), sent);
    assert_eq!(packet.repeat_body(&mut scratch)[2..], sent);
}

#[test]
fn padding_says_how_much_it_is() {
    let mut header = Vec::new();
    let ids = ExtensionIds { number: Some(3), ..ExtensionIds::default() };
    write_padding_header(&mut header, Repeats { ssrc: 6, payload_type: 97 }, "ab".into(), ids, 0x1_0203, 9);
    assert_eq!(header, [0xb0, 97, 2, 3, 0, 0, 0, 0, 0, 0, 0, 6, 0xbe, 0xde, 0, 1, 0x31, 0, 9, 0]);
    assert_eq!(PADDING.last().copied().map(usize::from), Some(PADDING.len()));
}
