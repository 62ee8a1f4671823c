//! Canonical JSON: whatever is accepted has one canonical form, which reads back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use spec::canonical::{check_canonical, parse_object, to_canonical, write};

fuzz_target!(|bytes: &[u8]| {
    let lenient = parse_object(bytes, false);
    let strict = parse_object(bytes, true);
    let Ok(object) = lenient else {
        assert!(strict.is_err(), "strict parsing accepted what lenient parsing refused");
        return;
    };
    let value = Value::Object(object.clone());
    assert_eq!(strict.is_ok(), check_canonical(&value).is_ok());
    if let Ok(canonical) = to_canonical(&value) {
        let again = parse_object(&canonical, true).expect("canonical JSON is strict");
        assert_eq!(write(&again), canonical, "the canonical form is not a fixed point");
        if let Ok(strict) = strict {
            assert_eq!(strict, again, "encoding changed a strict value");
        }
    } else {
        assert!(strict.is_err());
    }
    // The lenient form of old rooms has to be stable too: hashes are computed over it.
    let written = write(&object);
    let again = parse_object(&written, false).expect("written JSON parses");
    assert_eq!(write(&again), written, "the written form is not a fixed point");
});
