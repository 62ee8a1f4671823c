//! What was wrong with an account and what belongs to it, as clients see it.

use http::StatusCode;
use spec::push::EditError;
use users::UserError;

use super::{ApiError, refused_remotely};

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
            UserError::AwaitingApproval => coded(StatusCode::FORBIDDEN, "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL")
                .with("approval_notice_medium", "org.matrix.msc3866.none"),
            UserError::AccountExpired => coded(StatusCode::FORBIDDEN, "ORG_MATRIX_EXPIRED_ACCOUNT"),
            UserError::IdentityInUse(_) => coded(StatusCode::CONFLICT, "M_UNKNOWN"),
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
