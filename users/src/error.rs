//! Everything that can go wrong with an account, and whose fault it is.

use rooms::RoomError;
use storage::{CommitError, StorageError};

/// Error of the `users` domain. An edge maps each variant to exactly one `errcode`.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    // The client asked for something impossible.
    /// The user ID is taken (`M_USER_IN_USE`).
    #[error("this user ID is already in use")]
    UserInUse,
    /// The localpart breaks the grammar for new user IDs (`M_INVALID_USERNAME`).
    #[error("this user name is not valid: {0}")]
    InvalidUsername(&'static str),
    /// The password is too short or too long (`M_WEAK_PASSWORD`).
    #[error("this password is not acceptable: {0}")]
    WeakPassword(&'static str),
    /// Wrong password, or an action that this account may not take (`M_FORBIDDEN`).
    #[error("{0}")]
    Forbidden(&'static str),
    /// The user or alias belongs to an application service, or is none of the caller's (`M_EXCLUSIVE`).
    #[error("{0}")]
    Exclusive(&'static str),
    /// An application service acts as a device that the user does not have (`M_UNKNOWN_DEVICE`).
    #[error("the user has no such device")]
    UnknownDevice,
    /// Registration is closed here (`M_FORBIDDEN`).
    #[error("registration is closed on this server")]
    RegistrationClosed,
    /// Server notices are switched off (`M_UNKNOWN`).
    #[error("server notices are not configured on this server")]
    ServerNoticesOff,
    /// The invitation to a server notices room cannot be rejected (`M_CANNOT_LEAVE_SERVER_NOTICE_ROOM`).
    #[error("the invitation to the room of server notices cannot be rejected")]
    CannotLeaveNotices,
    /// Guest accounts are switched off (`M_GUEST_ACCESS_FORBIDDEN`).
    #[error("guest accounts are not allowed on this server")]
    GuestsForbidden,
    /// The access or refresh token is unknown or expired (`M_UNKNOWN_TOKEN`).
    #[error("the access token is unknown or expired")]
    UnknownToken {
        /// True when the client may log in again with the same device and keep its data.
        soft_logout: bool,
    },
    /// An administrator locked the account (`M_USER_LOCKED`, soft logout).
    #[error("this account is locked")]
    UserLocked,
    /// An administrator suspended the account (`M_USER_SUSPENDED`).
    #[error("this account is suspended")]
    UserSuspended,
    /// The account no longer exists (`M_USER_DEACTIVATED`).
    #[error("this account has been deactivated")]
    UserDeactivated,
    /// Nobody has approved the account yet (`ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL`).
    #[error("this account has to be approved by an administrator before it can be used")]
    AwaitingApproval,
    /// The account has expired, and has to be renewed (`ORG_MATRIX_EXPIRED_ACCOUNT`).
    #[error("this account has expired: ask an administrator to renew it")]
    AccountExpired,
    /// An address or external id belongs to another account (409 `M_UNKNOWN`).
    #[error("{0} belongs to another account")]
    IdentityInUse(&'static str),
    /// What was asked for does not exist (`M_NOT_FOUND`).
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The body has the wrong shape (`M_BAD_JSON`).
    #[error("{0}")]
    BadJson(&'static str),
    /// A value is not acceptable (`M_INVALID_PARAM`).
    #[error("{0}")]
    InvalidParam(&'static str),
    /// A required value is absent (`M_MISSING_PARAM`).
    #[error("{0} is missing")]
    MissingParam(&'static str),
    /// A value exceeds a limit (`M_TOO_LARGE`).
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// The whole profile would exceed 64 KiB (`M_PROFILE_TOO_LARGE`).
    #[error("the profile would exceed 64 KiB")]
    ProfileTooLarge,
    /// A profile field's name exceeds 255 bytes (`M_KEY_TOO_LARGE`).
    #[error("the profile key exceeds 255 bytes")]
    KeyTooLarge,
    /// A signature is absent or wrong (`M_INVALID_SIGNATURE`).
    #[error("{0}")]
    InvalidSignature(&'static str),
    /// Keys were sent to a backup version that is not the current one (`M_WRONG_ROOM_KEYS_VERSION`).
    #[error("the current backup version is {current}")]
    WrongRoomKeysVersion {
        /// The version that the client should have used.
        current: u64,
    },
    /// A type of account data that only the server writes (`M_BAD_JSON`, status 405).
    #[error("this type of account data is managed by the server")]
    ReservedAccountData,
    /// A push rule could not be edited (`M_NOT_FOUND`, `M_INVALID_PARAM`, … by variant).
    #[error(transparent)]
    PushRule(#[from] spec::push::EditError),
    /// Too many password checks are waiting (`M_LIMIT_EXCEEDED`).
    #[error("the server is busy")]
    Busy {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },

    // Another server's fault, or that of the way to it.
    /// Another server would be needed, and cannot be reached or is not asked (502 `M_UNKNOWN`).
    #[error("{0} cannot be reached")]
    RemoteUnavailable(String),
    /// Another server refused, and said why.
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

    // Ours, or the operator's.
    /// Reading failed.
    #[error("reading failed: {0}")]
    Storage(#[from] StorageError),
    /// Writing failed.
    #[error("writing failed: {0}")]
    Commit(#[from] CommitError),
    /// The room domain failed.
    #[error("rooms failed: {0}")]
    Rooms(#[from] RoomError),
    /// A stored row refers to something that is not there: a bug or a damaged store.
    #[error("stored data is inconsistent: {0}")]
    Inconsistent(&'static str),
    /// The blocking pool refused a password hash: the server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl UserError {
    /// Whether the store fails, and not only a row of it cannot be read: then nothing else would work either.
    #[must_use]
    pub fn is_of_store(&self) -> bool {
        match self {
            UserError::Storage(error) => !matches!(error, StorageError::Corrupt { .. }),
            UserError::Rooms(error) => error.is_of_store(),
            UserError::Commit(_) => true,
            _ => false,
        }
    }
}
