//! What another server is told when its request fails: one place where errors become statuses and codes.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::response::{IntoResponse, Response};
use calls::CallError;
use http::{HeaderValue, StatusCode, header};
use media::MediaError;
use rooms::RoomError;
use serde_json::{Map, Value};
use spec::pdu::PduError;
use storage::{CommitError, StorageError};
use users::UserError;

use crate::error::RemoteError;

/// Numbers internal errors, so that what another server was told can be found in the log.
static INTERNAL_ERRORS: AtomicU64 = AtomicU64::new(1);

/// When a server that asks too much is told to come back, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// The answer to a request that failed (Server-Server API §API standards: as client errors, `errcode` and `error`).
#[derive(Clone, Debug)]
pub(crate) struct ServeError {
    status: StatusCode,
    errcode: &'static str,
    message: Cow<'static, str>,
    extra: Vec<(&'static str, Value)>,
}

impl ServeError {
    /// Any status and code.
    pub fn new(status: StatusCode, errcode: &'static str, message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError { status, errcode, message: message.into(), extra: Vec::new() }
    }

    /// Adds a property to the body.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> ServeError {
        self.extra.push((key, value.into()));
        self
    }

    /// 400 `M_BAD_JSON`: JSON of the wrong shape.
    pub fn bad_json(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_NOT_JSON`.
    pub fn not_json(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// 400 `M_INVALID_PARAM`.
    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 400 `M_MISSING_PARAM`.
    pub fn missing_param(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 401 `M_UNAUTHORIZED`: the request is not signed by whom it says.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", message)
    }

    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 404 `M_UNRECOGNIZED`: no such endpoint.
    pub fn unrecognized() -> ServeError {
        ServeError::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "unrecognized request")
    }

    /// 413 `M_TOO_LARGE`.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// 429 `M_LIMIT_EXCEEDED`: the other server is to wait.
    pub fn limit_exceeded(retry_after_ms: u64) -> ServeError {
        ServeError::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests")
            .with("retry_after_ms", retry_after_ms)
    }

    /// 503 `M_UNKNOWN`: this server is too busy, or going down.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> ServeError {
        ServeError::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", message).with("retry_after_ms", RETRY_AFTER_MS)
    }

    /// 400 `M_INCOMPATIBLE_ROOM_VERSION` with the version of the room (§Joining Rooms).
    pub fn incompatible_room_version(version: &str) -> ServeError {
        let message = format!("the room has version {version}, which you do not support");
        ServeError::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", message).with("room_version", version)
    }

    /// 400 `M_UNABLE_TO_AUTHORISE_JOIN`: somebody else has to say whether the conditions are met (§Restricted rooms).
    pub fn unable_to_authorise_join() -> ServeError {
        let message = "this server cannot tell whether the user may join; ask another one";
        ServeError::new(StatusCode::BAD_REQUEST, "M_UNABLE_TO_AUTHORISE_JOIN", message)
    }

    /// 400 `M_UNABLE_TO_GRANT_JOIN`: nobody here may let the user in (§Restricted rooms).
    pub fn unable_to_grant_join() -> ServeError {
        let message = "nobody on this server may let the user in; ask another one";
        ServeError::new(StatusCode::BAD_REQUEST, "M_UNABLE_TO_GRANT_JOIN", message)
    }

    /// Logs an error that is not the other server's, and makes what it is told of it.
    pub fn internal(error: &dyn std::error::Error) -> ServeError {
        let number = INTERNAL_ERRORS.fetch_add(1, Ordering::Relaxed);
        let cause = error.source().map(ToString::to_string);
        tracing::error!(number, %error, cause, "a request of another server failed");
        let message = format!("internal error {number}: please tell the administrator of this server");
        ServeError::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", message)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The code.
    #[cfg(test)]
    pub fn errcode(&self) -> &'static str {
        self.errcode
    }

    /// The text for people.
    #[cfg(test)]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body.
    fn body(self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("errcode".into(), self.errcode.into());
        body.insert("error".into(), self.message.into());
        body.extend(self.extra.into_iter().map(|(key, value)| (key.to_owned(), value)));
        body
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.errcode, self.message)
    }
}

impl std::error::Error for ServeError {}

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        let status = self.status;
        let retry_after = self.extra.iter().find(|(key, _)| *key == "retry_after_ms").and_then(|(_, ms)| ms.as_u64());
        // A map with text keys always serialises.
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(ms) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response
    }
}

impl From<StorageError> for ServeError {
    fn from(error: StorageError) -> Self {
        ServeError::internal(&error)
    }
}

impl From<CommitError> for ServeError {
    fn from(error: CommitError) -> Self {
        match error {
            // The store is shutting down: another attempt will reach its successor.
            CommitError::Closed => ServeError::unavailable("this server is going down"),
            CommitError::Expectation { .. }
            | CommitError::TooLarge { .. }
            | CommitError::Unencodable { .. }
            | CommitError::UnknownKeyspace(_)
            | CommitError::Failed(_) => ServeError::internal(&error),
        }
    }
}

impl From<RoomError> for ServeError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::RoomNotFound
            | RoomError::EventNotFound
            | RoomError::StateNotFound
            | RoomError::AliasNotFound
            | RoomError::NotResident => ServeError::not_found(error.to_string()),
            RoomError::NotInRoom
            | RoomError::Forbidden(_)
            | RoomError::Refused(_)
            | RoomError::NotRecommended { .. }
            // The asker goes to the next server, and need not wait for this one.
            | RoomError::StateIncomplete => ServeError::forbidden(error.to_string()),
            RoomError::Invalid(message) => ServeError::invalid_param(message),
            RoomError::BadEvent(error) => error.into(),
            RoomError::UnsupportedVersion(_) => {
                ServeError::new(StatusCode::BAD_REQUEST, "M_UNSUPPORTED_ROOM_VERSION", error.to_string())
            }
            RoomError::AliasTaken => ServeError::new(StatusCode::CONFLICT, "M_UNKNOWN", error.to_string()),
            RoomError::DuplicateAnnotation => {
                ServeError::new(StatusCode::BAD_REQUEST, "M_DUPLICATE_ANNOTATION", error.to_string())
            }
            // The event cites what nobody could deliver, or states that contradict each other: its sender's affair.
            RoomError::Missing(_) | RoomError::Resolve(_) => ServeError::forbidden(error.to_string()),
            RoomError::RemoteUnavailable(_) | RoomError::RemoteRefused { .. } => {
                ServeError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", error.to_string())
            }
            RoomError::Busy => ServeError::limit_exceeded(RETRY_AFTER_MS),
            RoomError::Storage(error) => error.into(),
            RoomError::Commit(error) => error.into(),
            RoomError::Inconsistent(_) => ServeError::internal(&error),
        }
    }
}

impl From<PduError> for ServeError {
    fn from(error: PduError) -> Self {
        match error {
            PduError::TooLarge | PduError::FieldTooLong(_) => ServeError::too_large(error.to_string()),
            PduError::BadJson(_)
            | PduError::NotCanonical(_)
            | PduError::MissingField(_)
            | PduError::UnexpectedField(_)
            | PduError::InvalidField(_)
            | PduError::InvalidId(..)
            | PduError::TooManyEvents(_) => ServeError::bad_json(error.to_string()),
        }
    }
}

impl From<UserError> for ServeError {
    fn from(error: UserError) -> Self {
        let message = error.to_string();
        let bad = |errcode| ServeError::new(StatusCode::BAD_REQUEST, errcode, message.clone());
        match error {
            UserError::NotFound(_) | UserError::UserDeactivated => ServeError::not_found(message),
            UserError::Forbidden(_)
            | UserError::RegistrationClosed
            | UserError::GuestsForbidden
            | UserError::CannotLeaveNotices
            | UserError::ServerNoticesOff
            | UserError::UserLocked
            | UserError::AwaitingApproval
            | UserError::AccountExpired
            | UserError::UserSuspended => ServeError::forbidden(message),
            UserError::UnknownToken { .. } => {
                ServeError::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", message.clone())
            }
            UserError::BadJson(_) | UserError::ReservedAccountData => bad("M_BAD_JSON"),
            UserError::InvalidParam(_)
            | UserError::UserInUse
            | UserError::IdentityInUse(_)
            | UserError::Exclusive(_)
            | UserError::UnknownDevice
            | UserError::InvalidUsername(_)
            | UserError::WeakPassword(_)
            | UserError::WrongRoomKeysVersion { .. }
            | UserError::PushRule(_) => bad("M_INVALID_PARAM"),
            UserError::MissingParam(_) => bad("M_MISSING_PARAM"),
            UserError::InvalidSignature(_) => bad("M_INVALID_SIGNATURE"),
            UserError::TooLarge(_) | UserError::ProfileTooLarge | UserError::KeyTooLarge => {
                ServeError::too_large(message)
            }
            UserError::Busy { retry_after_ms } => ServeError::limit_exceeded(retry_after_ms),
            UserError::ShuttingDown | UserError::RemoteUnavailable(_) | UserError::RemoteRefused { .. } => {
                ServeError::unavailable(message)
            }
            UserError::Storage(error) => error.into(),
            UserError::Commit(error) => error.into(),
            UserError::Rooms(error) => error.into(),
            UserError::Inconsistent(_) => ServeError::internal(&error),
        }
    }
}

impl From<MediaError> for ServeError {
    fn from(error: MediaError) -> Self {
        let message = error.to_string();
        let coded = |status, errcode| ServeError::new(status, errcode, message.clone());
        match error {
            MediaError::NotFound => ServeError::not_found(message),
            MediaError::NotYours => ServeError::forbidden(message),
            MediaError::AlreadyUploaded => coded(StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA"),
            MediaError::NotYetUploaded => coded(StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED"),
            MediaError::TooLarge { .. } | MediaError::ImageTooLarge => ServeError::too_large(message),
            MediaError::TooManyPending { retry_after_ms } => ServeError::limit_exceeded(retry_after_ms),
            MediaError::InvalidDescription(_) | MediaError::InvalidSize => ServeError::invalid_param(message),
            MediaError::NotThumbnailable => coded(StatusCode::BAD_REQUEST, "M_UNKNOWN"),
            MediaError::RemoteTooLarge { .. } => coded(StatusCode::BAD_GATEWAY, "M_TOO_LARGE"),
            MediaError::RemoteUnavailable => coded(StatusCode::BAD_GATEWAY, "M_UNKNOWN"),
            MediaError::Storage(error) => error.into(),
            MediaError::Commit(error) => error.into(),
            MediaError::Disk { .. } | MediaError::Interrupted => ServeError::internal(&error),
            // Of uploads and of previews of web pages, which no server asks another for.
            MediaError::QuotaExceeded { .. }
            | MediaError::PreviewsOff
            | MediaError::TooManyPreviews { .. }
            | MediaError::InvalidUrl
            | MediaError::UrlDenied
            | MediaError::PageUnavailable => ServeError::internal(&error),
        }
    }
}

impl From<CallError> for ServeError {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Off => ServeError::unrecognized(),
            CallError::BadRequest(_) => ServeError::bad_json(message),
            CallError::NotVerified(_) => ServeError::unauthorized(message),
            CallError::NotInRoom | CallError::Forbidden(_) => ServeError::forbidden(message),
            CallError::OtherMediaServer | CallError::UnknownDelay => ServeError::invalid_param(message),
            CallError::TooMany => ServeError::limit_exceeded(RETRY_AFTER_MS),
            CallError::RemoteRefused { .. } | CallError::RemoteUnavailable(_) => {
                ServeError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
            }
            // No server is asked to record.
            CallError::Recording(_) => ServeError::internal(&error),
            CallError::Users(error) => error.into(),
            CallError::Rooms(error) => error.into(),
            CallError::Storage(error) => error.into(),
            CallError::Commit(error) => error.into(),
        }
    }
}

impl From<RemoteError> for ServeError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::NotAllowed(_) => ServeError::forbidden(error.to_string()),
            RemoteError::Timeout(_) => ServeError::new(StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", error.to_string()),
            RemoteError::BackingOff { .. }
            | RemoteError::Unreachable { .. }
            | RemoteError::TooLarge(_)
            | RemoteError::Malformed { .. }
            | RemoteError::Refused { .. } => ServeError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
