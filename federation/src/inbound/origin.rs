//! Which server calls, proven by its signature: typed extractors that refuse with Matrix errors (Server-Server API
//! §Request Authentication).
//!
//! The order keeps what a stranger can cost small: the header is read first and names nobody that is not allowed,
//! then the body within its bound and its time, then the signature is checked; only a server that has proven its name
//! takes one of its places, so that nobody can use up the places of another.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use runtime::Clock;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use spec::canonical;
use spec::ids::ServerName;
use spec::xmatrix::XMatrix;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Federation;
use crate::inbound::body::{Buffered, Buffers, ReadError};
use crate::inbound::error::ServeError;
use crate::keys::KeyError;

/// The largest body of a route that sets no [`MaxBody`]: an event with its stripped state and some to spare.
const DEFAULT_MAX_BODY: usize = 1024 * 1024;
/// How long a request waits for one of its server's places before the server is told to come back.
const PLACE_WAIT: Duration = Duration::from_secs(20);
/// How many requests of one server may wait for its places; further ones are refused at once.
const MAX_WAITING: usize = 256;
/// How many requests wait for keys that have to be fetched at a time, whoever they say they are from. Servers whose keys
/// are known do not depend on it.
const MAX_VERIFYING: usize = 512;
/// How many bytes of bodies are in memory whose signature is not checked yet, whoever they say they are from.
const MAX_UNVERIFIED: usize = 128 * 1024 * 1024;
/// From how many servers on those without requests are forgotten.
const MAX_IDLE: usize = 1024;
/// The longest `Authorization` header that is read.
const MAX_HEADER: usize = 4096;

/// The server that signed a request without a body.
#[derive(Clone, Debug)]
pub(crate) struct Origin(pub ServerName);

/// The body of a signed request: parsed once, as sent (`raw`) and as what the endpoint expects (`body`).
#[derive(Debug)]
pub(crate) struct SignedJson<T> {
    /// Who signed it.
    pub origin: ServerName,
    /// The body as the endpoint expects it.
    pub body: T,
    /// The whole body.
    pub raw: Map<String, Value>,
}

/// The largest body of a route in bytes, set by `.layer(Extension(MaxBody(…)))` on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxBody(pub usize);

/// The places of servers: how many requests of each are worked on.
#[derive(Debug)]
pub(crate) struct Places {
    per_server: usize,
    servers: Mutex<HashMap<ServerName, Arc<Semaphore>>>,
    waiting: Mutex<HashMap<ServerName, usize>>,
    verifying: Arc<Semaphore>,
    unverified: Buffers,
}

/// Holds a place until the request that it was taken for is answered; made by [`hold_place`], filled by the extractor
/// of the signed request. Work that goes on when the request is dropped keeps a clone: then the place is kept, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlaceHolder(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl PlaceHolder {
    /// The place, to be held longer than until the head of the answer is ready: while its body is sent, say.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.lock().take()
    }
}

impl<S: Sync> FromRequestParts<S> for PlaceHolder {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<PlaceHolder>().cloned().unwrap_or_default())
    }
}

impl Places {
    /// `per_server` requests of each server at a time.
    pub fn new(per_server: usize) -> Places {
        Places {
            per_server: per_server.max(1),
            servers: Mutex::default(),
            waiting: Mutex::default(),
            verifying: Arc::new(Semaphore::new(MAX_VERIFYING)),
            unverified: Buffers::new(MAX_UNVERIFIED),
        }
    }

    /// Waits for a place of the server's. Cancel-safe.
    async fn take(&self, server: &ServerName, clock: &Clock) -> Result<OwnedSemaphorePermit, ServeError> {
        let places = self.places_of(server);
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = Waiting::count(self, server)?;
        match clock.timeout(PLACE_WAIT, places.acquire_owned()).await {
            Some(Ok(place)) => Ok(place),
            _ => Err(ServeError::limit_exceeded(1000)),
        }
    }

    fn places_of(&self, server: &ServerName) -> Arc<Semaphore> {
        let mut servers = self.servers.lock();
        if servers.len() >= MAX_IDLE && !servers.contains_key(server) {
            // Whoever waits or works holds the other reference; forgetting one that nobody uses changes nothing.
            servers.retain(|_, places| Arc::strong_count(places) > 1);
        }
        servers.entry(server.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.per_server))).clone()
    }
}

/// Counts a request that waits for a place.
struct Waiting<'a>(&'a Places, ServerName);

impl Waiting<'_> {
    fn count<'a>(places: &'a Places, server: &ServerName) -> Result<Waiting<'a>, ServeError> {
        let mut waiting = places.waiting.lock();
        let count = waiting.entry(server.clone()).or_default();
        if *count >= MAX_WAITING {
            return Err(ServeError::limit_exceeded(1000));
        }
        *count += 1;
        Ok(Waiting(places, server.clone()))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        if let Some(count) = waiting.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

/// Middleware over all signed endpoints: keeps the place that the extractor took until the request is answered.
pub(crate) async fn hold_place(mut request: Request, next: Next) -> Response {
    let holder = PlaceHolder::default();
    request.extensions_mut().insert(holder.clone());
    let response = next.run(request).await;
    drop(holder.take());
    response
}

impl FromRequestParts<Federation> for Origin {
    type Rejection = ServeError;

    async fn from_request_parts(parts: &mut Parts, federation: &Federation) -> Result<Self, ServeError> {
        let header = read_header(&parts.headers, federation)?;
        verify(parts, &header, None, federation).await.map(Origin)
    }
}

impl<T: DeserializeOwned> FromRequest<Federation> for SignedJson<T> {
    type Rejection = ServeError;

    async fn from_request(request: Request, federation: &Federation) -> Result<Self, ServeError> {
        let (parts, body) = request.into_parts();
        let header = read_header(&parts.headers, federation)?;
        let limit = parts.extensions.get::<MaxBody>().map_or(DEFAULT_MAX_BODY, |max| max.0);
        let buffers = &federation.inbound.places.unverified;
        let buffered = read_body(&parts.headers, body, limit, buffers, &federation.clock).await?;
        let content = if buffered.bytes.is_empty() { None } else { Some(parse_body(&buffered.bytes)?) };
        let origin = verify(&parts, &header, content.as_ref(), federation).await?;
        drop(buffered);
        let raw = content.unwrap_or_default();
        let body = T::deserialize(&raw).map_err(|error| ServeError::bad_json(error.to_string()))?;
        Ok(SignedJson { origin, body, raw })
    }
}

/// The `Authorization` header, if it is for this server and from one that may speak to it.
fn read_header(headers: &HeaderMap, federation: &Federation) -> Result<XMatrix, ServeError> {
    if !federation.config.enabled {
        return Err(ServeError::forbidden("this server does not take part in federation"));
    }
    let header =
        headers.get(header::AUTHORIZATION).ok_or_else(|| ServeError::unauthorized("the request is not signed"))?;
    let header = header.to_str().ok().filter(|header| header.len() <= MAX_HEADER);
    let header = header.ok_or_else(|| ServeError::unauthorized("the Authorization header cannot be read"))?;
    let header = XMatrix::parse(header).map_err(|error| ServeError::unauthorized(error.to_string()))?;
    if header.destination.as_ref().is_some_and(|destination| *destination != federation.server_name) {
        return Err(ServeError::unauthorized("the request is for another server"));
    }
    if header.origin == federation.server_name {
        return Err(ServeError::unauthorized("this server does not speak to itself"));
    }
    if !federation.destinations.is_allowed(&header.origin) {
        return Err(ServeError::forbidden("this server does not speak to yours"));
    }
    Ok(header)
}

async fn read_body<'a>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    buffers: &'a Buffers,
    clock: &Clock,
) -> Result<Buffered<'a>, ServeError> {
    let too_large = || ServeError::too_large(format!("the body is larger than {limit} bytes"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    buffers.read(body, limit, clock).await.map_err(|error| match error {
        ReadError::TooLarge => too_large(),
        ReadError::Broken => ServeError::not_json("the body ended early"),
        ReadError::Full => ServeError::unavailable("too many requests"),
        ReadError::Slow => ServeError::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "the body took too long"),
    })
}

fn parse_body(bytes: &[u8]) -> Result<Map<String, Value>, ServeError> {
    canonical::parse_object(bytes, false).map_err(|error| ServeError::not_json(error.to_string()))
}

/// Verifies the signature over method, address and body, and takes one of the server's places.
async fn verify(
    parts: &Parts,
    header: &XMatrix,
    content: Option<&Map<String, Value>>,
    federation: &Federation,
) -> Result<ServerName, ServeError> {
    let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let places = &federation.inbound.places;
    let method = parts.method.as_str();
    let verified = match federation.keys.verify_by_known_key(header, method, uri, content) {
        Some(origin) => Ok(origin),
        None => {
            let verifying = places.verifying.try_acquire();
            let _verifying = verifying.map_err(|_| ServeError::unavailable("too many requests"))?;
            federation.keys.verify_request(header, method, uri, content).await
        }
    };
    let origin = verified.map_err(|error| {
        if let KeyError::Storage(error) = error {
            return error.into();
        }
        tracing::debug!(origin = %header.origin, %error, "a request is not signed as it should be");
        ServeError::unauthorized(error.to_string())
    })?;
    federation.destinations.heard_from(&origin);
    let place = places.take(&origin, &federation.clock).await?;
    if let Some(holder) = parts.extensions.get::<PlaceHolder>() {
        *holder.0.lock() = Some(place);
    }
    Ok(origin)
}

#[cfg(test)]
mod tests;
