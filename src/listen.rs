//! Listeners: TCP, TLS and unix sockets, each serving HTTP/1.1 and HTTP/2.

mod connection;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::StatusCode;
use runtime::{Clock, Counter, Gauge, Histogram, Metrics, TIME_BUCKETS, Tasks};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::config::ListenAddress;
use crate::metrics::routes::{RouteClass, RouteMetrics};
use crate::tls::Certificate;
use connection::Connection;

/// Connections the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// After a failure to accept (no file descriptors left) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A TLS handshake takes at most this long.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Owner and group may connect to a unix socket.
const SOCKET_MODE: u32 = 0o660;

/// Listening at an address is not possible; the operator's mistake.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: ListenAddress,
    /// Why.
    pub source: io::Error,
}

/// What all listeners of a server share.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) router: Router,
    pub(crate) tasks: Tasks,
    /// One permit for each connection.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) trusted_proxies: Arc<[IpAddr]>,
    /// To time answers.
    pub(crate) clock: Clock,
    pub(crate) metrics: ServingMetrics,
}

/// Figures of the listeners.
#[derive(Clone, Debug)]
pub(crate) struct ServingMetrics {
    pub(crate) connections: Gauge,
    pub(crate) requests: Counter,
    /// By the first digit of the status, from 2 on.
    pub(crate) responses: [Counter; 4],
    /// From the request's head to the answer's, long polls left out.
    pub(crate) durations: Histogram,
    /// By what requests are about.
    pub(crate) routes: RouteMetrics,
}

impl ServingMetrics {
    pub(crate) fn new(metrics: &Metrics, listener: &'static str) -> ServingMetrics {
        let labels = [("listener", listener)];
        ServingMetrics {
            connections: metrics.gauge("conduit_connections", "Connections that are open.", &labels),
            requests: metrics.counter("conduit_http_requests_total", "Requests received.", &labels),
            responses: ["2xx", "3xx", "4xx", "5xx"].map(|status| {
                let labels = [("listener", listener), ("status", status)];
                metrics.counter("conduit_http_responses_total", "Answers given.", &labels)
            }),
            durations: metrics.histogram(
                "conduit_http_duration_seconds",
                "Time to answer, of requests that do not wait for news.",
                TIME_BUCKETS,
                &labels,
            ),
            routes: RouteMetrics::new(metrics),
        }
    }

    /// Counts an answer; `waited` tells a long poll.
    pub(crate) fn count_response(&self, class: RouteClass, status: StatusCode, took: Duration, waited: bool) {
        self.routes.count(class, status, took);
        if let Some(counter) = self.responses.get(usize::from(status.as_u16() / 100).wrapping_sub(2)) {
            counter.add(1);
        }
        if !waited {
            self.durations.observe_duration(took);
        }
    }
}

/// An open socket; connections queue in the kernel until [`Listener::serve`].
#[derive(Debug)]
pub(crate) struct Listener {
    address: ListenAddress,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Tls(TcpListener, Arc<Certificate>),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream),
    Tls(TcpStream, Arc<Certificate>),
    Unix(UnixStream),
}

impl Listener {
    /// Opens the socket. `certificate` is for TLS. Must be called in a tokio runtime.
    pub(crate) fn bind(
        address: &ListenAddress,
        certificate: Option<&Arc<Certificate>>,
    ) -> Result<Listener, ListenError> {
        let failed = |source| ListenError { address: address.clone(), source };
        let (address, socket) = match address {
            ListenAddress::Tcp(socket_address) => {
                let listener = bind_tcp(*socket_address).map_err(failed)?;
                (ListenAddress::Tcp(listener.local_addr().map_err(failed)?), Socket::Tcp(listener))
            }
            ListenAddress::Tls(socket_address) => {
                let no_certificate = || failed(io::Error::other("no certificate"));
                let certificate = certificate.ok_or_else(no_certificate)?.clone();
                let listener = bind_tcp(*socket_address).map_err(failed)?;
                (ListenAddress::Tls(listener.local_addr().map_err(failed)?), Socket::Tls(listener, certificate))
            }
            ListenAddress::Unix(path) => (address.clone(), Socket::Unix(bind_unix(path, SOCKET_MODE).map_err(failed)?)),
        };
        Ok(Listener { address, socket })
    }

    /// The address, with the real port where the configuration said 0.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts connections until the shutdown begins; then closes the socket and removes its file.
    pub(crate) async fn serve(self, serving: Serving) {
        let shutdown = serving.tasks.shutdown_token();
        loop {
            // Taking the permit first leaves surplus connections in the kernel's queue.
            let accepted = async {
                let permit = serving.connections.clone().acquire_owned().await;
                (permit, self.socket.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection { serving: serving.clone(), peer };
                    serving.tasks.spawn("connection", async move {
                        connection.serving.metrics.connections.add(1);
                        serve_accepted(stream, &connection).await;
                        connection.serving.metrics.connections.add(-1);
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let ListenAddress::Unix(path) = &self.address {
            // If it is gone already, all is well.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Socket {
    /// The next connection and the peer's address; `None` is a unix socket's peer.
    async fn accept(&self) -> io::Result<(Accepted, Option<IpAddr>)> {
        match self {
            Socket::Tcp(listener) => {
                let (stream, peer) = accept_tcp(listener).await?;
                Ok((Accepted::Tcp(stream), Some(peer)))
            }
            Socket::Tls(listener, certificate) => {
                let (stream, peer) = accept_tcp(listener).await?;
                Ok((Accepted::Tls(stream, certificate.clone()), Some(peer)))
            }
            Socket::Unix(listener) => Ok((Accepted::Unix(listener.accept().await?.0), None)),
        }
    }
}

async fn serve_accepted(stream: Accepted, connection: &Connection) {
    match stream {
        Accepted::Tcp(stream) => connection.serve(stream).await,
        Accepted::Unix(stream) => connection.serve(stream).await,
        Accepted::Tls(stream, certificate) => {
            let handshake = TlsAcceptor::from(certificate.current()).accept(stream);
            match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
                Ok(Ok(stream)) => connection.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(peer = ?connection.peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(peer = ?connection.peer, "TLS handshake took too long"),
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the old server's connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept_tcp(listener: &TcpListener) -> io::Result<(TcpStream, IpAddr)> {
    let (stream, peer) = listener.accept().await?;
    // Responses are written whole, so waiting for more to send only adds delay.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    Ok((stream, peer.ip().to_canonical()))
}

/// Opens a unix socket with the given file mode, replacing one that nobody listens at any more.
pub(crate) fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Stands for the peer of a unix socket, which has no IP address.
const LOCAL_PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
