use std::net::SocketAddr;

use proptest::prelude::*;

use super::frames::FrameError;
use super::*;

const TRANSACTION: Transaction = *b"abcdefghijkl";

fn addresses() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from);
    let v6 = (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from);
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_failing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut message = bytes;
        if let Some(head) = message.get_mut(..8) {
            head[0] &= 0x3f;
            head[4..8].copy_from_slice(&COOKIE);
        }
        if message.len() >= HEADER {
            message.truncate(message.len() / 4 * 4);
            let length = u16::try_from(message.len() - HEADER).unwrap();
            message[2..4].copy_from_slice(&length.to_be_bytes());
        }
        if let Ok(read) = Message::parse(&message) {
            let _ = Attributes::read(&read).map(|attributes| attributes.verify(&read, b"key"));
            let _ = peers(&read).count();
        }
        let _ = (frame_len(&message), channel_data(&message));
    }

    #[test]
    fn what_is_written_reads_back(
        address in addresses(),
        name in prop::collection::vec(any::<u8>(), 0..40),
        data in prop::collection::vec(any::<u8>(), 0..40),
        sha256: bool,
    ) {
        let integrity = if sha256 { Integrity::Sha256 } else { Integrity::Sha1 };
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Request, Method::Allocate, &TRANSACTION);
        writer.add(attribute::USERNAME, &name).add_address(attribute::XOR_PEER_ADDRESS, address);
        writer.add(attribute::DATA, &data).protect(integrity, b"key");
        writer.finish();
        let message = Message::parse(&out).unwrap();
        prop_assert_eq!((message.class(), message.method()), (Class::Request, Method::Allocate));
        prop_assert_eq!(message.transaction(), &TRANSACTION);
        let attributes = Attributes::read(&message).unwrap();
        prop_assert_eq!(attributes.username, Some(&name[..]));
        prop_assert_eq!(attributes.peer, Some(address));
        prop_assert_eq!(attributes.data, Some(&data[..]));
        prop_assert!(attributes.verify(&message, b"key") && !attributes.verify(&message, b"another"));
        prop_assert_eq!(attributes.uses_sha256(), sha256);
        prop_assert_eq!(frame_len(&out), Ok(Some(out.len())));
    }

    #[test]
    fn a_changed_message_is_not_believed(position in 0usize..100, bit in 0u8..8) {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Request, Method::Refresh, &TRANSACTION);
        writer.add(attribute::USERNAME, b"somebody").protect(Integrity::Sha1, b"key");
        // The fingerprint would catch it first.
        let covered = out.len() - 20;
        let position = position % covered;
        out[position] ^= 1 << bit;
        if let Ok(message) = Message::parse(&out) {
            let believed = Attributes::read(&message).is_some_and(|attributes| attributes.verify(&message, b"key"));
            prop_assert!(!believed, "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn what_follows_the_integrity_does_not_count() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Class::Request, Method::Refresh, &TRANSACTION);
    writer.add(attribute::USERNAME, b"a").protect(Integrity::Sha1, b"key");
    writer.add(attribute::LIFETIME, &[0, 0, 0, 0]);
    writer.finish();
    let message = Message::parse(&out).unwrap();
    let attributes = Attributes::read(&message).unwrap();
    assert_eq!(attributes.lifetime, None);
    assert!(attributes.verify(&message, b"key"));
}

#[test]
fn of_both_integrities_the_stronger_counts() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Class::Request, Method::Refresh, &TRANSACTION);
    writer.protect(Integrity::Sha1, b"wrong").protect(Integrity::Sha256, b"key");
    writer.finish();
    let message = Message::parse(&out).unwrap();
    let attributes = Attributes::read(&message).unwrap();
    assert!(attributes.uses_sha256() && attributes.verify(&message, b"key"));
}

#[test]
fn a_truncated_sha256_integrity_has_at_least_half_of_it() {
    let signed = |len: usize| {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Request, Method::Refresh, &TRANSACTION);
        writer.protect(Integrity::Sha256, b"key");
        out.truncate(out.len() - 32 + len);
        // The MAC covers the length of the message as it is sent.
        let length = u16::try_from(4 + len).unwrap();
        out[2..4].copy_from_slice(&length.to_be_bytes());
        out[HEADER + 2..HEADER + 4].copy_from_slice(&length.wrapping_sub(4).to_be_bytes());
        use hmac::{KeyInit, Mac};
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"key").unwrap();
        mac.update(&out[..HEADER]);
        let whole = mac.finalize().into_bytes();
        out[HEADER + 4..].copy_from_slice(&whole[..len]);
        let message = Message::parse(&out).unwrap();
        Attributes::read(&message).unwrap().verify(&message, b"key")
    };
    assert!(signed(32) && signed(20) && signed(16));
    assert!(!signed(12) && !signed(0));
}

#[test]
fn wrong_forms_are_told_apart() {
    let mut out = Vec::new();
    Writer::new(&mut out, Class::Request, Method::Binding, &TRANSACTION).finish();
    use message::Malformed;
    let parse = |bytes: &[u8]| Message::parse(bytes).map(|_| ()).unwrap_err();
    assert_eq!(parse(&out[..19]), Malformed::Header);
    assert_eq!(parse(&out[..24]), Malformed::Length);
    let mut changed = out.clone();
    changed[27] ^= 1;
    assert_eq!(parse(&changed), Malformed::Fingerprint);
    let mut long = out.clone();
    long[23] = 12;
    assert_eq!(parse(&long), Malformed::Attribute);
    let mut not_last = out.clone();
    not_last.extend_from_slice(&[0x80, 0x22, 0, 0]);
    not_last[3] += 4;
    assert!(matches!(parse(&not_last), Malformed::Fingerprint));
    out[4] = 0;
    assert_eq!(parse(&out), Malformed::Header);
}

#[test]
fn frames_of_a_stream_have_bounds() {
    assert_eq!(frame_len(&[0x40, 0, 0]), Ok(None));
    assert_eq!(frame_len(&[0x40, 0, 0, 5]), Ok(Some(12)), "with padding");
    assert_eq!(frame_len(&[0, 1, 0, 8]), Ok(Some(28)));
    assert_eq!(frame_len(&[0x40, 0, 0xff, 0xff]), Err(FrameError::TooLong));
    assert_eq!(frame_len(&[0x80, 0, 0, 0]), Err(FrameError::Unknown));
    assert_eq!(frame_len(&[0x16, 3, 1, 2]), Ok(Some(20 + 0x102)), "a TLS hello waits for more, then is no message");
}

#[test]
fn channel_data_ends_where_it_says() {
    assert_eq!(channel_data(&[0x40, 1, 0, 2, 7, 8, 0, 0]), Some((0x4001, &[7, 8][..])));
    assert_eq!(channel_data(&[0x40, 1, 0, 3, 7, 8]), None);
    assert_eq!(channel_data(&[0x3f, 1, 0, 0]), None);
    assert_eq!(channel_header(0x4001, 2), Some([0x40, 1, 0, 2]));
    assert_eq!(channel_header(0x4001, 70_000), None);
    assert_eq!((padding(4).len(), padding(5).len(), padding(7).len()), (0, 3, 1));
}
