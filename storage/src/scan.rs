//! Scans over ranges of keys.

use std::{marker::PhantomData, ops::ControlFlow};

use crate::{
    KeyBuf, KeyPrefix, KeyspaceInfo, RowKey, StorageError, Value,
    backend::{ByteRange, Cursor},
    key::end_of_prefix,
    read::{Reader, corrupt},
};

/// A scan being described; ends with [`Scan::iter`], [`Scan::keys`] or [`Scan::for_each_raw`].
///
/// Bounds only narrow: a bound outside the prefix changes nothing or leaves nothing. They keep their meaning under
/// [`Scan::reverse`], which only turns the order of the answers.
#[must_use = "a scan reads nothing until it is iterated"]
#[derive(Debug)]
pub struct Scan<'a, K, V> {
    reader: Reader<'a>,
    keyspace: KeyspaceInfo,
    range: ByteRange,
    reverse: bool,
    types: PhantomData<fn() -> (K, V)>,
}

impl<'a, K: RowKey, V> Scan<'a, K, V> {
    pub(crate) fn new(reader: Reader<'a>, keyspace: KeyspaceInfo, prefix: &[u8]) -> Self {
        let range = ByteRange { lower: prefix.to_vec(), upper: end_of_prefix(prefix) };
        Scan { reader, keyspace, range, reverse: false, types: PhantomData }
    }

    /// Only keys at or after `key`.
    pub fn from(mut self, key: &K) -> Self {
        self.range.raise_lower(encode(key));
        self
    }

    /// Only keys after `key`.
    pub fn after(mut self, key: &K) -> Self {
        self.range.raise_lower(successor(key));
        self
    }

    /// Only keys before `key`.
    pub fn until(mut self, key: &K) -> Self {
        self.range.reduce_upper(encode(key));
        self
    }

    /// Only keys at or before `key`.
    pub fn through(mut self, key: &K) -> Self {
        self.range.reduce_upper(successor(key));
        self
    }

    /// Only keys at or after the first one that begins with `prefix`.
    pub fn from_prefix<P: KeyPrefix<K>>(mut self, prefix: &P) -> Self {
        self.range.raise_lower(encode_prefix(prefix));
        self
    }

    /// Only keys after the last one that begins with `prefix`.
    pub fn after_prefix<P: KeyPrefix<K>>(mut self, prefix: &P) -> Self {
        match end_of_prefix(&encode_prefix(prefix)) {
            Some(end) => self.range.raise_lower(end),
            None => self.range.reduce_upper(Vec::new()),
        }
        self
    }

    /// Only keys before the first one that begins with `prefix`.
    pub fn until_prefix<P: KeyPrefix<K>>(mut self, prefix: &P) -> Self {
        self.range.reduce_upper(encode_prefix(prefix));
        self
    }

    /// Only keys at or before the last one that begins with `prefix`.
    pub fn through_prefix<P: KeyPrefix<K>>(mut self, prefix: &P) -> Self {
        if let Some(end) = end_of_prefix(&encode_prefix(prefix)) {
            self.range.reduce_upper(end);
        }
        self
    }

    /// From the last key to the first.
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Calls `visit` with each whole encoded key and value where they lie, until it breaks.
    ///
    /// # Errors
    /// [`StorageError`] if the disk fails or the keyspace was not declared; nothing is decoded.
    pub fn for_each_raw(self, mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), StorageError> {
        let Some(mut cursor) = self.open()? else { return Ok(()) };
        while let Some((key, value)) = cursor.advance()? {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The decoded keys; values are not decoded.
    pub fn keys(self) -> impl Iterator<Item = Result<K, StorageError>> + use<'a, K, V> {
        let keyspace = self.keyspace;
        self.rows(move |key, _| K::decode_row(key).map_err(|source| corrupt(keyspace, source)))
    }

    /// Whether the range holds no row.
    ///
    /// # Errors
    /// As [`Scan::for_each_raw`].
    pub fn is_empty(self) -> Result<bool, StorageError> {
        let mut empty = true;
        self.for_each_raw(|_, _| {
            empty = false;
            ControlFlow::Break(())
        })?;
        Ok(empty)
    }

    fn open(&self) -> Result<Option<Cursor<'a>>, StorageError> {
        let index = self.reader.directory.find(self.keyspace)?;
        if self.range.is_empty() {
            return Ok(None);
        }
        self.reader.view.cursor(index, &self.range, self.reverse).map(Some)
    }

    fn rows<T, F>(self, decode: F) -> ScanIter<'a, F>
    where
        F: FnMut(&[u8], &[u8]) -> Result<T, StorageError>,
    {
        let state = match self.open() {
            Ok(Some(cursor)) => State::Open(cursor),
            Ok(None) => State::Done,
            Err(error) => State::Failed(error),
        };
        ScanIter { state, decode, not_send: PhantomData }
    }
}

impl<'a, K: RowKey, V: Value> Scan<'a, K, V> {
    /// The decoded rows. After an error the iterator ends.
    #[allow(clippy::should_implement_trait, reason = "a builder step that reads like the method of a collection")]
    pub fn iter(self) -> impl Iterator<Item = Result<(K, V), StorageError>> + use<'a, K, V> {
        let keyspace = self.keyspace;
        self.rows(move |key, value| {
            let key = K::decode_row(key).map_err(|source| corrupt(keyspace, source))?;
            let value = V::decode(value).map_err(|source| corrupt(keyspace, source))?;
            Ok((key, value))
        })
    }
}

fn encode<K: RowKey>(key: &K) -> Vec<u8> {
    let mut out = KeyBuf::new();
    key.encode_row(&mut out);
    out.as_slice().to_vec()
}

/// The first byte string after the encoding of `key`.
fn successor<K: RowKey>(key: &K) -> Vec<u8> {
    let mut bytes = encode(key);
    bytes.push(0);
    bytes
}

fn encode_prefix<K, P: KeyPrefix<K>>(prefix: &P) -> Vec<u8> {
    let mut out = KeyBuf::new();
    prefix.encode_prefix(&mut out);
    out.as_slice().to_vec()
}

/// Iterates over the rows of a [`Scan`]. Not `Send`: a scan must not be held over an await.
pub struct ScanIter<'a, F> {
    state: State<'a>,
    decode: F,
    not_send: PhantomData<*const ()>,
}

enum State<'a> {
    Open(Cursor<'a>),
    Failed(StorageError),
    Done,
}

impl<F> std::fmt::Debug for ScanIter<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScanIter")
    }
}

impl<T, F> Iterator for ScanIter<'_, F>
where
    F: FnMut(&[u8], &[u8]) -> Result<T, StorageError>,
{
    type Item = Result<T, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &mut self.state {
            State::Open(cursor) => match cursor.advance() {
                Ok(Some((key, value))) => (self.decode)(key, value),
                Ok(None) => {
                    self.state = State::Done;
                    return None;
                }
                Err(error) => Err(error),
            },
            State::Failed(error) => Err(error.clone()),
            State::Done => return None,
        };
        if row.is_err() {
            self.state = State::Done;
        }
        Some(row)
    }
}
