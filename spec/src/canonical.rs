//! Canonical JSON: what every hash and signature is computed over (Appendices §Canonical JSON).
//!
//! `serde_json::Map` is ordered by key, byte by byte, which for UTF-8 is the order of code points. So the compact
//! serialisation of a value that passed [`check_canonical`] is its canonical form, and this module only checks
//! numbers and writes. Room versions before 6 are not checked; their floats are written the way the servers that
//! made them wrote them, so that hashes agree where they can.

use std::io;

use serde::Serialize;
use serde_json::{Map, Number, Value, ser::Formatter};

#[cfg(test)]
mod tests;

/// The largest integer of canonical JSON; the smallest is its negative.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// Why bytes or a value have no canonical form. The fault of whoever sent them.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// Not JSON, or not an object.
    #[error("not a JSON object: {0}")]
    BadJson(#[from] serde_json::Error),
    /// An integer outside ±(2^53 − 1).
    #[error("number {0} is outside the range of canonical JSON")]
    OutOfRange(Number),
    /// A float, an exponent, or negative zero.
    #[error("number {0} is not an integer")]
    NotAnInteger(Number),
}

/// Encodes `value` canonically. A float with an integral value in range is written as that integer; any other float
/// and any integer out of range fails.
pub fn to_canonical(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    if check_canonical(value).is_ok() {
        return Ok(write(value));
    }
    let mut value = value.clone();
    for_each_number(&mut value, &mut |number| {
        *number = to_integer(number)?;
        Ok(())
    })?;
    Ok(write(&value))
}

/// Parses one JSON object. With `strict` (room version 6 on) every number must be an integer in range; the text
/// itself may have white space and any key order. Of duplicate keys the last one counts.
pub fn parse_object(bytes: &[u8], strict: bool) -> Result<Map<String, Value>, CanonicalError> {
    let object: Map<String, Value> = serde_json::from_slice(bytes)?;
    if strict {
        check_canonical_object(&object)?;
    }
    Ok(object)
}

/// Checks that every number is an integer within ±(2^53 − 1). Exponents, fractions and `-0` are refused even where
/// their value is an integer, as the specification asks of events.
pub fn check_canonical(value: &Value) -> Result<(), CanonicalError> {
    match value {
        Value::Number(number) => check_number(number),
        Value::Array(items) => items.iter().try_for_each(check_canonical),
        Value::Object(object) => check_canonical_object(object),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

/// [`check_canonical`] for an object that is not wrapped in a [`Value`].
pub fn check_canonical_object(object: &Map<String, Value>) -> Result<(), CanonicalError> {
    object.values().try_for_each(check_canonical)
}

/// Writes compact JSON without checking anything. The result is canonical if the value passed
/// [`check_canonical`], and as close as the old room versions come otherwise.
pub fn write(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_into(&mut out, value);
    out
}

/// [`write()`] appending to a buffer.
pub fn write_into(out: &mut Vec<u8>, value: &impl Serialize) {
    let mut serializer = serde_json::Serializer::with_formatter(out, CanonicalFormatter);
    // A Vec never refuses a write, and JSON values and our own views of them have string keys only.
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok(), "a JSON value always serialises");
}

fn check_number(number: &Number) -> Result<(), CanonicalError> {
    match number.as_i64() {
        Some(integer) if integer.unsigned_abs() <= MAX_INTEGER.unsigned_abs() => Ok(()),
        None if number.is_f64() => Err(CanonicalError::NotAnInteger(number.clone())),
        _ => Err(CanonicalError::OutOfRange(number.clone())),
    }
}

/// The integer a number stands for, if it is one in range.
fn to_integer(number: &Number) -> Result<Number, CanonicalError> {
    if !number.is_f64() {
        return check_number(number).map(|()| number.clone());
    }
    match number.as_f64() {
        Some(float) if float.fract() != 0.0 => Err(CanonicalError::NotAnInteger(number.clone())),
        #[expect(clippy::cast_possible_truncation, reason = "integral and within ±2^53")]
        #[expect(clippy::cast_precision_loss, reason = "2^53 − 1 is exact in a float")]
        Some(float) if float.abs() <= MAX_INTEGER as f64 => Ok(Number::from(float as i64)),
        _ => Err(CanonicalError::OutOfRange(number.clone())),
    }
}

fn for_each_number(
    value: &mut Value,
    change: &mut impl FnMut(&mut Number) -> Result<(), CanonicalError>,
) -> Result<(), CanonicalError> {
    match value {
        Value::Number(number) => change(number),
        Value::Array(items) => items.iter_mut().try_for_each(|item| for_each_number(item, change)),
        Value::Object(object) => object.values_mut().try_for_each(|item| for_each_number(item, change)),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

/// Compact output whose floats have the shortest digits with an exponent below 1e-4 and from 1e16 on, signed and
/// of at least two digits (`1e+16`, `2.5e-05`): the form in which floats entered the hashes of old rooms.
struct CanonicalFormatter;

impl Formatter for CanonicalFormatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Rust's own exponent form has the shortest digits that read back as the same float.
        let shortest = format!("{value:e}");
        let Some((digits, exponent)) = shortest.split_once('e') else {
            return writer.write_all(shortest.as_bytes());
        };
        let exponent: i32 = exponent.parse().unwrap_or_default();
        if (-4..16).contains(&exponent) {
            let plain = format!("{value}");
            let fraction = if plain.contains('.') { "" } else { ".0" };
            return write!(writer, "{plain}{fraction}");
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(writer, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    }
}
