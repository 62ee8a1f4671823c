//! An HTTP client whose connections are kept for a while.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use crate::stream::Connection;
use crate::{AnswerBody, BodyError, Network, Route, WebError};

/// The largest head of an answer, in bytes; it is read in steps, so a little more may pass.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most headers in the head of an answer.
pub const MAX_HEADERS: usize = 100;
/// How long a connection that is not used is kept, and how many to one server.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_IDLE_PER_HOST: usize = 4;
/// Who asks.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Conduit/", env!("CARGO_PKG_VERSION")));

/// What [`FindRoute`] returns.
pub type Finding<'a> = Pin<Box<dyn Future<Output = Result<Route, WebError>> + Send + 'a>>;

/// What the authority of a URL means.
pub trait FindRoute: Send + Sync {
    /// Where the authority of `address` leads.
    fn find_route<'a>(&'a self, network: &'a Network, address: &'a Uri) -> Finding<'a>;
}

/// An HTTP client over connections that are kept for a while, by scheme and authority. Must be used inside a tokio
/// runtime.
pub struct Pool(Client<Connector, Full<Bytes>>);

impl Pool {
    /// A pool without connections.
    #[must_use]
    pub fn new(network: Arc<Network>, routes: Arc<dyn FindRoute>) -> Pool {
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
        Pool(builder.build(Connector { network, routes }))
    }

    /// Sends a request to an absolute URL and waits for the head of the answer. `Host` is the URL's authority;
    /// `User-Agent` is added where the request has none. Dropping it abandons the request.
    ///
    /// # Errors
    /// [`WebError`].
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<AnswerBody>, WebError> {
        let bad = || WebError::bad_address(request.uri());
        // A name and password before the host are not for us to pass on, nor to show in `Host`.
        let authority = request.uri().scheme().and(request.uri().authority());
        let authority = authority.filter(|authority| !authority.as_str().contains('@'));
        let host = authority.and_then(|host| HeaderValue::from_str(host.as_str()).ok()).ok_or_else(bad)?;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().entry(header::USER_AGENT).or_insert(USER_AGENT);
        let response = self.0.request(request.map(Full::new)).await.map_err(|error| find_cause(&error))?;
        Ok(response.map(|body| body.map_err(|error| BodyError::Broken(describe(&error))).boxed()))
    }
}

/// The HTTP client's way to new connections. Its pool is keyed by scheme and authority, from which all the rest of the
/// way follows.
#[derive(Clone)]
struct Connector {
    network: Arc<Network>,
    routes: Arc<dyn FindRoute>,
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = WebError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, WebError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), WebError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let Connector { network, routes } = self.clone();
        Box::pin(async move {
            let connecting = async {
                let route = routes.find_route(&network, &address).await?;
                network.connect(&route).await
            };
            let silent = || WebError::unreachable("connecting took too long");
            network.clock.timeout(network.connect_timeout, connecting).await.ok_or_else(silent)?
        })
    }
}

/// What the connector said, or else the innermost cause, which names what happened.
fn find_cause(error: &(dyn std::error::Error + 'static)) -> WebError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<WebError>() {
            return ours.clone();
        }
        cause = error.source();
    }
    WebError::Unreachable(describe(error))
}

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
