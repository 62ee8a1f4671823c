//! Asking other servers: signed, bounded, with one time limit over all, and with the back-off that
//! all who ask share (Server-Server API §Request Authentication).

mod answer;
mod path;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use parking_lot::RwLock;
use runtime::{Clock, Random};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use spec::canonical;
use spec::ids::ServerName;
use spec::signing::SigningKey;
use spec::xmatrix::XMatrix;

use crate::config::FederationConfig;
use crate::destinations::Destinations;
use crate::error::RemoteError;
pub use crate::transport::AnswerBody;
use crate::transport::{BodyError, Transport, TransportError, redirect_target};
pub(crate) use answer::BoundedBody;
pub use path::{encode_path, encode_query};

/// How many redirects of an address outside of federation are followed.
const MAX_REDIRECTS: usize = 3;

/// What the client is built from.
pub struct ClientParts {
    /// This server.
    pub server_name: ServerName,
    /// The key that signs its requests.
    pub signing_key: Arc<SigningKey>,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Whom it may ask, and when.
    pub destinations: Destinations,
    /// The limits.
    pub config: Arc<FederationConfig>,
    /// How requests travel.
    pub transport: Arc<dyn Transport>,
}

/// One request to another server.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded ([`encode_path`], [`encode_query`]); begins with `/_matrix`.
    pub path: String,
    /// A JSON object. It is sent, and signed, in canonical form.
    pub body: Option<Vec<u8>>,
    /// For the whole exchange; zero stands for `request_timeout` of the configuration.
    pub timeout: Duration,
    /// The largest answer in bytes; zero stands for `max_response` of the configuration.
    pub max_bytes: usize,
    /// Ask even if the server failed lately.
    pub despite_backoff: bool,
    /// The server may be this one, reached by its public name.
    pub may_be_self: bool,
    /// Whether a failure counts for the back-off. Not for what may fail while all else of the server is well.
    pub records_failure: bool,
}

impl Ask {
    /// A `GET` with the limits of the configuration.
    #[must_use]
    pub fn get(path: String) -> Ask {
        Ask {
            method: Method::GET,
            path,
            body: None,
            timeout: Duration::ZERO,
            max_bytes: 0,
            despite_backoff: false,
            may_be_self: false,
            records_failure: true,
        }
    }

    /// A `PUT` of something that is a JSON object.
    pub fn put(path: String, body: &impl Serialize) -> Ask {
        Ask { method: Method::PUT, body: Some(to_json(body)), ..Ask::get(path) }
    }

    /// A `POST` of something that is a JSON object.
    pub fn post(path: String, body: &impl Serialize) -> Ask {
        Ask { method: Method::POST, body: Some(to_json(body)), ..Ask::get(path) }
    }

    /// With another time limit.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Ask {
        Ask { timeout, ..self }
    }

    /// With another limit of the answer's size, in bytes.
    #[must_use]
    pub fn at_most(self, max_bytes: usize) -> Ask {
        Ask { max_bytes, ..self }
    }

    /// Even if the server failed lately.
    #[must_use]
    pub fn despite_backoff(self) -> Ask {
        Ask { despite_backoff: true, ..self }
    }
}

/// What cannot be written as JSON becomes an empty body, which the client then refuses to send.
fn to_json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// Asks other servers; clones share everything.
#[derive(Clone)]
pub struct FederationClient(Arc<Inner>);

impl std::fmt::Debug for FederationClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FederationClient").finish_non_exhaustive()
    }
}

struct Inner {
    server_name: ServerName,
    signing_key: Arc<SigningKey>,
    clock: Clock,
    destinations: Destinations,
    config: RwLock<Arc<FederationConfig>>,
    transport: Arc<dyn Transport>,
}

impl FederationClient {
    /// A client that asks nobody yet.
    #[must_use]
    pub fn new(parts: ClientParts) -> FederationClient {
        FederationClient(Arc::new(Inner {
            server_name: parts.server_name,
            signing_key: parts.signing_key,
            clock: parts.clock,
            destinations: parts.destinations,
            config: RwLock::new(parts.config),
            transport: parts.transport,
        }))
    }

    /// This server.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    /// Time, as its limits count it.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// How long a policy server may take to answer.
    pub(crate) fn policy_timeout(&self) -> Duration {
        self.0.config.read().policy_timeout.duration()
    }

    /// Whom it may ask.
    #[must_use]
    pub fn destinations(&self) -> &Destinations {
        &self.0.destinations
    }

    /// Takes over the reloadable keys: limits, lists, back-off.
    pub fn reload(&self, config: Arc<FederationConfig>) {
        self.0.destinations.reload(&config);
        *self.0.config.write() = config;
    }

    /// Asks and reads the whole answer. Success counts for the back-off, and failure unless the request says
    /// otherwise. May be dropped at any time; the other server may have done what it was asked all the same.
    ///
    /// # Errors
    /// [`RemoteError`]; an answer other than 2xx is [`RemoteError::Refused`].
    pub async fn ask(&self, destination: &ServerName, ask: Ask) -> Result<Vec<u8>, RemoteError> {
        let records_failure = ask.records_failure;
        let body = self.ask_stream(destination, ask).await?.into_body();
        match body.collect().await {
            Ok(body) => Ok(Vec::from(body.to_bytes())),
            Err(error) => {
                if !matches!(error, BodyError::TooLarge) {
                    self.record_failure(destination, None, records_failure).await;
                }
                Err(explain_body(destination, error))
            }
        }
    }

    /// [`FederationClient::ask`], and reads the answer as JSON.
    ///
    /// # Errors
    /// As there, and [`RemoteError::Malformed`].
    pub async fn ask_json<T: DeserializeOwned>(&self, destination: &ServerName, ask: Ask) -> Result<T, RemoteError> {
        let body = self.ask(destination, ask).await?;
        let malformed = |error: serde_json::Error| RemoteError::Malformed {
            server: destination.clone(),
            reason: error.to_string(),
        };
        serde_json::from_slice(&body).map_err(malformed)
    }

    /// Asks and returns as soon as the head of a 2xx answer is there. The body ends with an error at
    /// the limits of the request, which go on counting while it is read. May be dropped at any time.
    ///
    /// # Errors
    /// As [`FederationClient::ask`].
    pub async fn ask_stream(&self, destination: &ServerName, ask: Ask) -> Result<Response<AnswerBody>, RemoteError> {
        self.check(destination, &ask)?;
        let records_failure = ask.records_failure;
        let (timeout, max_bytes) = self.limits(ask.timeout, ask.max_bytes);
        let deadline = self.0.clock.monotonic().saturating_add(timeout);
        let request = self.sign(destination, ask)?;
        let sending = self.0.transport.send(destination.clone(), request);
        let response = match self.0.clock.timeout(timeout, sending).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                self.record_failure(destination, None, records_failure).await;
                return Err(explain(destination, &error));
            }
            None => {
                self.record_failure(destination, None, records_failure).await;
                return Err(RemoteError::Timeout(destination.clone()));
            }
        };
        if response.status().is_success() {
            self.0.destinations.record_success(destination).await;
            return Ok(self.bound(response, max_bytes, deadline));
        }
        let refusal = answer::Refusal::read(self.bound(response, answer::MAX_ERROR_BYTES, deadline)).await;
        if refusal.is_failure() {
            self.record_failure(destination, refusal.retry_after, records_failure).await;
        } else {
            self.0.destinations.record_success(destination).await;
        }
        Err(refusal.into_error(destination.clone()))
    }

    /// [`FederationClient::ask`] of a server that a stranger named: a failure is not recorded, or
    /// anybody could fill the memory of failing servers with names that never were any.
    pub(crate) async fn ask_stranger(&self, destination: &ServerName, ask: Ask) -> Result<Vec<u8>, RemoteError> {
        self.ask(destination, Ask { records_failure: false, ..ask }).await
    }

    /// Fetches an `https` address outside of federation, unsigned: where a server sends us for its
    /// media. The same guard against inner addresses holds. No back-off is kept.
    ///
    /// # Errors
    /// [`RemoteError`], with the host of the address as the server.
    pub async fn fetch_url(
        &self,
        url: &str,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<Response<AnswerBody>, RemoteError> {
        let bad = |reason: &str| RemoteError::Malformed {
            server: self.0.server_name.clone(),
            reason: format!("the address to fetch is not usable: {reason}"),
        };
        let mut url: Uri = url.parse().map_err(|_| bad("it is no address"))?;
        let host = url.host().and_then(|host| ServerName::parse(host).ok()).ok_or_else(|| bad("it names no host"))?;
        let (timeout, max_bytes) = self.limits(timeout, max_bytes);
        let deadline = self.0.clock.monotonic().saturating_add(timeout);
        let following = async {
            for _ in 0..=MAX_REDIRECTS {
                let response = self.0.transport.get_url(url.clone()).await.map_err(|error| explain(&host, &error))?;
                if !response.status().is_redirection() {
                    return Ok(response);
                }
                url = redirect_target(&url, &response).ok_or_else(|| bad("a redirect leads to no https address"))?;
            }
            Err(bad("too many redirects"))
        };
        let response = self.0.clock.timeout(timeout, following).await;
        let response = response.unwrap_or_else(|| Err(RemoteError::Timeout(host.clone())))?;
        if response.status().is_success() {
            return Ok(self.bound(response, max_bytes, deadline));
        }
        let refusal = answer::Refusal::read(self.bound(response, answer::MAX_ERROR_BYTES, deadline)).await;
        Err(refusal.into_error(host))
    }

    async fn record_failure(&self, destination: &ServerName, retry_after: Option<Duration>, records: bool) {
        if records {
            self.0.destinations.record_failure(destination, retry_after).await;
        }
    }

    fn check(&self, destination: &ServerName, ask: &Ask) -> Result<(), RemoteError> {
        if *destination == self.0.server_name && !ask.may_be_self {
            tracing::warn!("a request to this server itself was refused: this is a bug");
            return Err(RemoteError::NotAllowed(destination.clone()));
        }
        match self.0.destinations.check(destination) {
            Err(RemoteError::BackingOff { .. }) if ask.despite_backoff => Ok(()),
            result => result,
        }
    }

    fn limits(&self, timeout: Duration, max_bytes: usize) -> (Duration, usize) {
        let config = self.0.config.read();
        let timeout = if timeout.is_zero() { config.request_timeout.duration() } else { timeout };
        let default = || usize::try_from(config.max_response.bytes()).unwrap_or(usize::MAX);
        (timeout, if max_bytes == 0 { default() } else { max_bytes })
    }

    /// The request as it is sent: the body canonical, and all of it signed.
    fn sign(&self, destination: &ServerName, ask: Ask) -> Result<Request<Bytes>, RemoteError> {
        let unusable = |what: &str| RemoteError::Malformed {
            server: self.0.server_name.clone(),
            reason: format!("a request of ours has {what}"),
        };
        let content: Option<Map<String, Value>> = match ask.body {
            Some(body) => Some(serde_json::from_slice(&body).map_err(|_| unusable("a body that is no JSON object"))?),
            None => None,
        };
        let signed = XMatrix::sign(
            &self.0.signing_key,
            &self.0.server_name,
            destination,
            ask.method.as_str(),
            &ask.path,
            content.as_ref(),
        );
        let authorization = HeaderValue::from_str(&signed.to_header()).map_err(|_| unusable("a bad signature"))?;
        let mut request =
            Request::builder().method(ask.method).uri(ask.path).header(header::AUTHORIZATION, authorization);
        if content.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = content.map(|content| Bytes::from(canonical::write(&content))).unwrap_or_default();
        request.body(body).map_err(|_| unusable("a bad path"))
    }

    fn bound(&self, response: Response<AnswerBody>, max_bytes: usize, deadline: Duration) -> Response<AnswerBody> {
        response.map(|body| BoundedBody::new(body, max_bytes, deadline, &self.0.clock).boxed())
    }
}

fn explain(server: &ServerName, error: &TransportError) -> RemoteError {
    RemoteError::Unreachable { server: server.clone(), reason: error.to_string() }
}

/// What the early end of a body means.
pub(crate) fn explain_body(server: &ServerName, error: BodyError) -> RemoteError {
    match error {
        BodyError::TooLarge => RemoteError::TooLarge(server.clone()),
        BodyError::Timeout => RemoteError::Timeout(server.clone()),
        BodyError::Broken(reason) => RemoteError::Unreachable { server: server.clone(), reason },
    }
}
