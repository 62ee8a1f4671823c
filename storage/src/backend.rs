//! The databases below a store, as an enum: one predictable branch per call instead of generics in every crate.

use std::sync::Arc;

use crate::{BackupError, StorageError, StoreFigures, directory::KeyspaceIndex};

mod memory;
mod rocks;

pub use memory::MemoryDisk;
pub(crate) use memory::{Memory, MemorySnapshot};
pub(crate) use rocks::{Rocks, RocksOptions, RocksSnapshot};

/// A half-open range of encoded keys. No upper end means to the end of the keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
}

impl ByteRange {
    pub(crate) fn raise_lower(&mut self, bound: Vec<u8>) {
        if bound > self.lower {
            self.lower = bound;
        }
    }

    pub(crate) fn reduce_upper(&mut self, bound: Vec<u8>) {
        if self.upper.as_ref().is_none_or(|upper| bound < *upper) {
            self.upper = Some(bound);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.upper.as_ref().is_some_and(|upper| *upper <= self.lower)
    }
}

/// An open database.
#[derive(Clone)]
pub(crate) enum Engine {
    Rocks(Arc<Rocks>),
    Memory(Arc<Memory>),
}

/// One state of the database, kept as long as it is held.
pub(crate) enum Frozen {
    Rocks(RocksSnapshot),
    Memory(MemorySnapshot),
}

/// What a read looks at.
#[derive(Clone, Copy)]
pub(crate) enum View<'a> {
    RocksLive(&'a Rocks),
    RocksFrozen(&'a RocksSnapshot),
    MemoryLive(&'a Memory),
    MemoryFrozen(&'a MemorySnapshot),
}

/// The encoded key and value of a row.
pub(crate) type EncodedRow<'a> = (&'a [u8], &'a [u8]);

/// A position in a range of rows.
pub(crate) enum Cursor<'a> {
    Rocks(rocks::RocksCursor<'a>),
    Memory(memory::MemoryCursor),
}

/// The changes of one group of batches, applied by one atomic write.
pub(crate) enum GroupWrite {
    Rocks(rust_rocksdb::WriteBatch),
    Memory(Vec<memory::Change>),
}

impl Engine {
    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Engine::Rocks(rocks) => View::RocksLive(rocks),
            Engine::Memory(memory) => View::MemoryLive(memory),
        }
    }

    pub(crate) fn snapshot(&self) -> Frozen {
        match self {
            Engine::Rocks(rocks) => Frozen::Rocks(RocksSnapshot::take(rocks)),
            Engine::Memory(memory) => Frozen::Memory(memory.snapshot()),
        }
    }

    pub(crate) fn new_write(&self) -> GroupWrite {
        match self {
            Engine::Rocks(_) => GroupWrite::Rocks(rust_rocksdb::WriteBatch::default()),
            Engine::Memory(_) => GroupWrite::Memory(Vec::new()),
        }
    }

    pub(crate) fn put(
        &self,
        write: &mut GroupWrite,
        index: KeyspaceIndex,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StorageError> {
        match (self, write) {
            (Engine::Rocks(rocks), GroupWrite::Rocks(batch)) => rocks.put(batch, index, key, value),
            (_, GroupWrite::Memory(changes)) => {
                changes.push(memory::Change::put(index, key, value));
                Ok(())
            }
            (Engine::Memory(_), GroupWrite::Rocks(_)) => Err(StorageError::backend("write", "mixed backends")),
        }
    }

    pub(crate) fn delete(&self, write: &mut GroupWrite, index: KeyspaceIndex, key: &[u8]) -> Result<(), StorageError> {
        match (self, write) {
            (Engine::Rocks(rocks), GroupWrite::Rocks(batch)) => rocks.delete(batch, index, key),
            (_, GroupWrite::Memory(changes)) => {
                changes.push(memory::Change::delete(index, key));
                Ok(())
            }
            (Engine::Memory(_), GroupWrite::Rocks(_)) => Err(StorageError::backend("write", "mixed backends")),
        }
    }

    /// Writes all changes at once and empties `write`.
    pub(crate) fn write(&self, write: &mut GroupWrite) -> Result<(), StorageError> {
        match (self, write) {
            (Engine::Rocks(rocks), GroupWrite::Rocks(batch)) => rocks.write(batch),
            (Engine::Memory(memory), GroupWrite::Memory(changes)) => {
                memory.write(changes);
                Ok(())
            }
            _ => Err(StorageError::backend("write", "mixed backends")),
        }
    }

    /// Makes all that was written survive a power failure.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        match self {
            Engine::Rocks(rocks) => rocks.sync(),
            Engine::Memory(_) => Ok(()),
        }
    }

    /// About how many bytes the rows of a range take; what was written lately may be missing. `range` must not be empty.
    pub(crate) fn approximate_bytes(&self, index: KeyspaceIndex, range: &ByteRange) -> Result<u64, StorageError> {
        match self {
            Engine::Rocks(rocks) => rocks.approximate_bytes(index, range),
            Engine::Memory(memory) => Ok(memory.bytes(index, range)),
        }
    }

    /// Gives back the space of rows of a range that were deleted. `range` must not be empty.
    pub(crate) fn compact(&self, index: KeyspaceIndex, range: &ByteRange) -> Result<(), StorageError> {
        match self {
            Engine::Rocks(rocks) => rocks.compact(index, range),
            // A row that is deleted is gone.
            Engine::Memory(_) => Ok(()),
        }
    }

    pub(crate) fn figures(&self) -> StoreFigures {
        match self {
            Engine::Rocks(rocks) => rocks.figures(),
            Engine::Memory(_) => StoreFigures::default(),
        }
    }

    pub(crate) fn backup(&self, target: &std::path::Path) -> Result<(), BackupError> {
        match self {
            Engine::Rocks(rocks) => rocks.backup(target),
            Engine::Memory(_) => Err(BackupError::Unsupported),
        }
    }
}

impl Frozen {
    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Frozen::Rocks(snapshot) => View::RocksFrozen(snapshot),
            Frozen::Memory(snapshot) => View::MemoryFrozen(snapshot),
        }
    }
}

impl<'a> View<'a> {
    pub(crate) fn get_with<R>(
        self,
        index: KeyspaceIndex,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StorageError> {
        match self {
            View::RocksLive(rocks) => rocks.get_with(index, key, read),
            View::RocksFrozen(snapshot) => snapshot.get_with(index, key, read),
            View::MemoryLive(memory) => Ok(memory.get(index, key).map(|value| read(&value))),
            View::MemoryFrozen(snapshot) => Ok(snapshot.get(index, key).map(|value| read(value))),
        }
    }

    /// `range` must not be empty.
    pub(crate) fn cursor(
        self,
        index: KeyspaceIndex,
        range: &ByteRange,
        reverse: bool,
    ) -> Result<Cursor<'a>, StorageError> {
        Ok(match self {
            View::RocksLive(rocks) => Cursor::Rocks(rocks.cursor(index, range, reverse)?),
            View::RocksFrozen(snapshot) => Cursor::Rocks(snapshot.cursor(index, range, reverse)?),
            View::MemoryLive(memory) => Cursor::Memory(memory.cursor(index, range, reverse)),
            View::MemoryFrozen(snapshot) => Cursor::Memory(snapshot.cursor(index, range, reverse)),
        })
    }
}

impl Cursor<'_> {
    /// The next row, until `None`; not to be called after that.
    pub(crate) fn advance(&mut self) -> Result<Option<EncodedRow<'_>>, StorageError> {
        match self {
            Cursor::Rocks(cursor) => cursor.advance(),
            Cursor::Memory(cursor) => Ok(cursor.advance()),
        }
    }
}
