//! What can go wrong with an operation, and whose fault it is.

use calls::CallError;
use media::MediaError;
use rooms::RoomError;
use search::SearchError;
use storage::{CommitError, StorageError};
use users::UserError;

/// Why an operation was refused or failed. The text is what the administrator reads.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// What was named does not exist here (administrator; 404).
    #[error("{0}")]
    NotFound(String),
    /// An argument makes no sense (administrator; 400).
    #[error("{0}")]
    Invalid(String),
    /// Too much at once (administrator; 413).
    #[error("{0}")]
    TooLarge(String),
    /// The caller may not do this, or nobody may (administrator; 403).
    #[error("{0}")]
    Forbidden(String),
    /// It contradicts what is already so, such as a name that is taken (administrator; 409).
    #[error("{0}")]
    Conflict(String),
    /// Too many requests (administrator; 429).
    #[error("{message}")]
    Limited {
        /// What was too much.
        message: String,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// It cannot be done now: another server does not answer, a part is switched off, the server stops (nobody, or the
    /// operator; 503).
    #[error("{0}")]
    Unavailable(String),
    /// What tools expect to be told with a status and a code of its own (administrator).
    #[error("{message}")]
    Coded {
        /// The HTTP status.
        status: u16,
        /// The Matrix error code.
        errcode: &'static str,
        /// The text.
        message: String,
    },
    /// Storage failed, or a bug of ours (500).
    #[error("internal error: {0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AdminError {
    /// [`AdminError::NotFound`].
    pub fn not_found(text: impl Into<String>) -> AdminError {
        AdminError::NotFound(text.into())
    }

    /// [`AdminError::Invalid`].
    pub fn invalid(text: impl Into<String>) -> AdminError {
        AdminError::Invalid(text.into())
    }

    /// [`AdminError::Forbidden`].
    pub fn forbidden(text: impl Into<String>) -> AdminError {
        AdminError::Forbidden(text.into())
    }

    /// [`AdminError::Conflict`].
    pub fn conflict(text: impl Into<String>) -> AdminError {
        AdminError::Conflict(text.into())
    }

    /// [`AdminError::Unavailable`].
    pub fn unavailable(text: impl Into<String>) -> AdminError {
        AdminError::Unavailable(text.into())
    }

    /// [`AdminError::Coded`].
    pub fn coded(status: u16, errcode: &'static str, message: impl Into<String>) -> AdminError {
        AdminError::Coded { status, errcode, message: message.into() }
    }

    /// [`AdminError::Internal`].
    pub fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AdminError {
        AdminError::Internal(error.into())
    }

    /// Whether the same may work later without anybody's doing.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, AdminError::Unavailable(_) | AdminError::Limited { .. })
    }
}

impl From<StorageError> for AdminError {
    fn from(error: StorageError) -> Self {
        AdminError::internal(error)
    }
}

impl From<CommitError> for AdminError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Closed => AdminError::unavailable("the server is shutting down"),
            CommitError::Expectation { .. }
            | CommitError::TooLarge { .. }
            | CommitError::Unencodable { .. }
            | CommitError::UnknownKeyspace(_)
            | CommitError::Failed(_) => AdminError::internal(error),
        }
    }
}

impl From<RoomError> for AdminError {
    fn from(error: RoomError) -> Self {
        let text = error.to_string();
        match error {
            RoomError::RoomNotFound
            | RoomError::EventNotFound
            | RoomError::StateNotFound
            | RoomError::AliasNotFound => AdminError::NotFound(text),
            RoomError::Forbidden(_)
            | RoomError::NotInRoom
            | RoomError::NotResident
            | RoomError::Refused(_)
            | RoomError::RemoteRefused { .. }
            | RoomError::NotRecommended { .. } => AdminError::Forbidden(text),
            RoomError::Invalid(_) | RoomError::BadEvent(_) | RoomError::UnsupportedVersion(_) => {
                AdminError::Invalid(text)
            }
            RoomError::AliasTaken | RoomError::DuplicateAnnotation => AdminError::Conflict(text),
            RoomError::RemoteUnavailable(_) | RoomError::StateIncomplete | RoomError::Busy => {
                AdminError::Unavailable(text)
            }
            RoomError::Storage(error) => error.into(),
            RoomError::Commit(error) => error.into(),
            // A room that this server is still learning, or a bug.
            error => AdminError::internal(error),
        }
    }
}

impl From<UserError> for AdminError {
    fn from(error: UserError) -> Self {
        let text = error.to_string();
        match error {
            UserError::NotFound(_) | UserError::UnknownDevice => AdminError::NotFound(text),
            UserError::UserInUse | UserError::IdentityInUse(_) | UserError::Exclusive(_) => AdminError::Conflict(text),
            UserError::Busy { retry_after_ms } => AdminError::Limited { message: text, retry_after_ms },
            UserError::TooLarge(_) | UserError::ProfileTooLarge | UserError::KeyTooLarge => AdminError::TooLarge(text),
            UserError::InvalidUsername(_)
            | UserError::WeakPassword(_)
            | UserError::BadJson(_)
            | UserError::InvalidParam(_)
            | UserError::MissingParam(_)
            | UserError::InvalidSignature(_)
            | UserError::WrongRoomKeysVersion { .. }
            | UserError::PushRule(_) => AdminError::Invalid(text),
            UserError::RemoteUnavailable(_) | UserError::ShuttingDown | UserError::ServerNoticesOff => {
                AdminError::Unavailable(text)
            }
            UserError::Storage(error) => error.into(),
            UserError::Commit(error) => error.into(),
            UserError::Rooms(error) => error.into(),
            UserError::Inconsistent(_) => AdminError::internal(error),
            // What is left is refused to the caller, whatever they send.
            _ => AdminError::Forbidden(text),
        }
    }
}

impl From<MediaError> for AdminError {
    fn from(error: MediaError) -> Self {
        let text = error.to_string();
        match error {
            MediaError::NotFound => AdminError::NotFound(text),
            MediaError::TooLarge { .. } | MediaError::ImageTooLarge | MediaError::RemoteTooLarge { .. } => {
                AdminError::TooLarge(text)
            }
            MediaError::AlreadyUploaded => AdminError::Conflict(text),
            MediaError::TooManyPending { retry_after_ms } | MediaError::TooManyPreviews { retry_after_ms } => {
                AdminError::Limited { message: text, retry_after_ms }
            }
            MediaError::InvalidDescription(_)
            | MediaError::InvalidSize
            | MediaError::InvalidUrl
            | MediaError::NotThumbnailable => AdminError::Invalid(text),
            MediaError::NotYetUploaded
            | MediaError::PreviewsOff
            | MediaError::RemoteUnavailable
            | MediaError::PageUnavailable
            | MediaError::Interrupted => AdminError::Unavailable(text),
            MediaError::Storage(error) => error.into(),
            MediaError::Commit(error) => error.into(),
            MediaError::Disk { .. } => AdminError::internal(error),
            // What is left is refused, whatever the caller sends.
            _ => AdminError::Forbidden(text),
        }
    }
}

impl From<CallError> for AdminError {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::Off | CallError::RemoteUnavailable(_) => AdminError::Unavailable(text),
            CallError::UnknownDelay => AdminError::NotFound(text),
            CallError::Users(error) => error.into(),
            CallError::Rooms(error) => error.into(),
            CallError::Storage(error) => error.into(),
            CallError::Commit(error) => error.into(),
            _ => AdminError::Invalid(text),
        }
    }
}

impl From<SearchError> for AdminError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::BadToken => AdminError::invalid(error.to_string()),
            SearchError::Stopping => AdminError::unavailable("the server is shutting down"),
            SearchError::Rooms(error) => error.into(),
            SearchError::Users(error) => error.into(),
            SearchError::Storage(error) => error.into(),
            SearchError::Commit(error) => error.into(),
            SearchError::Folder(_) | SearchError::Index(_) | SearchError::Task(_) => AdminError::internal(error),
        }
    }
}
