//! Reading rows, from the store as it is now or from a snapshot.

use crate::{
    KeyBuf, KeyPrefix, Keyspace, KeyspaceInfo, RowKey, Scan, Snapshot, StorageError, Store, Value, backend::View,
    directory::Directory,
};

/// Where a read goes. Unnameable outside this crate, which seals [`Read`].
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) view: View<'a>,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// Reads rows; implemented by [`Store`] (each call sees the latest state) and [`Snapshot`] (all calls see one state).
///
/// Reads are synchronous. One from memory costs a few microseconds; callers keep them short and page long scans.
pub trait Read {
    #[doc(hidden)]
    fn reader(&self) -> Reader<'_>;

    /// Reads a row, or `None` if it does not exist.
    ///
    /// # Errors
    /// [`StorageError`] if the disk fails, the row does not decode, or the keyspace was not declared.
    fn get<K: RowKey, V: Value>(&self, keyspace: &Keyspace<K, V>, key: &K) -> Result<Option<V>, StorageError> {
        self.get_with(keyspace, key, V::decode)?.transpose().map_err(|source| corrupt(keyspace.info(), source))
    }

    /// Reads a row without copying it: `read` sees the encoded value where it lies.
    ///
    /// # Errors
    /// As [`Read::get`], except that nothing is decoded.
    fn get_with<K: RowKey, V, R>(
        &self,
        keyspace: &Keyspace<K, V>,
        key: &K,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StorageError> {
        let reader = self.reader();
        let mut encoded = KeyBuf::new();
        key.encode_row(&mut encoded);
        reader.view.get_with(reader.directory.find(keyspace.info())?, encoded.as_slice(), read)
    }

    /// Whether a row exists.
    ///
    /// # Errors
    /// As [`Read::get`], except that nothing is decoded.
    fn contains<K: RowKey, V>(&self, keyspace: &Keyspace<K, V>, key: &K) -> Result<bool, StorageError> {
        Ok(self.get_with(keyspace, key, |_| ())?.is_some())
    }

    /// Reads many rows; the answers are in the order of the keys.
    ///
    /// # Errors
    /// As [`Read::get`], for the first key that fails.
    fn multi_get<K: RowKey, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        keys: &[K],
    ) -> Result<Vec<Option<V>>, StorageError> {
        // RocksDB's own batched lookup was measured slower than this loop on cached data, the common case here.
        keys.iter().map(|key| self.get(keyspace, key)).collect()
    }

    /// Starts a scan over the rows whose key begins with `prefix` (`&()` for all), in key order.
    fn scan<K: RowKey, V, P: KeyPrefix<K>>(&self, keyspace: &Keyspace<K, V>, prefix: &P) -> Scan<'_, K, V> {
        let mut encoded = KeyBuf::new();
        prefix.encode_prefix(&mut encoded);
        Scan::new(self.reader(), keyspace.info(), encoded.as_slice())
    }
}

pub(crate) fn corrupt(keyspace: KeyspaceInfo, source: crate::Corrupt) -> StorageError {
    StorageError::Corrupt { keyspace: keyspace.name, source }
}

impl Read for Store {
    fn reader(&self) -> Reader<'_> {
        self.live_reader()
    }
}

impl Read for Snapshot {
    fn reader(&self) -> Reader<'_> {
        self.frozen_reader()
    }
}
