use proptest::prelude::*;

use super::*;

fn encode<K: RowKey>(key: &K) -> Vec<u8> {
    let mut out = KeyBuf::new();
    key.encode_row(&mut out);
    out.as_slice().to_vec()
}

fn encode_prefix<K: RowKey, P: KeyPrefix<K>>(prefix: &P) -> Vec<u8> {
    let mut out = KeyBuf::new();
    KeyPrefix::<K>::encode_prefix(prefix, &mut out);
    out.as_slice().to_vec()
}

fn check_order<K: RowKey + Ord + std::fmt::Debug>(a: &K, b: &K) {
    assert_eq!(a.cmp(b), encode(a).cmp(&encode(b)), "{a:?} against {b:?}");
}

fn check_round_trip<K: RowKey + PartialEq + std::fmt::Debug>(key: &K) {
    assert_eq!(K::decode_row(&encode(key)).as_ref(), Ok(key));
}

/// Text that is likely to hit the escapes and to share prefixes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[\u{0}\u{1}\u{2}a]{0,6}", "[ab]{0,3}", any::<String>()]
}

proptest! {
    #[test]
    fn numbers_round_trip_in_order(a: (u64, i64, u16, u8), b: (u64, i64, u16, u8)) {
        check_round_trip(&a);
        check_order(&a, &b);
        check_order(&a.1, &b.1);
        check_order(&(a.0, b.1), &(a.0, a.1));
    }

    #[test]
    fn texts_round_trip_in_order(a in text(), b in text(), c: u64, d: u64) {
        check_round_trip(&(a.clone(), c));
        check_order(&a, &b);
        check_order(&(a.clone(), c), &(b.clone(), d));
        check_order(&(a.clone(), b.clone()), &(b, a));
    }

    #[test]
    fn bytes_and_booleans_round_trip_in_order(a: (bool, [u8; 3], u32, Vec<u8>), b: (bool, [u8; 3], u32, Vec<u8>)) {
        check_round_trip(&a);
        check_order(&a, &b);
        check_order(&(a.2, a.3), &(b.2, b.3));
    }

    #[test]
    fn a_prefix_matches_exactly_the_keys_that_begin_with_it(a in (text(), any::<u8>(), text()), b in (text(), any::<u8>(), text())) {
        type K = (String, u8, String);
        let key: Vec<u8> = encode::<K>(&b);
        prop_assert_eq!(key.starts_with(&encode_prefix::<K, _>(&a.0)), a.0 == b.0);
        let pair = (a.0.clone(), a.1);
        prop_assert_eq!(key.starts_with(&encode_prefix::<K, _>(&pair)), a.0 == b.0 && a.1 == b.1);
    }

    #[test]
    fn the_end_of_a_prefix_bounds_its_keys(prefix: Vec<u8>, tail: Vec<u8>, other: Vec<u8>) {
        let key = [prefix.as_slice(), &tail].concat();
        match end_of_prefix(&prefix) {
            Some(end) => {
                prop_assert!(key < end);
                prop_assert_eq!(other >= prefix && other < end, other.starts_with(&prefix));
            }
            None => prop_assert!(prefix.iter().all(|byte| *byte == 0xff)),
        }
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
        let _ = <(String, u64, bool)>::decode_row(&bytes);
        let _ = <(i64, Vec<u8>)>::decode_row(&bytes);
        let _ = <(Box<str>, Arc<str>)>::decode_row(&bytes);
    }
}

#[test]
fn encodings_are_stable() {
    assert_eq!(encode(&(1_u8, 0x0203_u16, "a\0b".to_owned())), [1, 2, 3, b'a', 1, 1, b'b', 0]);
    assert_eq!(encode(&-1_i64), [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(encode(&()), []);
}

#[test]
fn keys_with_bytes_left_over_or_missing_are_corrupt() {
    assert!(u8::decode_row(&[1, 2]).is_err());
    assert!(u32::decode_row(&[1, 2]).is_err());
    assert!(String::decode_row(b"no end").is_err());
    assert!(String::decode_row(&[1, 3, 0]).is_err());
    assert!(bool::decode_row(&[2]).is_err());
    assert!(<()>::decode_row(&[0]).is_err());
}

#[test]
fn only_pending_positions_are_patched() {
    let mut key = KeyBuf::new();
    (u64::MAX, StreamPos::PENDING, StreamPos(7), StreamPos::PENDING).encode_row(&mut key);
    key.patch(StreamPos(9));
    type Decoded = (u64, StreamPos, StreamPos, StreamPos);
    assert_eq!(Decoded::decode_row(key.as_slice()), Ok((u64::MAX, StreamPos(9), StreamPos(7), StreamPos(9))));
}
