//! Errors as clients see them (Client-Server API §"Standard error response").
//!
//! The only place where an error of a domain gets its status and code. An internal error is logged here, once, under
//! a number that the client is told.

mod of_rooms;
mod of_users;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use ::calls::{CallError, RecordingError};
use ::media::MediaError;
use ::search::SearchError;
use ::sync::SyncError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use storage::{CommitError, StorageError};
use users::Challenge;

pub(crate) use self::of_rooms::unsupported_version;
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
            MediaError::TooManyPending { retry_after_ms } | MediaError::TooManyPreviews { retry_after_ms } => {
                ApiError::limit_exceeded(retry_after_ms)
            }
            MediaError::QuotaExceeded { info_uri, can_upgrade, .. } => {
                let refused = coded(StatusCode::FORBIDDEN, "M_USER_LIMIT_EXCEEDED");
                refused.with("info_uri", info_uri).with("can_upgrade", can_upgrade)
            }
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
            CallError::Recording(error) => recording_refused(&error),
            CallError::Users(error) => error.into(),
            CallError::Rooms(error) => error.into(),
            CallError::Storage(error) => error.into(),
            CallError::Commit(error) => error.into(),
        }
    }
}

fn recording_refused(error: &RecordingError) -> ApiError {
    let message = error.to_string();
    match error {
        RecordingError::Off | RecordingError::Encrypted => ApiError::forbidden(message),
        RecordingError::NoCall | RecordingError::NotRecorded => ApiError::not_found(message),
        RecordingError::Recorded => ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", message),
        RecordingError::TooMany => ApiError::limit_exceeded(60_000),
        RecordingError::Failed(_) => ApiError::internal(error),
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
