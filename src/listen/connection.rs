//! One connection: its requests, its time limits and its end.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::response::Response;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::{LOCAL_PEER, Serving};
use crate::metrics::routes::classify;

/// A connection must have made its first request by then.
const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The head of a request takes at most this long, and an idle connection lives this long. Longer
/// than the 60 s after which the usual reverse proxies close theirs, so that they close first and
/// no request is lost on the way.
const HEADER_LIMIT: Duration = Duration::from_secs(75);
/// HTTP/2: a ping after this much silence, and the time to answer it.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_LIMIT: Duration = Duration::from_secs(20);
/// HTTP/2: requests at a time on one connection.
const MAX_STREAMS: u32 = 128;

/// A connection and what it needs.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) serving: Serving,
    /// `None` for a unix socket.
    pub(super) peer: Option<IpAddr>,
}

impl Connection {
    /// Answers requests until the peer or a time limit ends the connection. Once the server shuts
    /// down, only requests that have begun are answered.
    pub(super) async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let used = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request| self.answer(request, &used));
        let builder = new_builder();
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut first_request = pin!(tokio::time::sleep(FIRST_REQUEST_LIMIT));
        let (mut awaits_first, mut draining) = (true, false);
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(peer = ?self.peer, error, "connection ended");
                    }
                    return;
                }
                () = &mut first_request, if awaits_first => {
                    if !used.load(Ordering::Relaxed) {
                        return;
                    }
                    awaits_first = false;
                }
                () = self.serving.tasks.shutdown_signal(), if !draining => {
                    connection.as_mut().graceful_shutdown();
                    draining = true;
                }
            }
        }
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
        used: &AtomicBool,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send + use<> {
        used.store(true, Ordering::Relaxed);
        self.serving.metrics.requests.add(1);
        let client = find_client_address(self.peer, request.headers(), &self.serving.trusted_proxies);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, 0)));
        let waits = request.uri().path().ends_with("/sync");
        let class = classify(request.uri().path());
        let (clock, metrics) = (self.serving.clock.clone(), self.serving.metrics.clone());
        let began = clock.monotonic();
        let answer = self.serving.router.clone().call(request);
        async move {
            let answer = answer.await?;
            metrics.count_response(class, answer.status(), clock.monotonic().saturating_sub(began), waits);
            Ok(answer)
        }
    }
}

fn new_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LIMIT)
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

/// The address that a request counts for: the peer, or, if that is a trusted proxy, the last
/// address in `X-Forwarded-For` that is not one.
fn find_client_address(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let mut client = match peer {
        Some(peer) if !trusted.contains(&peer) => return peer,
        peer => peer.unwrap_or(LOCAL_PEER),
    };
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in value.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = hop.trim().parse::<IpAddr>() else { return client };
            client = address.to_canonical();
            if !trusted.contains(&client) {
                return client;
            }
        }
    }
    client
}
