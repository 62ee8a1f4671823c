//! A cache of values read from the store that cannot keep a value read before an invalidation.

use std::{
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
};

use quick_cache::sync::Cache;

/// Values by key, bounded. [`ReadCache::forget`] is called by the commit observer, after the write and before anybody
/// is told of it: a writer that is dropped in the middle cannot forget to.
pub(crate) struct ReadCache<K, V> {
    entries: Cache<K, V>,
    invalidations: AtomicU64,
}

impl<K: Eq + Hash + Clone, V: Clone> ReadCache<K, V> {
    pub(crate) fn new(entries: usize) -> Self {
        Self { entries: Cache::new(entries), invalidations: AtomicU64::new(0) }
    }

    /// The cached value, or what `read` gives. If anything was invalidated during the read, the result is returned
    /// but not kept: it may be older than the invalidation.
    pub(crate) fn get_or_read<E>(&self, key: &K, read: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some(value) = self.entries.get(key) {
            return Ok(value);
        }
        let before = self.invalidations.load(Ordering::SeqCst);
        let value = read()?;
        self.entries.insert(key.clone(), value.clone());
        if self.invalidations.load(Ordering::SeqCst) != before {
            self.entries.remove(key);
        }
        Ok(value)
    }

    /// Forgets a value whose row has been changed.
    pub(crate) fn forget(&self, key: &K) {
        self.invalidations.fetch_add(1, Ordering::SeqCst);
        self.entries.remove(key);
    }
}
