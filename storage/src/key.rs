//! Order-preserving key encoding.
//!
//! Numbers are fixed-width big-endian (signed ones with the sign bit flipped). Text ends with a 0x00 byte; the bytes
//! 0x00 and 0x01 inside it are escaped as 0x01 0x01 and 0x01 0x02. No encoding is a prefix of another one of the same
//! type (except `Vec<u8>`, which therefore may only come last), so tuples concatenate and prefixes are exact.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{Corrupt, StreamPos};

#[cfg(test)]
mod tests;

/// Where a key is encoded; remembers the offsets of [`StreamPos::PENDING`].
#[derive(Clone, Debug, Default)]
pub struct KeyBuf {
    bytes: SmallVec<[u8; 40]>,
    pending: SmallVec<[u16; 2]>,
}

impl KeyBuf {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes as they are: the caller answers for their order.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a position; [`StreamPos::PENDING`] is replaced when the batch is numbered.
    pub fn push_position(&mut self, pos: StreamPos) {
        if pos == StreamPos::PENDING {
            // Keys longer than MAX_KEY_BYTES are refused before patching, so a saturated offset is never used.
            self.pending.push(u16::try_from(self.bytes.len()).unwrap_or(u16::MAX));
        }
        self.push(&pos.0.to_be_bytes());
    }

    /// The bytes so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn patch(&mut self, pos: StreamPos) {
        for offset in std::mem::take(&mut self.pending) {
            patch_position(&mut self.bytes, usize::from(offset), pos);
        }
    }
}

pub(crate) fn patch_position(bytes: &mut [u8], offset: usize, pos: StreamPos) {
    if let Some(place) = bytes.get_mut(offset..offset + 8) {
        place.copy_from_slice(&pos.0.to_be_bytes());
    }
}

/// Reads an encoded key from front to back.
#[derive(Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Starts at the first byte of a key.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        KeyReader { rest: bytes }
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// [`Corrupt`] if the key is shorter.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Corrupt("key is too short"))?;
        self.rest = tail;
        Ok(head)
    }

    /// Takes a fixed number of bytes.
    ///
    /// # Errors
    /// [`Corrupt`] if the key is shorter.
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Corrupt("key is too short"))?;
        self.rest = tail;
        Ok(*head)
    }

    /// Takes all that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn take_text(&mut self) -> Result<String, Corrupt> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(Corrupt("text in key has no end"))?;
        let encoded = self.take(end)?;
        self.take(1)?;
        let plain = if encoded.contains(&ESCAPE) { unescape(encoded)? } else { encoded.to_vec() };
        String::from_utf8(plain).map_err(|_| Corrupt("text in key is not UTF-8"))
    }

    pub(crate) fn finish(self) -> Result<(), Corrupt> {
        if self.rest.is_empty() { Ok(()) } else { Err(Corrupt("key is too long")) }
    }
}

const ESCAPE: u8 = 0x01;

fn push_text(out: &mut KeyBuf, text: &str) {
    let bytes = text.as_bytes();
    if bytes.iter().all(|byte| *byte > ESCAPE) {
        out.push(bytes);
    } else {
        for byte in bytes {
            match byte {
                0..=ESCAPE => out.push(&[ESCAPE, byte + 1]),
                _ => out.push(&[*byte]),
            }
        }
    }
    out.push(&[0]);
}

fn unescape(encoded: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let mut plain = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match *byte {
            ESCAPE => match bytes.next() {
                Some(1) => 0,
                Some(2) => 1,
                _ => return Err(Corrupt("bad escape in key")),
            },
            other => other,
        });
    }
    Ok(plain)
}

/// A part of a key: a scalar, a text, or a tuple of parts.
///
/// Laws: `decode(encode(k)) == k`; the byte order of encodings is the order of the values; no encoding is a prefix of
/// another one (`Vec<u8>` breaks the last law and may only be the last part).
pub trait Key: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut KeyBuf);
    /// Takes what [`Key::encode`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] if the bytes were not written by `encode`.
    fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt>;
}

/// The key of a whole row: every [`Key`], and `()` for keyspaces of one row.
pub trait RowKey: Sized {
    /// Appends the encoding.
    fn encode_row(&self, out: &mut KeyBuf);
    /// Reads a whole key.
    ///
    /// # Errors
    /// [`Corrupt`] if the bytes are not exactly one encoded key.
    fn decode_row(bytes: &[u8]) -> Result<Self, Corrupt>;
}

impl<K: Key> RowKey for K {
    fn encode_row(&self, out: &mut KeyBuf) {
        self.encode(out);
    }

    fn decode_row(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = KeyReader::new(bytes);
        let key = K::decode(&mut input)?;
        input.finish()?;
        Ok(key)
    }
}

impl RowKey for () {
    fn encode_row(&self, _out: &mut KeyBuf) {}

    fn decode_row(bytes: &[u8]) -> Result<Self, Corrupt> {
        KeyReader::new(bytes).finish()
    }
}

/// A leading part of the keys `K`: what a scan can be narrowed to.
///
/// For a key struct of its own a crate writes `impl KeyPrefix<TimelineKey> for RoomNid`.
pub trait KeyPrefix<K> {
    /// Appends the encoding, which is a byte prefix of exactly the keys that start with this part.
    fn encode_prefix(&self, out: &mut KeyBuf);
}

impl<K: RowKey> KeyPrefix<K> for () {
    fn encode_prefix(&self, _out: &mut KeyBuf) {}
}

macro_rules! unsigned_key {
    ($($type:ty),*) => {$(
        impl Key for $type {
            fn encode(&self, out: &mut KeyBuf) {
                out.push(&self.to_be_bytes());
            }

            fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
                Ok(<$type>::from_be_bytes(input.take_array()?))
            }
        }
    )*};
}
unsigned_key!(u8, u16, u32, u64);

impl Key for i64 {
    fn encode(&self, out: &mut KeyBuf) {
        // Flipping the sign bit puts negative numbers before positive ones in byte order.
        out.push(&(self ^ i64::MIN).to_be_bytes());
    }

    fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        Ok(i64::from_be_bytes(input.take_array()?) ^ i64::MIN)
    }
}

impl Key for bool {
    fn encode(&self, out: &mut KeyBuf) {
        out.push(&[u8::from(*self)]);
    }

    fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        match input.take_array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Corrupt("bad boolean in key")),
        }
    }
}

impl Key for StreamPos {
    fn encode(&self, out: &mut KeyBuf) {
        out.push_position(*self);
    }

    fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        u64::decode(input).map(StreamPos)
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut KeyBuf) {
        out.push(self);
    }

    fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        input.take_array()
    }
}

/// The rest of the key, unescaped: only as the last part.
impl Key for Vec<u8> {
    fn encode(&self, out: &mut KeyBuf) {
        out.push(self);
    }

    fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        Ok(input.take_rest().to_vec())
    }
}

macro_rules! text_key {
    ($($type:ty),*) => {$(
        impl Key for $type {
            fn encode(&self, out: &mut KeyBuf) {
                push_text(out, self);
            }

            fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
                input.take_text().map(<$type>::from)
            }
        }
    )*};
}
text_key!(String, Box<str>, Arc<str>);

macro_rules! tuple_key {
    ($($part:ident $index:tt),*) => {
        impl<$($part: Key),*> Key for ($($part,)*) {
            fn encode(&self, out: &mut KeyBuf) {
                $(self.$index.encode(out);)*
            }

            fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
                Ok(($($part::decode(input)?,)*))
            }
        }
    };
}
tuple_key!(A 0, B 1);
tuple_key!(A 0, B 1, C 2);
tuple_key!(A 0, B 1, C 2, D 3);
tuple_key!(A 0, B 1, C 2, D 3, E 4);

macro_rules! tuple_prefix {
    ($prefix:ty, [$($prefix_part:ident),*], [$($rest:ident),*]) => {
        impl<$($prefix_part: Key,)* $($rest: Key),*> KeyPrefix<($($prefix_part,)* $($rest,)*)> for $prefix {
            fn encode_prefix(&self, out: &mut KeyBuf) {
                self.encode(out);
            }
        }
    };
}
tuple_prefix!(A, [A], [B]);
tuple_prefix!(A, [A], [B, C]);
tuple_prefix!(A, [A], [B, C, D]);
tuple_prefix!(A, [A], [B, C, D, E]);
tuple_prefix!((A, B), [A, B], [C]);
tuple_prefix!((A, B), [A, B], [C, D]);
tuple_prefix!((A, B), [A, B], [C, D, E]);
tuple_prefix!((A, B, C), [A, B, C], [D]);
tuple_prefix!((A, B, C), [A, B, C], [D, E]);
tuple_prefix!((A, B, C, D), [A, B, C, D], [E]);

/// The first byte string after all those that start with `prefix`, or `None` if there is none.
pub(crate) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}
