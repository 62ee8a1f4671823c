//! What the database tells of itself.

use std::time::Duration;

/// Figures of the database, as they are at one moment. All sizes are in bytes. Memory backends have none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Changes in memory that are in the log but not in files yet.
    pub write_buffers: u64,
    /// Blocks of files in the cache.
    pub block_cache: u64,
    /// Indexes and filters outside of the cache.
    pub table_readers: u64,
    /// How many bytes files of each level have, from level 0.
    pub levels: Vec<u64>,
    /// How many files there are.
    pub files: u64,
    /// What merging files is behind by, about.
    pub pending_compaction: u64,
    /// Merges of files in progress.
    pub running_compactions: u64,
    /// Write buffers being written to files.
    pub running_flushes: u64,
    /// Whether the database has stopped taking writes until it has caught up.
    pub writes_stopped: bool,
    /// To how many bytes a second it has slowed writes down; 0 if it has not.
    pub slowed_to: u64,
}

/// What one write cost: the batches of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFigures {
    /// How many batches it had.
    pub batches: usize,
    /// Their size in bytes, about.
    pub bytes: usize,
    /// How long writing took; with durable commits, with the disk sync.
    pub write: Duration,
    /// From the end of the write until everybody who observes commits had been told.
    pub publish: Duration,
}
