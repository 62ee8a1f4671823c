//! How clients connect over TCP and TLS (RFC 8656 §2.1). Handshakes are done by tasks, because their mathematics would
//! hold up the media of others; the thread has what follows.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use runtime::{Clock, Metrics, Tasks};
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::mailbox::{Letter, Mailbox};
use super::places::{Place, Places};
use super::sockets::listen_tcp;
use super::stream::Connected;
use crate::TurnError;
use crate::config::TurnConfig;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener, with TLS or without.
pub(super) struct Acceptor {
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
}

/// Opens the listeners for connections.
pub(super) fn bind(
    addresses: &[IpAddr],
    config: &TurnConfig,
    tls: Option<Arc<dyn ResolvesServerCert>>,
) -> Result<Vec<Acceptor>, TurnError> {
    let tls = tls.filter(|_| config.tls_port != 0).map(tls_acceptor).transpose()?;
    let mut acceptors = Vec::new();
    for ip in addresses {
        if config.tcp {
            acceptors.push(Acceptor { listener: listen_tcp(SocketAddr::new(*ip, config.port))?, tls: None });
        }
        if let Some(tls) = &tls {
            let listener = listen_tcp(SocketAddr::new(*ip, config.tls_port))?;
            acceptors.push(Acceptor { listener, tls: Some(tls.clone()) });
        }
    }
    Ok(acceptors)
}

fn tls_acceptor(resolver: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, TurnError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_cert_resolver(resolver))))
}

/// Accepts connections until the shutdown.
pub(super) fn accept(
    acceptors: Vec<Acceptor>,
    config: &TurnConfig,
    mailbox: &Mailbox,
    clock: &Clock,
    tasks: &Tasks,
    metrics: &Metrics,
) {
    let shared =
        Arc::new(Shared { mailbox: mailbox.clone(), clock: clock.clone(), places: Places::new(config, metrics) });
    for acceptor in acceptors {
        let (shared, tasks) = (shared.clone(), tasks.clone());
        tasks.clone().spawn("turn connections", async move {
            match TcpListener::from_std(acceptor.listener) {
                Ok(listener) => accept_from(listener, acceptor.tls, shared, tasks).await,
                Err(error) => tracing::error!(%error, "the relay cannot accept connections"),
            }
        });
    }
}

/// What all connections share.
struct Shared {
    mailbox: Mailbox,
    clock: Clock,
    places: Arc<Places>,
}

async fn accept_from(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>, tasks: Tasks) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.shutdown_signal() => return,
        };
        let Ok((stream, remote)) = accepted else {
            // Out of file descriptors, as a rule: trying again at once would only burn time.
            shared.clock.sleep(PAUSE).await;
            continue;
        };
        let Some(place) = shared.places.take(remote.ip()) else { continue };
        let (tls, shared, stop) = (tls.clone(), shared.clone(), tasks.shutdown_token());
        tasks.spawn("turn connection", async move {
            let given = stop.run_until_cancelled(hand_over(stream, tls, remote, place, &shared)).await;
            if let Some(Err(error)) = given {
                tracing::debug!(%remote, %error, "a connection to the relay was not made");
            }
        });
    }
}

/// Does the handshake, if there is one, and gives the connection to the thread.
async fn hand_over(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    remote: SocketAddr,
    place: Place,
    shared: &Shared,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (stream, session) = match tls {
        None => (stream, None),
        Some(tls) => {
            let accepted = shared.clock.timeout(HANDSHAKE, tls.accept(stream)).await;
            let (stream, session) = accepted.ok_or(io::ErrorKind::TimedOut)??.into_inner();
            (stream, Some(Box::new(session)))
        }
    };
    shared.mailbox.post(Letter::Opened(Connected { socket: stream.into_std()?, remote, session, place })).await;
    Ok(())
}
