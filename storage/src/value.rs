//! Values of rows, and the macros that define stored types.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use smallvec::SmallVec;

use crate::{Corrupt, StreamPos, key::patch_position};

#[cfg(test)]
mod tests;

/// Where a value is encoded; remembers the offsets of [`StreamPos::PENDING`].
#[derive(Clone, Debug, Default)]
pub struct ValueBuf {
    bytes: Vec<u8>,
    pending: SmallVec<[u32; 2]>,
    failed: bool,
}

impl ValueBuf {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a position as 8 bytes; [`StreamPos::PENDING`] is replaced when the batch is numbered.
    pub fn push_position(&mut self, pos: StreamPos) {
        if pos == StreamPos::PENDING {
            // Values longer than MAX_VALUE_BYTES are refused before patching, so a saturated offset is never used.
            self.pending.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        }
        self.push(&pos.0.to_be_bytes());
    }

    /// Marks the value as impossible to encode: the whole batch is then refused.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// The bytes so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn patch(&mut self, pos: StreamPos) {
        for offset in std::mem::take(&mut self.pending) {
            patch_position(&mut self.bytes, offset as usize, pos);
        }
    }
}

impl io::Write for ValueBuf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The value of a row. `decode(encode(v)) == v`.
pub trait Value: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut ValueBuf);
    /// Reads a whole value.
    ///
    /// # Errors
    /// [`Corrupt`] if the bytes were not written by `encode`.
    fn decode(bytes: &[u8]) -> Result<Self, Corrupt>;
}

/// A value with the position of the batch that wrote it: 8 bytes in front, given as [`StreamPos::PENDING`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped<V> {
    /// When the row was last written.
    pub pos: StreamPos,
    /// The row.
    pub value: V,
}

impl<V> Stamped<V> {
    /// A value that gets the position of the batch it is put into.
    pub const fn pending(value: V) -> Self {
        Stamped { pos: StreamPos::PENDING, value }
    }
}

impl<V: Value> Value for Stamped<V> {
    fn encode(&self, out: &mut ValueBuf) {
        out.push_position(self.pos);
        self.value.encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let (pos, rest) = bytes.split_first_chunk().ok_or(Corrupt("stamped value is too short"))?;
        Ok(Stamped { pos: StreamPos(u64::from_be_bytes(*pos)), value: V::decode(rest)? })
    }
}

impl Value for StreamPos {
    fn encode(&self, out: &mut ValueBuf) {
        out.push_position(*self);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        u64::decode(bytes).map(StreamPos)
    }
}

macro_rules! fixed_value {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn encode(&self, out: &mut ValueBuf) {
                out.push(&self.to_be_bytes());
            }

            fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
                bytes.try_into().map(<$type>::from_be_bytes).map_err(|_| Corrupt("number has the wrong length"))
            }
        }
    )*};
}
fixed_value!(u32, u64, i64);

impl Value for () {
    fn encode(&self, _out: &mut ValueBuf) {}

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        if bytes.is_empty() { Ok(()) } else { Err(Corrupt("value should be empty")) }
    }
}

impl Value for Vec<u8> {
    fn encode(&self, out: &mut ValueBuf) {
        out.push(self);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        Ok(bytes.to_vec())
    }
}

macro_rules! text_value {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn encode(&self, out: &mut ValueBuf) {
                out.push(self.as_bytes());
            }

            fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
                std::str::from_utf8(bytes).map(<$type>::from).map_err(|_| Corrupt("text is not UTF-8"))
            }
        }
    )*};
}
text_value!(String, Box<str>, std::sync::Arc<str>);

/// Appends a version byte and the postcard encoding; see [`stored!`](crate::stored).
pub fn encode_versioned<T: Serialize>(version: u8, value: &T, out: &mut ValueBuf) {
    out.push(&[version]);
    if postcard::to_io(value, &mut *out).is_err() {
        out.fail();
    }
}

/// Reads what [`encode_versioned`] wrote.
///
/// # Errors
/// [`Corrupt`] on another version, on bytes that do not decode, and on bytes left over.
pub fn decode_versioned<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, Corrupt> {
    match bytes.split_first() {
        Some((found, body)) if *found == version => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(Corrupt("value is too long")),
            Err(_) => Err(Corrupt("value does not decode")),
        },
        Some(_) => Err(Corrupt("value has an unknown version")),
        None => Err(Corrupt("value is empty")),
    }
}

/// Makes a serde type a [`Value`]: one version byte, then postcard.
///
/// The type must not need a self-describing format (`serde_json::Value`, `#[serde(untagged)]`, `#[serde(flatten)]`,
/// `skip_serializing_if`). A change of the type needs a new version and a migration, or a hand-written [`Value`].
#[macro_export]
macro_rules! stored {
    ($type:ty, $version:expr) => {
        impl $crate::Value for $type {
            fn encode(&self, out: &mut $crate::ValueBuf) {
                $crate::encode_versioned($version, self, out);
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::Corrupt> {
                $crate::decode_versioned($version, bytes)
            }
        }
    };
}

/// Defines an interned id: `nid!(/** doc */ pub struct RoomNid);` is a `u64` of its own type, usable in keys and values.
#[macro_export]
macro_rules! nid {
    ($(#[$meta:meta])* $vis:vis struct $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name(pub u64);

        impl $crate::Key for $name {
            fn encode(&self, out: &mut $crate::KeyBuf) {
                $crate::Key::encode(&self.0, out);
            }

            fn decode(input: &mut $crate::KeyReader<'_>) -> Result<Self, $crate::Corrupt> {
                <u64 as $crate::Key>::decode(input).map($name)
            }
        }

        impl $crate::__serde::Serialize for $name {
            fn serialize<S: $crate::__serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.0)
            }
        }

        impl<'de> $crate::__serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::__serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <u64 as $crate::__serde::Deserialize>::deserialize(deserializer).map($name)
            }
        }

        $crate::stored!($name, 1);
    };
}
