//! JSON in and out: bodies with limits and Matrix error codes, answers as bytes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::Edge;
use crate::error::ApiError;

/// What handlers answer.
pub(crate) type Answer = Result<Response, ApiError>;

/// The largest body of most endpoints, in bytes.
pub(crate) const SMALL_BODY: usize = 256 * 1024;
/// The largest body of endpoints that carry many keys or messages at once, in bytes.
pub(crate) const LARGE_BODY: usize = 16 * 1024 * 1024;

/// A body that is a JSON object of the shape `T`, of at most `LIMIT` bytes. An empty body is an empty object; the
/// content type does not matter (Client-Server API §"API Standards").
pub(crate) struct JsonBody<T, const LIMIT: usize = SMALL_BODY>(pub T);

impl<T: DeserializeOwned, const LIMIT: usize> FromRequest<Edge> for JsonBody<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Edge) -> Result<Self, ApiError> {
        let bytes = read_body(request.into_body(), LIMIT, BODY_TIME).await?;
        parse_object(&bytes).map(JsonBody)
    }
}

/// How long a client may take to send a body: nobody can hold connections open for nothing.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Reads a body of at most `limit` bytes within `time`. Cancel-safe.
///
/// # Errors
/// `M_TOO_LARGE`; `M_UNKNOWN` if it takes too long or the connection breaks.
async fn read_body(body: Body, limit: usize, time: Duration) -> Result<Bytes, ApiError> {
    let Ok(read) = tokio::time::timeout(time, Limited::new(body, limit).collect()).await else {
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "the body took too long to arrive"));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(ApiError::too_large(format!("the body is larger than {limit} bytes")))
        }
        Err(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "the body could not be read")),
    }
}

/// Parses a JSON object.
///
/// # Errors
/// `M_NOT_JSON`; `M_BAD_JSON` with the path of the value that has another shape.
pub(crate) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ApiError::not_json("the body is not UTF-8"))?;
    let text = match text.trim_ascii_start() {
        "" => "{}",
        text => text,
    };
    if !text.starts_with('{') {
        return match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Err(ApiError::bad_json("the body must be a JSON object")),
            Err(error) => Err(ApiError::not_json(error.to_string())),
        };
    }
    let value = serde_json::from_str(text).map_err(|error| explain_error::<T>(text, &error))?;
    // Also what no field of `T` keeps, and what fields keep as it is.
    spec::json::check_text(text).map_err(|error| ApiError::bad_json(error.to_string()))?;
    Ok(value)
}

/// How many characters of a path are told.
const MAX_PATH: usize = 100;

/// Parses again, slowly, to find where the body is wrong.
fn explain_error<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> ApiError {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return ApiError::not_json(error.to_string());
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(found) if found.path().iter().next().is_some() => {
            let path: String = found.path().to_string().chars().take(MAX_PATH).collect();
            ApiError::bad_json(format!("{path}: {}", found.inner()))
        }
        _ => ApiError::bad_json(error.to_string()),
    }
}

/// Answers 200 with a value.
pub(crate) fn answer(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer_bytes(bytes),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

/// Answers 200 with JSON that is written already.
pub(crate) fn answer_bytes(bytes: impl Into<Bytes>) -> Answer {
    Ok(json_response(StatusCode::OK, bytes.into()))
}

/// Answers 200 with an empty object.
pub(crate) fn answer_empty() -> Answer {
    answer_bytes(Bytes::from_static(b"{}"))
}

/// A response of JSON.
pub(crate) fn json_response(status: StatusCode, bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
