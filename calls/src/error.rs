//! What can go wrong with a call, and whose fault it is.

use rooms::RoomError;
use storage::{CommitError, StorageError};
use users::UserError;

use crate::recording::RecordingError;

/// Error of this crate. An edge maps each variant to one status and code.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Calls are switched off, or this server has no public address for them: as if the endpoint did not exist (nobody's
    /// fault).
    #[error("this server offers no calls")]
    Off,
    /// The request lacks something or has a name that can be none (client).
    #[error("{0}")]
    BadRequest(&'static str),
    /// Who asks is not who they say, or their server does not confirm it (client).
    #[error("{0}")]
    NotVerified(&'static str),
    /// The user is not joined to the room, as far as this server knows (client).
    #[error("you are not joined to the room of the call")]
    NotInRoom,
    /// The user may not, for another reason (client).
    #[error("{0}")]
    Forbidden(&'static str),
    /// The media server that is asked for is not the one of this server (client).
    #[error("this is not the address of the media server here")]
    OtherMediaServer,
    /// The delayed event that is to be delegated is not scheduled, or not by this user for this room (client).
    #[error("no such delayed event of yours is scheduled in this room")]
    UnknownDelay,
    /// More leave events are delegated than this server watches (client, or many of them).
    #[error("too many leave events are delegated to this server")]
    TooMany,
    /// A call is not recorded.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Another homeserver refused, and said why.
    #[error("{message}")]
    RemoteRefused {
        /// The status it answered.
        status: u16,
        /// Its `errcode`.
        errcode: String,
        /// Its `error`.
        message: String,
    },
    /// Another homeserver cannot be reached, or is not asked.
    #[error("{0} cannot be asked")]
    RemoteUnavailable(String),
    /// The domain of accounts failed.
    #[error(transparent)]
    Users(#[from] UserError),
    /// The domain of rooms failed.
    #[error(transparent)]
    Rooms(#[from] RoomError),
    /// Reading failed.
    #[error("reading failed: {0}")]
    Storage(#[from] StorageError),
    /// Writing failed.
    #[error("writing failed: {0}")]
    Commit(#[from] CommitError),
}
