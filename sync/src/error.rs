//! What can go wrong in a sync request, by whose fault it is.

use rooms::RoomError;
use storage::StorageError;
use users::UserError;

/// Why a sync request failed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A token that this server has not given out (client; `M_INVALID_PARAM`).
    #[error("the token is malformed")]
    InvalidToken,
    /// The sliding sync connection is not known, or has gone on since (client; `M_UNKNOWN_POS`).
    #[error("the connection is not known; start again without pos")]
    UnknownPos,
    /// A parameter is wrong (client; `M_INVALID_PARAM`).
    #[error("{0}")]
    Invalid(&'static str),
    /// The body has the wrong shape (client; `M_BAD_JSON`).
    #[error("the body is malformed: {0}")]
    BadJson(String),
    /// The rooms could not be read (see the inner error).
    #[error(transparent)]
    Rooms(#[from] RoomError),
    /// The user's data could not be read (see the inner error).
    #[error(transparent)]
    Users(#[from] UserError),
    /// Storage failed (operator, or us).
    #[error(transparent)]
    Storage(#[from] StorageError),
}
