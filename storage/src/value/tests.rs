use serde::Deserialize;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    name: String,
    counts: Vec<u32>,
    last: Option<i64>,
}
crate::stored!(Row, 3);

crate::nid!(
    /// An id.
    struct TestNid
);

fn encode<V: Value>(value: &V) -> Vec<u8> {
    let mut out = ValueBuf::new();
    value.encode(&mut out);
    out.into_bytes()
}

fn row() -> Row {
    Row { name: "x".to_owned(), counts: vec![1, 2, 300], last: Some(-5) }
}

#[test]
fn stored_types_round_trip_with_their_version_in_front() {
    let bytes = encode(&row());
    assert_eq!(bytes.first(), Some(&3));
    assert_eq!(Row::decode(&bytes), Ok(row()));
}

#[test]
fn other_versions_torn_and_overlong_values_are_corrupt() {
    let mut bytes = encode(&row());
    assert!(Row::decode(&bytes[..bytes.len() - 1]).is_err());
    bytes.push(0);
    assert!(Row::decode(&bytes).is_err());
    bytes.pop();
    bytes[0] = 4;
    assert!(Row::decode(&bytes).is_err());
    assert!(Row::decode(&[]).is_err());
}

#[test]
fn plain_values_round_trip() {
    assert_eq!(u64::decode(&encode(&u64::MAX)), Ok(u64::MAX));
    assert_eq!(i64::decode(&encode(&-2_i64)), Ok(-2));
    assert_eq!(String::decode(&encode(&"é".to_owned())), Ok("é".to_owned()));
    assert_eq!(<()>::decode(&encode(&())), Ok(()));
    assert_eq!(TestNid::decode(&encode(&TestNid(700))), Ok(TestNid(700)));
    assert!(u64::decode(&[0; 7]).is_err());
    assert!(String::decode(&[0xff]).is_err());
    assert!(<()>::decode(&[0]).is_err());
}

#[test]
fn a_stamp_is_patched_only_when_pending() {
    let mut out = ValueBuf::new();
    Stamped::pending(Stamped { pos: StreamPos(5), value: u64::MAX }).encode(&mut out);
    out.patch(StreamPos(9));
    let expected = Stamped { pos: StreamPos(9), value: Stamped { pos: StreamPos(5), value: u64::MAX } };
    assert_eq!(Stamped::<Stamped<u64>>::decode(out.as_slice()), Ok(expected));
    assert!(Stamped::<u64>::decode(&[0; 7]).is_err());
}

#[test]
fn a_value_that_cannot_be_serialised_is_marked() {
    struct Unsized;
    impl Serialize for Unsized {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serde::ser::SerializeSeq::end(serializer.serialize_seq(None)?)
        }
    }
    let mut out = ValueBuf::new();
    encode_versioned(1, &Unsized, &mut out);
    assert!(out.has_failed());
}
