//! What was wrong with a room or an event, as clients see it.

use std::borrow::Cow;

use http::StatusCode;
use rooms::{DelayError, RoomError};
use spec::auth::AuthFailure;
use spec::pdu::PduError;

use super::{ApiError, Coded, refused_remotely};

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
            RoomError::StateIncomplete => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error.to_string())
            }
            RoomError::Busy => ApiError::limit_exceeded(1000),
            RoomError::Storage(error) => error.into(),
            RoomError::Commit(error) => error.into(),
            RoomError::Missing(_) | RoomError::Resolve(_) | RoomError::Inconsistent(_) => ApiError::internal(&error),
        }
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
