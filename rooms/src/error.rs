//! What can go wrong in a room, by whose fault it is.

use spec::auth::AuthFailure;
use spec::pdu::PduError;
use spec::state_res::ResolveError;
use storage::{CommitError, Corrupt, StorageError};

/// Why a room operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The room is not known here (client).
    #[error("this server does not know the room")]
    RoomNotFound,
    /// The event does not exist, or the viewer may not see it; deliberately one answer (client).
    #[error("the event was not found, or you may not see it")]
    EventNotFound,
    /// The room has no such state (client).
    #[error("the room has no such state event")]
    StateNotFound,
    /// The viewer is not, and never was, in the room (client).
    #[error("you are not in this room")]
    NotInRoom,
    /// The authorisation rules forbid the event (client, or remote server).
    #[error("{0}")]
    Forbidden(AuthFailure),
    /// Refused by this server, for the reason given (client).
    #[error("{0}")]
    Refused(&'static str),
    /// A parameter is wrong (client).
    #[error("{0}")]
    Invalid(&'static str),
    /// The event breaks the event format or its limits (client, or remote server).
    #[error("{0}")]
    BadEvent(PduError),
    /// The room version is not supported (client).
    #[error("room version {0} is not supported")]
    UnsupportedVersion(String),
    /// Somebody has the alias already (client).
    #[error("the alias is taken")]
    AliasTaken,
    /// The sender has annotated the event like this before (client).
    #[error("you have already sent this annotation")]
    DuplicateAnnotation,
    /// Nobody has the alias (client).
    #[error("the alias does not exist")]
    AliasNotFound,
    /// Events that this one cites are not known yet: fetch them first (remote server, or nobody).
    #[error("{} of the events it cites are missing here", .0.len())]
    Missing(Vec<spec::ids::EventId>),
    /// Another server would be needed, and cannot be reached (remote server, or operator).
    #[error("{0} cannot be reached")]
    RemoteUnavailable(String),
    /// Another server refused, and said why (client, or remote server).
    #[error("{server} refused: {message}")]
    RemoteRefused {
        /// Who refused.
        server: spec::ids::ServerName,
        /// The status it answered.
        status: u16,
        /// Its `errcode`.
        errcode: String,
        /// Its `error`.
        message: String,
    },
    /// The room's policy server does not recommend the event, or does not say so (client, or remote server).
    #[error("{server}, the room's policy server, did not recommend the event: {message}")]
    NotRecommended {
        /// The policy server.
        server: spec::ids::ServerName,
        /// The status it answered.
        status: u16,
        /// Its `errcode`.
        errcode: String,
        /// Its `error`.
        message: String,
        /// After how many milliseconds it may be asked again, if it says so.
        retry_after_ms: Option<u64>,
    },
    /// This server has nobody in the room: another one has to do it (client: nobody's fault).
    #[error("this server is not in the room")]
    NotResident,
    /// Not all of the room's state is here yet, and without it this cannot be said; it is being fetched (nobody's fault).
    #[error("the room's state is still arriving")]
    StateIncomplete,
    /// The server is shutting down, or too much waits for this room; try again (us).
    #[error("the server is too busy; try again")]
    Busy,
    /// State resolution failed (remote server, or us).
    #[error("state could not be resolved: {0}")]
    Resolve(#[from] ResolveError),
    /// Storage failed or holds damaged rows (operator, or us).
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A commit failed (operator, or us).
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Stored rows contradict each other (us).
    #[error("stored data is inconsistent: {0}")]
    Inconsistent(&'static str),
}

impl From<AuthFailure> for RoomError {
    fn from(failure: AuthFailure) -> Self {
        RoomError::Forbidden(failure)
    }
}

impl From<PduError> for RoomError {
    fn from(error: PduError) -> Self {
        RoomError::BadEvent(error)
    }
}

impl From<Corrupt> for RoomError {
    fn from(corrupt: Corrupt) -> Self {
        RoomError::Storage(StorageError::Corrupt { keyspace: "rooms", source: corrupt })
    }
}

impl RoomError {
    /// Whether the store fails, and not only a row of it cannot be read: then nothing else would work either.
    #[must_use]
    pub fn is_of_store(&self) -> bool {
        match self {
            RoomError::Storage(error) => !matches!(error, StorageError::Corrupt { .. }),
            RoomError::Commit(_) => true,
            _ => false,
        }
    }
}
