//! What can go wrong between servers, by whose fault it is.

use std::time::Duration;

use http::StatusCode;
use spec::ids::ServerName;

/// Why another server did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// Federation with this server is switched off by configuration (operator).
    #[error("federation with {0} is not allowed here")]
    NotAllowed(ServerName),
    /// It failed lately and is left alone for a while (remote server).
    #[error("{server} failed lately; it is tried again in {seconds} s")]
    BackingOff {
        /// Who failed.
        server: ServerName,
        /// How long it is left alone.
        seconds: u64,
    },
    /// No connection: name, address, TLS, or silence (remote server, or the way to it).
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// Who could not be reached.
        server: ServerName,
        /// Why.
        reason: String,
    },
    /// No answer within the time given (remote server).
    #[error("{0} did not answer in time")]
    Timeout(ServerName),
    /// The answer is larger than allowed (remote server).
    #[error("{0} answered more than is accepted")]
    TooLarge(ServerName),
    /// The answer is not what the specification says (remote server).
    #[error("{server} answered what is not valid: {reason}")]
    Malformed {
        /// Who answered.
        server: ServerName,
        /// What is wrong.
        reason: String,
    },
    /// It answered with an error (remote server, or whoever caused the request).
    #[error("{server} answered {status}: {errcode} {message}")]
    Refused {
        /// Who answered.
        server: ServerName,
        /// The status.
        status: StatusCode,
        /// `errcode`, `M_UNKNOWN` if there was none.
        errcode: String,
        /// `error`.
        message: String,
        /// The whole body as JSON text, for the errors that carry more (`M_INCOMPATIBLE_ROOM_VERSION`).
        body: String,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
}

impl RemoteError {
    /// Whether asking again later, or another server, may help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            RemoteError::NotAllowed(_) => false,
            RemoteError::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => true,
        }
    }
}
