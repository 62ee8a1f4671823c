use super::*;

#[test]
fn vp8_descriptors_are_read() {
    // X=1 S=1 PID=0; I L T K; 15-bit picture 0x1234; TL0 9; TID 1, KEYIDX 3; key frame.
    let key = [0x90, 0xf0, 0x92, 0x34, 9, 0x43, 0x10, 0x02];
    let descriptor = Vp8::parse(&key).unwrap();
    assert_eq!(descriptor.picture_id, Some((0x1234, true)));
    assert_eq!((descriptor.tl0, descriptor.tid, descriptor.key_idx), (Some(9), Some(1), Some(3)));
    assert!(descriptor.key_frame && descriptor.starts_frame);
    // The inverse key frame bit set: a delta frame.
    assert!(!Vp8::parse(&[0x90, 0x80, 0x05, 0x11]).unwrap().key_frame);
    assert_eq!(Vp8::parse(&[0x90, 0x80, 0x05, 0x11]).unwrap().picture_id, Some((5, false)));
    // A continuation (S=0) never begins a key frame.
    assert!(!Vp8::parse(&[0x80, 0x80, 0x05, 0x10]).unwrap().key_frame);
}

#[test]
fn truncated_payloads_are_no_key_frames() {
    let key = [0x90, 0xf0, 0x92, 0x34, 9, 0x43, 0x10];
    assert!(Codec::Vp8.starts_key_frame(&key));
    for len in 0..key.len() {
        assert_eq!(Vp8::parse(&key[..len]), None, "{len}");
    }
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        assert!(!codec.starts_key_frame(&[]));
    }
}

#[test]
fn key_frames_of_other_codecs() {
    assert!(Codec::H264.starts_key_frame(&[0x67, 0x42]));
    assert!(Codec::H264.starts_key_frame(&[0x78, 0, 2, 0x67, 0x42]));
    assert!(Codec::H264.starts_key_frame(&[0x7c, 0x85, 0]));
    assert!(!Codec::H264.starts_key_frame(&[0x7c, 0x05, 0]));
    assert!(!Codec::H264.starts_key_frame(&[0x61, 0]));
    assert!(Codec::Vp9.starts_key_frame(&[0x88, 0x01]));
    assert!(!Codec::Vp9.starts_key_frame(&[0xc8, 0x01]));
    // Layered: spatial layer 1 alone is not where a receiver can begin.
    assert!(Codec::Vp9.starts_key_frame(&[0xa8, 0x81, 0x02, 0x00]));
    assert!(!Codec::Vp9.starts_key_frame(&[0xa8, 0x81, 0x02, 0x02]));
    assert!(Codec::Av1.starts_key_frame(&[0x18]));
    assert!(!Codec::Av1.starts_key_frame(&[0x10]));
}
