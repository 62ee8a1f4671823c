//! Errors as clients see them (Client-Server API §"Standard error response").
//!
//! The only place where an error of a domain gets its status and code. An internal error is logged here, once, under
//! a number that the client is told.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use ::calls::CallError;
use ::media::MediaError;
use ::search::SearchError;
use ::sync::SyncError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rooms::{DelayError, RoomError};
use serde_json::{Map, Value};
use spec::auth::AuthFailure;
use spec::pdu::PduError;
use spec::push::EditError;
use storage::{CommitError, StorageError};
use users::{Challenge, UserError};

use crate::json::json_response;

/// What a request is refused with.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// A status, a code and a sentence.
    Coded(Box<Coded>),
    /// More authentication is needed: 401 with the flows.
    Challenge(Box<Challenge>),
}

/// See [`ApiError::Coded`].
#[derive(Debug)]
pub(crate) struct Coded {
    status: StatusCode,
    errcode: Cow<'static, str>,
    message: Cow<'static, str>,
    /// Further keys of the body.
    extra: Vec<(&'static str, Value)>,
}

static INTERNAL_ERRORS: AtomicU64 = AtomicU64::new(1);

impl ApiError {
    pub fn new(status: StatusCode, errcode: &'static str, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::Coded(Box::new(Coded { status, errcode: errcode.into(), message: message.into(), extra: Vec::new() }))
    }

    /// With a further key in the body.
    pub fn with(self, key: &'static str, value: impl Into<Value>) -> ApiError {
        match self {
            ApiError::Coded(mut coded) => {
                coded.extra.push((key, value.into()));
                ApiError::Coded(coded)
            }
            challenge @ ApiError::Challenge(_) => challenge,
        }
    }

    pub fn bad_json(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    pub fn not_json(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    pub fn missing_param(name: &'static str) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", format!("{name} is missing"))
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message)
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    pub fn not_found(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    pub fn unrecognized() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "unrecognized request")
    }

    pub fn too_large(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    pub fn missing_token() -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "an access token is required")
    }

    pub fn limit_exceeded(retry_after_ms: u64) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests")
            .with("retry_after_ms", retry_after_ms)
    }

    /// Logs an error that is not the client's, and makes what the client is told of it.
    pub fn internal(error: &dyn std::error::Error) -> ApiError {
        let number = INTERNAL_ERRORS.fetch_add(1, Ordering::Relaxed);
        let cause = error.source().map(ToString::to_string);
        tracing::error!(number, %error, cause, "a request failed");
        let message = format!("internal error {number}: please tell the administrator of this server");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", message)
    }

    /// The Matrix error code; that of the failed stage, if any, for a challenge.
    #[cfg(test)]
    pub fn errcode(&self) -> &str {
        match self {
            ApiError::Coded(coded) => &coded.errcode,
            ApiError::Challenge(challenge) => challenge.errcode.unwrap_or_default(),
        }
    }

    fn retry_after_ms(&self) -> Option<u64> {
        let ApiError::Coded(coded) = self else { return None };
        coded.extra.iter().find(|(key, _)| *key == "retry_after_ms")?.1.as_u64()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::Coded(coded) => write!(f, "{} {}: {}", coded.status.as_u16(), coded.errcode, coded.message),
            ApiError::Challenge(_) => f.write_str("401: more authentication is needed"),
        }
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after_ms = self.retry_after_ms();
        let (status, body) = match self {
            ApiError::Coded(coded) => {
                let mut body = Map::new();
                body.insert("errcode".into(), Value::from(coded.errcode));
                body.insert("error".into(), coded.message.into());
                body.extend(coded.extra.into_iter().map(|(key, value)| (key.to_owned(), value)));
                (coded.status, serde_json::to_vec(&body))
            }
            ApiError::Challenge(challenge) => (StatusCode::UNAUTHORIZED, serde_json::to_vec(&challenge)),
        };
        // Maps with text keys always serialise.
        let mut response = json_response(status, body.unwrap_or_default().into());
        if let Some(ms) = retry_after_ms {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response
    }
}

impl From<std::convert::Infallible> for ApiError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        ApiError::internal(&error)
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            // The store is shutting down: another attempt will reach its successor.
            CommitError::Closed => ApiError::limit_exceeded(1000),
            CommitError::Expectation { .. }
            | CommitError::TooLarge { .. }
            | CommitError::Unencodable { .. }
            | CommitError::UnknownKeyspace(_)
            | CommitError::Failed(_) => ApiError::internal(&error),
        }
    }
}

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::RoomNotFound
            | RoomError::EventNotFound
            | RoomError::StateNotFound
            | RoomError::AliasNotFound => ApiError::not_found(error.to_string()),
            // What no sender may write is no matter of permissions.
            RoomError::Forbidden(AuthFailure::StateKeyWithoutOwner) => ApiError::bad_json(error.to_string()),
            RoomError::NotInRoom | RoomError::NotResident | RoomError::Forbidden(_) | RoomError::Refused(_) => {
                ApiError::forbidden(error.to_string())
            }
            RoomError::Invalid(message) => ApiError::invalid_param(message),
            RoomError::BadEvent(error) => bad_event(&error),
            RoomError::UnsupportedVersion(_) => unsupported_version(error.to_string()),
            RoomError::AliasTaken => ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", "the alias is taken"),
            RoomError::DuplicateAnnotation => {
                ApiError::new(StatusCode::BAD_REQUEST, "M_DUPLICATE_ANNOTATION", error.to_string())
            }
            RoomError::RemoteUnavailable(_) => ApiError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", error.to_string()),
            RoomError::RemoteRefused { status, errcode, message, .. } => refused_remotely(status, &errcode, message),
            RoomError::NotRecommended { status, errcode, message, retry_after_ms, .. } => {
                let error = not_recommended(status, errcode, message);
                match retry_after_ms {
                    Some(ms) if status == StatusCode::TOO_MANY_REQUESTS => error.with("retry_after_ms", ms),
                    _ => error,
                }
            }
            RoomError::Busy => ApiError::limit_exceeded(1000),
            RoomError::Storage(error) => error.into(),
            RoomError::Commit(error) => error.into(),
            RoomError::Missing(_) | RoomError::Resolve(_) | RoomError::Inconsistent(_) => ApiError::internal(&error),
        }
    }
}

/// The codes of other servers that a client is told. Any other could speak of the client's session here, which no
/// other server has a say in.
const PASSED_ON: [&str; 10] = [
    "M_FORBIDDEN",
    "M_NOT_FOUND",
    "M_UNABLE_TO_AUTHORISE_JOIN",
    "M_UNABLE_TO_GRANT_JOIN",
    "M_INCOMPATIBLE_ROOM_VERSION",
    "M_UNSUPPORTED_ROOM_VERSION",
    "M_INVITE_BLOCKED",
    "M_INVALID_PARAM",
    "M_TOO_LARGE",
    "M_BAD_STATE",
];

/// What another server refused is the client's if it says so; its own failures are no more than that it failed.
fn refused_remotely(status: u16, errcode: &str, message: String) -> ApiError {
    let errcode = PASSED_ON.into_iter().find(|known| *known == errcode);
    match StatusCode::from_u16(status) {
        Ok(status) if status.is_client_error() && status != StatusCode::UNAUTHORIZED => {
            ApiError::new(status, errcode.unwrap_or("M_UNKNOWN"), message)
        }
        _ => ApiError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message),
    }
}

/// The codes that speak of the client's session or account here, which no policy server has a say in.
const OF_THE_SESSION: [&str; 8] = [
    "M_UNKNOWN_TOKEN",
    "M_MISSING_TOKEN",
    "M_UNAUTHORIZED",
    "M_USER_DEACTIVATED",
    "M_USER_LOCKED",
    "M_USER_SUSPENDED",
    "M_CONSENT_NOT_GIVEN",
    "M_GUEST_ACCESS_FORBIDDEN",
];

/// What a room's policy server says of an event is for the client, as it stands (Server-Server API §Validating Policy
/// Server signatures); its own failures are no more than that it failed.
fn not_recommended(status: u16, errcode: String, message: String) -> ApiError {
    let status = StatusCode::from_u16(status).ok();
    let status = status.filter(|status| status.is_client_error() && *status != StatusCode::UNAUTHORIZED);
    let errcode = match OF_THE_SESSION.contains(&&*errcode) {
        true => Cow::Borrowed("M_FORBIDDEN"),
        false => Cow::Owned(errcode),
    };
    let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
    ApiError::Coded(Box::new(Coded { status, errcode, message: message.into(), extra: Vec::new() }))
}

/// The answer for a room version that this server does not know.
pub(crate) fn unsupported_version(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "M_UNSUPPORTED_ROOM_VERSION", message)
}

fn bad_event(error: &PduError) -> ApiError {
    match error {
        PduError::TooLarge | PduError::FieldTooLong(_) => ApiError::too_large(error.to_string()),
        PduError::BadJson(_)
        | PduError::NotCanonical(_)
        | PduError::MissingField(_)
        | PduError::UnexpectedField(_)
        | PduError::InvalidField(_)
        | PduError::InvalidId(..)
        | PduError::TooManyEvents(_) => ApiError::bad_json(error.to_string()),
    }
}

impl From<DelayError> for ApiError {
    fn from(error: DelayError) -> Self {
        let message = error.to_string();
        match error {
            // The code that clients look for stands beside the usual one while the proposal is unstable.
            DelayError::TooLong { max_ms } => ApiError::bad_request(message)
                .with("org.matrix.msc4140.errcode", "M_MAX_DELAY_EXCEEDED")
                .with("org.matrix.msc4140.max_delay", max_ms),
            DelayError::TooMany { retry_after_ms } => ApiError::limit_exceeded(retry_after_ms)
                .with("org.matrix.msc4140.errcode", "M_MAX_DELAYED_EVENTS_EXCEEDED"),
            DelayError::Off => ApiError::forbidden(message),
            DelayError::NotFound => ApiError::not_found(message),
            DelayError::Ended => ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", message),
            DelayError::Room(error) => error.into(),
        }
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        let message = error.to_string();
        let coded = |status, errcode| ApiError::new(status, errcode, message.clone());
        let bad = |errcode| coded(StatusCode::BAD_REQUEST, errcode);
        match error {
            UserError::UserInUse => bad("M_USER_IN_USE"),
            UserError::InvalidUsername(_) => bad("M_INVALID_USERNAME"),
            UserError::WeakPassword(_) => bad("M_WEAK_PASSWORD"),
            UserError::Forbidden(_) | UserError::RegistrationClosed => coded(StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            UserError::Exclusive(_) => bad("M_EXCLUSIVE"),
            UserError::UnknownDevice => bad("M_UNKNOWN_DEVICE"),
            UserError::ServerNoticesOff => bad("M_UNKNOWN"),
            UserError::CannotLeaveNotices => coded(StatusCode::FORBIDDEN, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"),
            UserError::GuestsForbidden => coded(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN"),
            UserError::UnknownToken { soft_logout } => {
                coded(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN").with("soft_logout", soft_logout)
            }
            UserError::UserLocked => coded(StatusCode::UNAUTHORIZED, "M_USER_LOCKED").with("soft_logout", true),
            UserError::UserSuspended => coded(StatusCode::FORBIDDEN, "M_USER_SUSPENDED"),
            UserError::UserDeactivated => coded(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED"),
            UserError::NotFound(_) => coded(StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            UserError::BadJson(_) => bad("M_BAD_JSON"),
            UserError::InvalidParam(_) => bad("M_INVALID_PARAM"),
            UserError::MissingParam(_) => bad("M_MISSING_PARAM"),
            UserError::TooLarge(_) => coded(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            UserError::ProfileTooLarge => bad("M_PROFILE_TOO_LARGE"),
            UserError::KeyTooLarge => bad("M_KEY_TOO_LARGE"),
            UserError::InvalidSignature(_) => bad("M_INVALID_SIGNATURE"),
            UserError::WrongRoomKeysVersion { current } => {
                coded(StatusCode::FORBIDDEN, "M_WRONG_ROOM_KEYS_VERSION").with("current_version", current.to_string())
            }
            UserError::ReservedAccountData => coded(StatusCode::METHOD_NOT_ALLOWED, "M_BAD_JSON"),
            UserError::PushRule(error) => refused_push_rule(&error),
            UserError::Busy { retry_after_ms } => ApiError::limit_exceeded(retry_after_ms),
            UserError::RemoteUnavailable(_) => coded(StatusCode::BAD_GATEWAY, "M_UNKNOWN"),
            UserError::RemoteRefused { status, errcode, message, .. } => refused_remotely(status, &errcode, message),
            UserError::Storage(error) => error.into(),
            UserError::Commit(error) => error.into(),
            UserError::Rooms(error) => error.into(),
            UserError::Inconsistent(_) => ApiError::internal(&error),
            UserError::ShuttingDown => ApiError::limit_exceeded(1000),
        }
    }
}

fn refused_push_rule(error: &EditError) -> ApiError {
    let bad = |errcode| ApiError::new(StatusCode::BAD_REQUEST, errcode, error.to_string());
    match error {
        EditError::NotFound => ApiError::not_found(error.to_string()),
        EditError::ReservedId | EditError::InvalidId | EditError::InvalidPattern | EditError::InvalidCondition => {
            bad("M_INVALID_PARAM")
        }
        EditError::NeighbourNotFound(_) => bad("M_UNKNOWN"),
        EditError::MissingPattern => bad("M_MISSING_PARAM"),
        EditError::TooLarge => bad("M_TOO_LARGE"),
    }
}

impl From<MediaError> for ApiError {
    fn from(error: MediaError) -> Self {
        let message = error.to_string();
        let coded = |status, errcode| ApiError::new(status, errcode, message.clone());
        match error {
            MediaError::NotFound => coded(StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            MediaError::NotYours => coded(StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            MediaError::AlreadyUploaded => coded(StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA"),
            MediaError::NotYetUploaded => coded(StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED"),
            MediaError::TooLarge { .. } | MediaError::ImageTooLarge => {
                coded(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE")
            }
            MediaError::TooManyPending { retry_after_ms } => ApiError::limit_exceeded(retry_after_ms),
            MediaError::InvalidDescription(_) | MediaError::InvalidSize | MediaError::InvalidUrl => {
                coded(StatusCode::BAD_REQUEST, "M_INVALID_PARAM")
            }
            MediaError::NotThumbnailable => coded(StatusCode::BAD_REQUEST, "M_UNKNOWN"),
            MediaError::RemoteTooLarge { .. } => coded(StatusCode::BAD_GATEWAY, "M_TOO_LARGE"),
            MediaError::PreviewsOff => coded(StatusCode::NOT_FOUND, "M_UNRECOGNIZED"),
            MediaError::UrlDenied => coded(StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            MediaError::RemoteUnavailable | MediaError::PageUnavailable => coded(StatusCode::BAD_GATEWAY, "M_UNKNOWN"),
            MediaError::Storage(error) => error.into(),
            MediaError::Commit(error) => error.into(),
            MediaError::Disk { .. } | MediaError::Interrupted => ApiError::internal(&error),
        }
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Off => ApiError::unrecognized(),
            CallError::BadRequest(_) => ApiError::bad_json(message),
            CallError::NotVerified(_) => ApiError::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", message),
            CallError::NotInRoom | CallError::Forbidden(_) => ApiError::forbidden(message),
            CallError::OtherMediaServer | CallError::UnknownDelay => ApiError::invalid_param(message),
            CallError::TooMany => ApiError::limit_exceeded(60_000),
            CallError::RemoteRefused { status: status @ (400 | 403), errcode, .. } => {
                refused_remotely(status, &errcode, message)
            }
            CallError::RemoteRefused { .. } | CallError::RemoteUnavailable(_) => {
                ApiError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
            }
            CallError::Users(error) => error.into(),
            CallError::Rooms(error) => error.into(),
            CallError::Storage(error) => error.into(),
            CallError::Commit(error) => error.into(),
        }
    }
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::BadToken => ApiError::invalid_param("next_batch is not a token of this search"),
            SearchError::Rooms(error) => error.into(),
            SearchError::Users(error) => error.into(),
            SearchError::Storage(error) => error.into(),
            SearchError::Commit(error) => error.into(),
            SearchError::Folder(_) | SearchError::Index(_) | SearchError::Task(_) => ApiError::internal(&error),
            SearchError::Stopping => ApiError::limit_exceeded(1000),
        }
    }
}

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::InvalidToken => ApiError::invalid_param("the token is malformed"),
            SyncError::UnknownPos => ApiError::new(
                StatusCode::BAD_REQUEST,
                "M_UNKNOWN_POS",
                "the connection is not known; start again without pos",
            ),
            SyncError::Invalid(message) => ApiError::invalid_param(message),
            SyncError::BadJson(_) => ApiError::bad_json(error.to_string()),
            SyncError::Rooms(error) => error.into(),
            SyncError::Users(error) => error.into(),
            SyncError::Storage(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
