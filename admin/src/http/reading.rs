//! Reading requests and writing answers. Everything has a bound.

use std::borrow::Cow;
use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::refusal::{Answer, Refusal};

/// The largest body, in bytes: users in bulk come as one.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// How long a client may take to send a body.
const BODY_TIME: Duration = Duration::from_secs(60);
/// The most results of one page.
const MAX_PAGE: usize = 1000;

/// Reads a body within its bounds. Cancel-safe.
///
/// # Errors
/// `M_TOO_LARGE`; `M_UNKNOWN` if it takes too long or the connection breaks.
pub async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    let Ok(read) = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await else {
        return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "the body took too long to arrive"));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let message = format!("the body is larger than {MAX_BODY} bytes");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message))
        }
        Err(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "the body could not be read")),
    }
}

/// A body that is a JSON object of the shape `T`; an empty body is an empty object. The last extractor of a handler.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = read_body(request.into_body()).await?;
        parse_object(&bytes).map(JsonBody)
    }
}

/// Reads a JSON object; nothing is an empty object.
///
/// # Errors
/// `M_NOT_JSON`, `M_BAD_JSON`.
pub fn read_object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let bad = |errcode, message: String| Refusal::new(StatusCode::BAD_REQUEST, errcode, message);
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    match serde_json::from_slice(bytes).map_err(|error| bad("M_NOT_JSON", error.to_string()))? {
        Value::Object(object) => Ok(object),
        _ => Err(bad("M_BAD_JSON", "the body must be a JSON object".to_owned())),
    }
}

fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let bad = |errcode, message: String| Refusal::new(StatusCode::BAD_REQUEST, errcode, message);
    let value = Value::Object(read_object(bytes)?);
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path: String = error.path().to_string().chars().take(100).collect();
        match path.as_str() {
            "." => bad("M_BAD_JSON", error.inner().to_string()),
            path => bad("M_BAD_JSON", format!("{path}: {}", error.inner())),
        }
    })
}

/// The parsed arguments of the path, percent-decoded.
pub struct Args<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Args<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(arguments)) => Ok(Args(arguments)),
            Err(rejection) => Err(Refusal::invalid_param(rejection.body_text())),
        }
    }
}

/// The query arguments of a request.
pub struct Query(Uri);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Query(parts.uri.clone()))
    }
}

impl Query {
    /// Those of an address.
    pub(crate) fn of(uri: Uri) -> Query {
        Query(uri)
    }

    /// All arguments with their values, decoded.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for what is not UTF-8.
    pub fn pairs(&self) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Refusal>> {
        let pairs = self.0.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(key).zip(decode(value));
            decoded.ok_or_else(|| Refusal::invalid_param("the query is not UTF-8"))
        })
    }

    /// The first value of an argument, decoded.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'_, str>>, Refusal> {
        for pair in self.pairs() {
            let (key, value) = pair?;
            if key == name {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// An argument that must be there.
    ///
    /// # Errors
    /// `M_MISSING_PARAM`.
    pub fn required(&self, name: &str) -> Result<Cow<'_, str>, Refusal> {
        self.text(name)?.ok_or_else(|| Refusal::missing_param(name))
    }

    /// An argument of a type that can be parsed.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Refusal::invalid_param(format!("{name} is malformed")))
    }

    /// A switch: `true` or `false`.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for anything else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        self.parsed(name)
    }

    /// How many results are wanted: `default` where nothing is said, and never more than 1,000.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for what is not a number.
    pub fn limit(&self, default: usize) -> Result<usize, Refusal> {
        Ok(self.parsed::<usize>("limit")?.unwrap_or(default).min(MAX_PAGE))
    }
}

fn decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('+') {
        return percent_decode_str(raw).decode_utf8().ok();
    }
    let spaced = raw.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

/// Answers 200 with a value.
///
/// # Errors
/// Never for plain data.
pub fn answer(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(json_response(StatusCode::OK, bytes.into())),
        Err(error) => Err(crate::error::AdminError::internal(error).into()),
    }
}

/// A response of JSON.
pub(crate) fn json_response(status: StatusCode, bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
