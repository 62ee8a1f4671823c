//! Errors of this crate. Each variant says whose fault it is: the operator's, the disk's, or ours.

use std::{io, path::PathBuf, sync::Arc};

/// Stored bytes that do not decode as the type of their keyspace: damage on disk, or a bug of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored bytes are not valid: {0}")]
pub struct Corrupt(pub &'static str);

/// Why a read failed. None of these is a client's fault.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// A row does not decode (damage on disk, or ours).
    #[error("keyspace {keyspace}: {source}")]
    Corrupt {
        /// The keyspace of the row.
        keyspace: &'static str,
        /// What was wrong.
        source: Corrupt,
    },
    /// The keyspace was not listed when the store was opened (ours).
    #[error("keyspace {0} was not declared when the store was opened")]
    UnknownKeyspace(&'static str),
    /// The database below reported an error (operator: disk full, disk damaged, permissions).
    #[error("the database could not {operation}: {detail}")]
    Backend {
        /// What was tried.
        operation: &'static str,
        /// The database's own words.
        detail: String,
    },
    /// The committer ended before it answered: whether the batch is on disk is unknown until the next start.
    #[error("the store stopped before it confirmed the write")]
    Stopped,
}

impl StorageError {
    pub(crate) fn backend(operation: &'static str, error: impl std::fmt::Display) -> Self {
        StorageError::Backend { operation, detail: error.to_string() }
    }
}

/// Why a batch was not committed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A row was not as the batch expected; nothing was written. Read again and decide.
    #[error("a row of keyspace {keyspace} was changed by someone else")]
    Expectation {
        /// The keyspace of the row.
        keyspace: &'static str,
    },
    /// A key, value or batch is over its limit (ours: callers must split or refuse earlier); nothing was written.
    #[error("{what} of {bytes} bytes is over the limit of {limit} (keyspace {keyspace})")]
    TooLarge {
        /// "key", "value" or "batch".
        what: &'static str,
        /// The keyspace of the row, or of the last row for a batch.
        keyspace: &'static str,
        /// The size found.
        bytes: usize,
        /// The size allowed.
        limit: usize,
    },
    /// A value could not be encoded (ours); nothing was written.
    #[error("a value of keyspace {keyspace} cannot be encoded")]
    Unencodable {
        /// The keyspace of the row.
        keyspace: &'static str,
    },
    /// A keyspace of the batch was not declared at opening (ours); nothing was written.
    #[error("keyspace {0} was not declared when the store was opened")]
    UnknownKeyspace(&'static str),
    /// The disk failed. If it was during the write, the store accepts no further commits until it is opened again.
    #[error("the change could not be stored: {0}")]
    Failed(#[source] Arc<StorageError>),
    /// The store was closed before the batch was submitted; nothing was written.
    #[error("the store is closed")]
    Closed,
}

/// Why a store could not be opened; the texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store of this one, has the database open.
    #[error("the database {path} is in use by another process")]
    Locked {
        /// Where the database is.
        path: PathBuf,
    },
    /// The process may not read or write the folder.
    #[error("no permission to open the database {path}: {detail}")]
    Denied {
        /// Where the database is.
        path: PathBuf,
        /// The system's words.
        detail: String,
    },
    /// Written by a later version of this software.
    #[error("the database {path} has storage format {found}, this version supports {supported}: use a newer version")]
    WrongFormat {
        /// Where the database is.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format of this version.
        supported: u32,
    },
    /// A RocksDB database that this software did not make.
    #[error("{path} holds a database that is not Conduit's")]
    Foreign {
        /// Where the database is.
        path: PathBuf,
    },
    /// The database is damaged: restore a backup.
    #[error("the database {path} is damaged ({detail}): restore a backup")]
    Damaged {
        /// Where the database is.
        path: PathBuf,
        /// The database's own words.
        detail: String,
    },
    /// Any other failure of the database or the file system.
    #[error("the database {path} could not be opened: {detail}")]
    Backend {
        /// Where the database is.
        path: PathBuf,
        /// The database's own words.
        detail: String,
    },
    /// Two keyspaces share a name, or one uses a reserved name (ours).
    #[error("keyspace name {0} is declared twice or reserved")]
    KeyspaceName(&'static str),
    /// The system refused a thread.
    #[error("the storage thread could not be started: {0}")]
    Thread(#[source] io::Error),
}

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The memory backend has nothing to copy.
    #[error("this storage backend cannot be backed up")]
    Unsupported,
    /// The target must be a new or empty folder (operator).
    #[error("the backup target {0} is not an empty folder")]
    TargetNotEmpty(PathBuf),
    /// The target could not be prepared (operator).
    #[error("the backup target {path} cannot be used: {source}")]
    Target {
        /// The target.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The copy failed (operator: disk full); the target is incomplete and must be deleted.
    #[error("the backup failed: {0}")]
    Failed(#[source] StorageError),
}
