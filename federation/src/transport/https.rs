//! Requests over HTTPS, found by discovery.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use quick_cache::sync::Cache;
use runtime::{Clock, Random};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use spec::ids::ServerName;

use super::connect::{Addressing, Connector, Net};
use super::{AnswerBody, BodyError, Sending, Transport, TransportError, is_public};
use crate::discovery::lookup::{self, Names};
use crate::discovery::well_known::{self, Answer, Remembered};
use crate::discovery::{Question, Walk};

/// The largest head of an answer (it is read in steps, so a little more may pass), and the most headers in it.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// How long a connection that is not used is kept, and how many to one server.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_IDLE_PER_HOST: usize = 4;
/// How many hosts it is remembered of whether they delegate.
const REMEMBERED_HOSTS: usize = 10_000;
/// Who asks.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Conduit/", env!("CARGO_PKG_VERSION")));

/// What the transport is built from.
pub struct HttpsParts {
    /// Certificate authorities in PEM that are trusted besides the operating system's.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether addresses inside may be connected to.
    pub allow_private_addresses: bool,
    /// How long it may take from the name to a TLS connection.
    pub connect_timeout: Duration,
    /// Time.
    pub clock: Clock,
    /// Randomness, for the weights of SRV records.
    pub random: Random,
}

/// Nothing can be sent (operator).
#[derive(Debug, thiserror::Error)]
pub enum TransportStartError {
    /// The file is missing or holds no certificates.
    #[error("cannot read {}: {reason}", path.display())]
    CaFile {
        /// `trusted_ca_file`.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Names cannot be looked up.
    #[error("the resolver cannot be started: {0}")]
    Resolver(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// Finds servers and speaks HTTPS with them, over connections that are kept for a while. Must be made
/// and used inside a tokio runtime.
pub struct HttpsTransport {
    net: Arc<Net>,
    federation: Client<Connector, Full<Bytes>>,
    web: Client<Connector, Full<Bytes>>,
    well_known: Cache<String, Remembered>,
}

impl HttpsTransport {
    /// With the name servers and the certificate authorities of the operating system.
    ///
    /// # Errors
    /// [`TransportStartError`].
    pub fn new(parts: HttpsParts) -> Result<HttpsTransport, TransportStartError> {
        let names = lookup::system_names().map_err(|error| TransportStartError::Resolver(error.to_string()))?;
        HttpsTransport::with_names(parts, names)
    }

    /// [`HttpsTransport::new`] with other name servers.
    pub(crate) fn with_names(parts: HttpsParts, names: Arc<dyn Names>) -> Result<HttpsTransport, TransportStartError> {
        let may_connect: fn(IpAddr) -> bool = if parts.allow_private_addresses { |_| true } else { is_public };
        HttpsTransport::with_guard(parts, names, may_connect)
    }

    fn with_guard(
        parts: HttpsParts,
        names: Arc<dyn Names>,
        may_connect: fn(IpAddr) -> bool,
    ) -> Result<HttpsTransport, TransportStartError> {
        let net = Arc::new(Net {
            names,
            tls: Arc::new(build_tls(&parts)?),
            may_connect,
            connect_timeout: parts.connect_timeout,
            clock: parts.clock,
            random: parts.random,
        });
        Ok(HttpsTransport {
            federation: build_client(&net, Addressing::Federation),
            web: build_client(&net, Addressing::Web),
            well_known: Cache::new(REMEMBERED_HOSTS),
            net,
        })
    }

    /// Follows the way of a name up to where the `.well-known` document has no more say.
    async fn find_host(&self, name: &ServerName) -> Result<ServerName, TransportError> {
        let unreachable = |error: crate::discovery::DiscoveryError| TransportError::Unreachable(error.to_string());
        let mut walk = Walk::start(name).map_err(unreachable)?;
        loop {
            if let Some(host) = walk.host_header() {
                return Ok(host.clone());
            }
            let Question::WellKnown(host) = walk.question() else {
                return Err(TransportError::BadAddress(name.to_string()));
            };
            let delegated = self.ask_well_known(host).await;
            walk = walk.tell_well_known(delegated.as_ref()).map_err(unreachable)?;
        }
    }

    /// What a host delegates to, from memory as long as that holds. One asks, the others wait for it.
    async fn ask_well_known(&self, host: &str) -> Option<ServerName> {
        let key = host.to_ascii_lowercase();
        let now_ms = self.net.clock.now_ms();
        let before = match self.well_known.get(&key) {
            Some(known) if known.fresh_until_ms > now_ms => return known.delegated,
            before => before,
        };
        self.well_known.remove_if(&key, |known| known.fresh_until_ms <= now_ms);
        match self.well_known.get_value_or_guard_async(&key).await {
            Ok(known) => known.delegated,
            Err(guard) => {
                let fetching = self.fetch_well_known(&key);
                let answer = self.net.clock.timeout(well_known::FETCH_TIMEOUT, fetching).await;
                let answer = answer.unwrap_or(Answer::Failed);
                tracing::debug!(%host, ?answer, "asked for the .well-known document");
                let known = Remembered::after(answer, before.as_ref(), self.net.clock.now_ms());
                // Fails only if the entry was taken out meanwhile, and then nothing is remembered.
                let _ = guard.insert(known.clone());
                known.delegated
            }
        }
    }

    async fn fetch_well_known(&self, host: &str) -> Answer {
        match format!("https://{host}/.well-known/matrix/server").parse() {
            Ok(url) => self.follow_well_known(url).await,
            Err(_) => Answer::Absent,
        }
    }

    async fn follow_well_known(&self, mut url: Uri) -> Answer {
        for _ in 0..=well_known::MAX_REDIRECTS {
            let response = match self.get_web(url.clone()).await {
                Ok(response) => response,
                Err(TransportError::Unreachable(_)) => return Answer::Failed,
                Err(_) => return Answer::Absent,
            };
            match response.status() {
                StatusCode::OK => return read_well_known(response, self.net.clock.now_ms()).await,
                status if status.is_redirection() => match redirect_target(&url, &response) {
                    Some(next) => url = next,
                    None => return Answer::Absent,
                },
                status if status.is_server_error() => return Answer::Failed,
                _ => return Answer::Absent,
            }
        }
        Answer::Absent
    }

    async fn get_web(&self, url: Uri) -> Result<Response<AnswerBody>, TransportError> {
        let host = url.authority().filter(|_| url.scheme() == Some(&Scheme::HTTPS));
        let host = host.ok_or_else(|| TransportError::BadAddress(url.to_string()))?;
        let host = HeaderValue::from_str(host.as_str());
        let host = host.map_err(|_| TransportError::BadAddress(url.to_string()))?;
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = url;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        exchange(&self.web, request).await
    }
}

impl Transport for HttpsTransport {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        Box::pin(async move {
            let host = self.find_host(&destination).await?;
            let (mut head, body) = request.into_parts();
            let bad = || TransportError::BadAddress(destination.to_string());
            let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
            let authority = Authority::try_from(host.as_str()).map_err(|_| bad())?;
            let uri = Uri::builder().scheme(Scheme::HTTPS).authority(authority).path_and_query(path);
            head.uri = uri.build().map_err(|_| bad())?;
            head.headers.insert(header::HOST, HeaderValue::from_str(host.as_str()).map_err(|_| bad())?);
            head.headers.insert(header::USER_AGENT, USER_AGENT);
            exchange(&self.federation, Request::from_parts(head, Full::new(body))).await
        })
    }

    fn get_url(&self, url: Uri) -> Sending<'_> {
        Box::pin(self.get_web(url))
    }
}

/// Where a redirect leads, if it is an `https` address.
pub(crate) fn redirect_target<B>(from: &Uri, response: &Response<B>) -> Option<Uri> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    if let Some(path) = location.strip_prefix('/').filter(|rest| !rest.starts_with('/')) {
        let path = PathAndQuery::try_from(format!("/{path}")).ok()?;
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(from.authority()?.clone()).path_and_query(path);
        return uri.build().ok();
    }
    let target: Uri = match location.strip_prefix("//") {
        Some(rest) => format!("https://{rest}").parse().ok()?,
        None => location.parse().ok()?,
    };
    (target.scheme() == Some(&Scheme::HTTPS)).then_some(target)
}

async fn read_well_known(response: Response<AnswerBody>, now_ms: u64) -> Answer {
    let max_age_ms = well_known::read_max_age_ms(response.headers(), now_ms);
    let body = Limited::new(response.into_body(), well_known::MAX_DOCUMENT_BYTES).collect().await;
    let delegated = body.ok().and_then(|body| well_known::read_document(&body.to_bytes()));
    delegated.map_or(Answer::Absent, |to| Answer::Delegated { to, max_age_ms })
}

async fn exchange(
    client: &Client<Connector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Response<AnswerBody>, TransportError> {
    let response = client.request(request).await.map_err(|error| find_cause(&error))?;
    Ok(response.map(|body| body.map_err(|error| BodyError::Broken(describe(&error))).boxed()))
}

/// What the connector said, or else the innermost cause, which names what happened.
fn find_cause(error: &(dyn std::error::Error + 'static)) -> TransportError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<TransportError>() {
            return ours.clone();
        }
        cause = error.source();
    }
    TransportError::Unreachable(describe(error))
}

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn build_client(net: &Arc<Net>, addressing: Addressing) -> Client<Connector, Full<Bytes>> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .set_host(false)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(MAX_HEAD_BYTES as u32)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(20));
    builder.build(Connector { net: net.clone(), addressing })
}

/// The authorities are those of the operating system, as the specification advises: the operator
/// updates them there, without a new version of this program.
fn build_tls(parts: &HttpsParts) -> Result<ClientConfig, TransportStartError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::warn!(%error, "a certificate authority of the operating system cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = &parts.trusted_ca_file {
        let unreadable = |reason: String| TransportStartError::CaFile { path: path.clone(), reason };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let certificates = certificates.map_err(|error| unreadable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unreadable("it holds no certificate".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
        }
    }
    if roots.is_empty() {
        tracing::warn!(
            "no certificate authorities were found, so no other server can be trusted: install ca-certificates"
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
