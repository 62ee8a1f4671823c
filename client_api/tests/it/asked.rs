//! What the acceptance suite Complement asks of one server, as far as no other test does: `complement/asked.tsv` says
//! which of its tests is answered where.

mod accounts;
mod history;
mod keys;
mod members;
mod news;
mod rooms;
mod upgrades;

use serde_json::Value;

/// The events of a part of an answer, nothing if the part is not there.
fn events<'a>(answer: &'a Value, pointer: &str) -> &'a [Value] {
    answer.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The ids of the events of a part of an answer.
fn ids<'a>(answer: &'a Value, pointer: &str) -> Vec<&'a str> {
    events(answer, pointer).iter().filter_map(|event| event["event_id"].as_str()).collect()
}

/// A value as an argument of a query.
fn argument(value: &Value) -> String {
    percent_encoding::utf8_percent_encode(&value.to_string(), percent_encoding::NON_ALPHANUMERIC).to_string()
}
