//! What JSON of a client or of another server may be like when it is passed on as it is.
//!
//! Content that this server does not look into (messages to devices, keys, profile fields) is delivered to others as it
//! came, and one value that their parsers choke on would make a whole answer unreadable for them.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

#[cfg(test)]
mod tests;

/// How deeply values may be nested: below what parsers of other clients and servers take, with room for the event and
/// the answer around them.
pub const MAX_DEPTH: u8 = 100;

/// Checks a JSON text without keeping anything of it: its grammar, the escapes of its texts, the range of its numbers,
/// and that nothing is nested more deeply than [`MAX_DEPTH`].
///
/// # Errors
/// What is wrong, and where.
pub fn check_text(text: &str) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Nested { left: MAX_DEPTH }.deserialize(&mut reader)?;
    reader.end()
}

/// Whether a value that is parsed already is nested at most [`MAX_DEPTH`] deep; everything else that [`check_text`]
/// looks at is looked at by parsing.
#[must_use]
pub fn is_shallow(value: &Value) -> bool {
    is_shallower(value, MAX_DEPTH)
}

fn is_shallower(value: &Value, left: u8) -> bool {
    let inner = |value: &Value| left.checked_sub(1).is_some_and(|left| is_shallower(value, left));
    match value {
        Value::Array(items) => left > 0 && items.iter().all(inner),
        Value::Object(object) => left > 0 && object.values().all(inner),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Reads a value and forgets it: unlike `IgnoredAny`, it looks at escapes, numbers and the depth.
#[derive(Clone, Copy)]
struct Nested {
    left: u8,
}

impl Nested {
    fn descend<E: de::Error>(self) -> Result<Nested, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom("values are nested too deeply"))?;
        Ok(Nested { left })
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let inner = self.descend()?;
        while values.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let inner = self.descend()?;
        while values.next_key_seed(inner)?.is_some() {
            values.next_value_seed(inner)?;
        }
        Ok(())
    }
}
