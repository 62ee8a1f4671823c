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

impl PushError {
    /// Whether the store failed. Everything else concerns some rows only, also one that does not decode.
    fn is_of_store(&self) -> bool {
        match self {
            PushError::Storage(error) => !matches!(error, StorageError::Corrupt { .. }),
            PushError::Rooms(error) => error.is_of_store(),
            PushError::Users(error) => error.is_of_store(),
            PushError::Commit(_) => true,
            PushError::Task(_) | PushError::Inconsistent(_) => false,
        }
    }
}

/// Goes on without a room or user of which something cannot be read, so that all others still have push.
///
/// # Errors
/// A failure of the store, after which nothing else would work either.
pub(crate) fn leave_out(what: &'static str, number: u64, error: PushError) -> Result<(), PushError> {
    if error.is_of_store() {
        return Err(error);
    }
    tracing::error!(what, number, %error, "left out by push: it cannot be read");
    Ok(())
}
