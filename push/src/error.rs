//! What can go wrong within this server. Failures of gateways are in `gateway.rs`.

use rooms::RoomError;
use runtime::TaskFailed;
use storage::{CommitError, StorageError};
use users::UserError;

/// Why something cannot be pushed: all of these are ours or the operator's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    /// Reading failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Writing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The rooms failed.
    #[error(transparent)]
    Rooms(#[from] RoomError),
    /// The users failed.
    #[error(transparent)]
    Users(#[from] UserError),
    /// A computation did not end.
    #[error(transparent)]
    Task(#[from] TaskFailed),
    /// A bug, or a damaged store.
    #[error("stored data is inconsistent: {0}")]
    Inconsistent(&'static str),
}
