//! Answers to `send_join`, read while they arrive: the same comes out however they arrive, and it is JSON.
#![no_main]

use federation::fuzzing::read_join_answer;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Some((step, body)) = bytes.split_first() else { return };
    let whole = read_join_answer(body, usize::MAX);
    for step in [1, usize::from(*step)] {
        assert_eq!(read_join_answer(body, step), whole, "by {step}");
    }
    let Some((events, join, _)) = whole else { return };
    let mut total = 0;
    for json in events.iter().map(|(_, json)| json).chain(&join) {
        total += json.len();
        assert!(json.len() <= 2 * spec::pdu::MAX_PDU_BYTES);
        // Numbers beyond all bounds, and deep nesting, are refused only when the event is looked at.
        if let Err(error) = serde_json::from_str::<Value>(json) {
            assert!(error.is_syntax() || error.is_data(), "{error}");
        }
    }
    assert!(total <= body.len(), "more came out than went in");
});
