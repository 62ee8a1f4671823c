//! What can go wrong besides the services themselves.

use rooms::RoomError;
use storage::{CommitError, StorageError};
use users::UserError;

/// Why something cannot be sent: all of these are ours or the operator's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
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
    /// What is kept of a transaction does not fit together.
    #[error("the transaction that was under way is damaged")]
    Damaged,
}

impl DispatchError {
    /// Whether the store fails, and not only a row of it cannot be read.
    pub fn is_of_store(&self) -> bool {
        match self {
            DispatchError::Storage(error) => !matches!(error, StorageError::Corrupt { .. }),
            DispatchError::Rooms(error) => error.is_of_store(),
            DispatchError::Users(error) => error.is_of_store(),
            DispatchError::Commit(_) => true,
            DispatchError::Damaged => false,
        }
    }
}
