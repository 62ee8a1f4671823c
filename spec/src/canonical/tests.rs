use proptest::prelude::*;
use serde_json::json;

use super::*;

fn canonical(text: &str) -> String {
    String::from_utf8(to_canonical(&serde_json::from_str(text).unwrap()).unwrap()).unwrap()
}

/// Appendices §Canonical JSON, Examples.
#[test]
fn matches_the_vectors_of_the_specification() {
    let vectors = [
        ("{}", "{}"),
        (r#"{ "one": 1, "two": "Two" }"#, r#"{"one":1,"two":"Two"}"#),
        (r#"{ "b": "2", "a": "1" }"#, r#"{"a":"1","b":"2"}"#),
        (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",
               "three_pids": [{"medium": "email", "address": "john.doe@example.org"},
               {"medium": "msisdn", "address": "123456789"}]}}}"#,
            concat!(
                r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":"#,
                r#"[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"#,
                r#""success":true}}"#
            ),
        ),
        (r#"{"a": "日本語"}"#, r#"{"a":"日本語"}"#),
        (r#"{"本": 2, "日": 1}"#, r#"{"日":1,"本":2}"#),
        (r#"{"a": "\u65E5"}"#, r#"{"a":"日"}"#),
        (r#"{"a": null}"#, r#"{"a":null}"#),
        (r#"{"a": -0, "b": 1e10}"#, r#"{"a":0,"b":10000000000}"#),
    ];
    for (text, expected) in vectors {
        assert_eq!(canonical(text), expected);
    }
}

#[test]
fn escapes_only_what_it_must() {
    let text = r#"["\u0000\u0008\u0009\u000a\u000b\u000c\u000d\u001f\"\\\/\u007f\u2028\ud83d\ude00"]"#;
    assert_eq!(canonical(text), "[\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\u{2028}😀\"]");
}

#[test]
fn orders_keys_by_code_point() {
    // In UTF-16 order the surrogates of U+1F600 would come before U+FFFD.
    assert_eq!(canonical(r#"{"😀":1,"�":2,"a":3,"A":4,"":5}"#), r#"{"":5,"A":4,"a":3,"�":2,"😀":1}"#);
}

#[test]
fn strict_parsing_refuses_numbers_that_are_no_canonical_integers() {
    for number in ["9007199254740991", "-9007199254740991", "0"] {
        assert!(parse_object(format!(r#"{{"a":[{{"b":{number}}}]}}"#).as_bytes(), true).is_ok(), "{number}");
    }
    for number in ["9007199254740992", "-9007199254740992", "18446744073709551615", "99999999999999999999"] {
        let text = format!(r#"{{"a":[{{"b":{number}}}]}}"#);
        assert!(parse_object(text.as_bytes(), true).is_err(), "{number}");
        assert!(parse_object(text.as_bytes(), false).is_ok(), "{number}");
        assert!(to_canonical(&serde_json::from_str(&text).unwrap()).is_err(), "{number}");
    }
    for number in ["1.5", "1.0", "1e2", "-0"] {
        assert!(matches!(
            parse_object(format!(r#"{{"a":{number}}}"#).as_bytes(), true),
            Err(CanonicalError::NotAnInteger(_))
        ));
    }
    assert!(matches!(to_canonical(&json!({"a": 1.5})), Err(CanonicalError::NotAnInteger(_))));
}

#[test]
fn parsing_wants_one_object() {
    for text in ["", "[]", "1", "{", "{}x", r#"{"a":"\ud800"}"#, "{\"a\":\"\u{1}\"}", "\u{feff}{}"] {
        assert!(matches!(parse_object(text.as_bytes(), false), Err(CanonicalError::BadJson(_))), "{text}");
    }
    assert!(parse_object(&[b'{', 0xff, b'}'], false).is_err());
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse_object(deep.as_bytes(), false).is_err());
}

#[test]
fn writes_the_floats_of_old_rooms_as_they_were_hashed() {
    let written = |number: f64| String::from_utf8(write(&json!([number]))).unwrap();
    for (number, expected) in [
        (50.57, "[50.57]"),
        (1.0, "[1.0]"),
        (-0.5, "[-0.5]"),
        (0.0001, "[0.0001]"),
        (0.00001, "[1e-05]"),
        (0.000_025, "[2.5e-05]"),
        (1e15, "[1000000000000000.0]"),
        (1e16, "[1e+16]"),
        (1.25e100, "[1.25e+100]"),
    ] {
        assert_eq!(written(number), expected);
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-MAX_INTEGER..=MAX_INTEGER).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::String),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Whether the keys of every object in the text come in order, seen by a parser that keeps their order.
fn keys_are_ordered(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.keys().is_sorted() && map.values().all(keys_are_ordered),
        Value::Array(items) => items.iter().all(keys_are_ordered),
        _ => true,
    }
}

proptest! {
    #[test]
    fn round_trips(value in any_value()) {
        let bytes = to_canonical(&value).unwrap();
        let again: Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(&again, &value);
        prop_assert!(keys_are_ordered(&again));
        prop_assert_eq!(to_canonical(&again).unwrap(), bytes);
    }

    #[test]
    fn has_no_white_space_outside_strings(value in any_value()) {
        let bytes = to_canonical(&value).unwrap();
        let mut in_string = false;
        let mut escaped = false;
        for byte in bytes {
            prop_assert!(in_string || !byte.is_ascii_whitespace());
            prop_assert!(byte >= 0x20);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = !in_string,
                _ => {}
            }
        }
    }

    #[test]
    fn written_floats_read_back_the_same(number in any::<f64>().prop_filter("JSON has none", |n| n.is_finite())) {
        let again: Vec<f64> = serde_json::from_slice(&write(&[number])).unwrap();
        prop_assert_eq!(again[0].to_bits(), number.to_bits());
    }

    #[test]
    fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse_object(&bytes, true);
    }
}
