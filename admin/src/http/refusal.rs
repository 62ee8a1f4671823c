//! Errors as HTTP clients see them (Client-Server API §"Standard error response").

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use users::UserError;

use super::reading::json_response;
use crate::error::AdminError;

/// What handlers answer.
pub type Answer = Result<Response, Refusal>;

/// A status, a Matrix error code and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The code.
    pub errcode: &'static str,
    /// The text.
    pub message: Cow<'static, str>,
    retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Any refusal.
    pub fn new(status: StatusCode, errcode: &'static str, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status, errcode, message: message.into(), retry_after_ms: None }
    }

    /// 400 `M_INVALID_PARAM`.
    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 400 `M_MISSING_PARAM`.
    pub fn missing_param(name: &str) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", format!("{name} is missing"))
    }

    /// 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }
}

impl From<AdminError> for Refusal {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        match error {
            AdminError::NotFound(_) => Refusal::not_found(message),
            AdminError::Invalid(_) => Refusal::invalid_param(message),
            AdminError::TooLarge(_) => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message),
            AdminError::Forbidden(_) => Refusal::forbidden(message),
            AdminError::Conflict(_) => Refusal::new(StatusCode::CONFLICT, "M_UNKNOWN", message),
            AdminError::Limited { retry_after_ms, .. } => Refusal {
                retry_after_ms: Some(retry_after_ms),
                ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", message)
            },
            AdminError::Unavailable(_) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", message),
            AdminError::Coded { status, errcode, .. } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Refusal::new(status, errcode, message)
            }
            AdminError::Internal(source) => {
                tracing::error!(error = %source, "a request of an administrator failed");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "internal error: see the server's log")
            }
        }
    }
}

/// Who calls is found out before anything else is: what can be wrong with a session has codes that clients know.
impl From<UserError> for Refusal {
    fn from(error: UserError) -> Self {
        let message = error.to_string();
        match error {
            UserError::UnknownToken { .. } => Refusal::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", message),
            UserError::UserLocked => Refusal::new(StatusCode::UNAUTHORIZED, "M_USER_LOCKED", message),
            error => AdminError::from(error).into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("errcode".to_owned(), self.errcode.into());
        body.insert("error".to_owned(), self.message.into_owned().into());
        if let Some(ms) = self.retry_after_ms {
            body.insert("retry_after_ms".to_owned(), ms.into());
        }
        let mut response = json_response(self.status, Value::Object(body).to_string().into());
        if let Some(ms) = self.retry_after_ms {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response
    }
}
