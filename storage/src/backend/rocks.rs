//! RocksDB: one database, a column family per keyspace.

use std::{path::Path, sync::Arc};

use rust_rocksdb::{
    BottommostLevelCompaction, BoundColumnFamily, CompactOptions, DBRawIteratorWithThreadMode, DBWithThreadMode,
    MultiThreaded, Range, ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions, checkpoint::Checkpoint,
};

use crate::{
    BackupError, MAX_KEY_BYTES, StorageError,
    backend::{ByteRange, EncodedRow},
    directory::KeyspaceIndex,
};

mod figures;
mod open;
mod tuning;

pub(crate) use open::RocksOptions;

type Db = DBWithThreadMode<MultiThreaded>;

/// A batch buffer that grew beyond this is not kept for the next group.
const KEPT_BATCH_BYTES: usize = 1024 * 1024;

/// An open RocksDB database.
pub(crate) struct Rocks {
    // Dropped before `db`, in the order of declaration: the handles below point into it.
    families: Vec<Arc<BoundColumnFamily<'static>>>,
    write_options: WriteOptions,
    db: Db,
}

impl Rocks {
    fn family(&self, index: KeyspaceIndex) -> Result<&Arc<BoundColumnFamily<'static>>, StorageError> {
        self.families.get(usize::from(index)).ok_or(StorageError::UnknownKeyspace("(number out of range)"))
    }

    pub(crate) fn get_with<R>(
        &self,
        index: KeyspaceIndex,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StorageError> {
        let value = self.db.get_pinned_cf(self.family(index)?, key);
        Ok(value.map_err(|error| StorageError::backend("read", error))?.map(|value| read(&value)))
    }

    pub(crate) fn cursor(
        &self,
        index: KeyspaceIndex,
        range: &ByteRange,
        reverse: bool,
    ) -> Result<RocksCursor<'_>, StorageError> {
        self.cursor_with(index, range, reverse, ReadOptions::default())
    }

    fn cursor_with(
        &self,
        index: KeyspaceIndex,
        range: &ByteRange,
        reverse: bool,
        mut options: ReadOptions,
    ) -> Result<RocksCursor<'_>, StorageError> {
        // No keyspace has a prefix extractor, so every seek is in total order and bounds alone limit the scan.
        options.set_iterate_lower_bound(range.lower.as_slice());
        if let Some(upper) = &range.upper {
            options.set_iterate_upper_bound(upper.as_slice());
        }
        let rows = self.db.raw_iterator_cf_opt(self.family(index)?, options);
        Ok(RocksCursor { rows, reverse, started: false })
    }

    pub(crate) fn put(
        &self,
        batch: &mut WriteBatch,
        index: KeyspaceIndex,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StorageError> {
        batch.put_cf(self.family(index)?, key, value);
        Ok(())
    }

    pub(crate) fn delete(&self, batch: &mut WriteBatch, index: KeyspaceIndex, key: &[u8]) -> Result<(), StorageError> {
        batch.delete_cf(self.family(index)?, key);
        Ok(())
    }

    pub(crate) fn write(&self, batch: &mut WriteBatch) -> Result<(), StorageError> {
        let result = self.db.write_opt(batch, &self.write_options);
        if batch.size_in_bytes() > KEPT_BATCH_BYTES {
            *batch = WriteBatch::default();
        } else {
            batch.clear();
        }
        result.map_err(|error| StorageError::backend("write", error))
    }

    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.db.flush_wal(true).map_err(|error| StorageError::backend("sync its log", error))
    }

    pub(crate) fn approximate_bytes(&self, index: KeyspaceIndex, range: &ByteRange) -> Result<u64, StorageError> {
        // RocksDB wants an end: no key is longer than the limit, so none sorts after this one.
        let last = vec![0xff; MAX_KEY_BYTES + 1];
        let range = Range::new(&range.lower, range.upper.as_deref().unwrap_or(&last));
        let sizes = self.db.get_approximate_sizes_cf(self.family(index)?, &[range]);
        let sizes = sizes.map_err(|error| StorageError::backend("measure", error))?;
        Ok(sizes.into_iter().sum())
    }

    pub(crate) fn compact(&self, index: KeyspaceIndex, range: &ByteRange) -> Result<(), StorageError> {
        let family = self.family(index)?;
        let mut options = CompactOptions::default();
        // Flushes and other compactions go on beside it.
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(family, Some(&range.lower), range.upper.as_ref(), &options);
        Ok(())
    }

    pub(crate) fn backup(&self, target: &Path) -> Result<(), BackupError> {
        // RocksDB makes the folder itself and insists that it does not exist; an empty one may be replaced.
        match std::fs::read_dir(target) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(BackupError::TargetNotEmpty(target.to_owned()));
                }
                std::fs::remove_dir(target)
                    .map_err(|source| BackupError::Target { path: target.to_owned(), source })?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(BackupError::TargetNotEmpty(target.to_owned()));
            }
            Err(source) => return Err(BackupError::Target { path: target.to_owned(), source }),
        }
        let failed = |error| BackupError::Failed(StorageError::backend("make a copy", error));
        Checkpoint::new(&self.db).map_err(failed)?.create_checkpoint(target).map_err(failed)
    }
}

/// One state of the database. Holds the database open.
pub(crate) struct RocksSnapshot {
    // Dropped in the order of declaration: the options and the snapshot point into the database.
    options: ReadOptions,
    snapshot: SnapshotWithThreadMode<'static, Db>,
    rocks: Arc<Rocks>,
}

impl RocksSnapshot {
    pub(crate) fn take(rocks: &Arc<Rocks>) -> Self {
        let snapshot = rocks.db.snapshot();
        // SAFETY: only the lifetime changes. The snapshot borrows `rocks.db`, which lies in the heap allocation of
        // the `Arc` kept in the same struct: it neither moves nor ends before `snapshot`, which is dropped first
        // (field order) and is never handed out with its false lifetime.
        #[expect(unsafe_code, reason = "an owned snapshot borrows from the database that it also owns")]
        let snapshot = unsafe {
            std::mem::transmute::<SnapshotWithThreadMode<'_, Db>, SnapshotWithThreadMode<'static, Db>>(snapshot)
        };
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        RocksSnapshot { options, snapshot, rocks: rocks.clone() }
    }

    pub(crate) fn get_with<R>(
        &self,
        index: KeyspaceIndex,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StorageError> {
        let value = self.rocks.db.get_pinned_cf_opt(self.rocks.family(index)?, key, &self.options);
        Ok(value.map_err(|error| StorageError::backend("read", error))?.map(|value| read(&value)))
    }

    pub(crate) fn cursor(
        &self,
        index: KeyspaceIndex,
        range: &ByteRange,
        reverse: bool,
    ) -> Result<RocksCursor<'_>, StorageError> {
        let mut options = ReadOptions::default();
        // The cursor borrows `self`, so it ends before the snapshot does.
        options.set_snapshot(&self.snapshot);
        self.rocks.cursor_with(index, range, reverse, options)
    }
}

/// A RocksDB iterator within its bounds.
pub(crate) struct RocksCursor<'a> {
    rows: DBRawIteratorWithThreadMode<'a, Db>,
    reverse: bool,
    started: bool,
}

impl RocksCursor<'_> {
    pub(crate) fn advance(&mut self) -> Result<Option<EncodedRow<'_>>, StorageError> {
        match (self.started, self.reverse) {
            (false, false) => self.rows.seek_to_first(),
            (false, true) => self.rows.seek_to_last(),
            (true, false) => self.rows.next(),
            (true, true) => self.rows.prev(),
        }
        self.started = true;
        if !self.rows.valid() {
            self.rows.status().map_err(|error| StorageError::backend("scan", error))?;
            return Ok(None);
        }
        Ok(self.rows.item())
    }
}
