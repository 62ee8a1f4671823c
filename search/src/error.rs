//! What can go wrong with searching.

use rooms::RoomError;
use runtime::TaskFailed;
use storage::{CommitError, StorageError};
use tantivy::TantivyError;
use users::UserError;

/// Why something could not be searched or indexed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The pagination token is not one of ours, or of another search (the client's fault).
    #[error("malformed pagination token")]
    BadToken,
    /// The folder of the index cannot be used (the operator's business).
    #[error("cannot use the folder of the search index: {0}")]
    Folder(#[from] std::io::Error),
    /// The index failed: a full or damaged disk (the operator's business), or a bug.
    #[error("the search index failed: {0}")]
    Index(Box<TantivyError>),
    /// Rooms cannot be read.
    #[error(transparent)]
    Rooms(#[from] RoomError),
    /// Accounts cannot be read.
    #[error(transparent)]
    Users(#[from] UserError),
    /// The store cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The work panicked, or the server stops.
    #[error(transparent)]
    Task(#[from] TaskFailed),
    /// The server stops.
    #[error("the server stops")]
    Stopping,
}

impl From<TantivyError> for SearchError {
    fn from(error: TantivyError) -> SearchError {
        SearchError::Index(Box::new(error))
    }
}
