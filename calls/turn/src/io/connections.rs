//! Clients over TCP and TLS (RFC 8656 §2.1): each connection is a task.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use runtime::{Clock, Gauge, Metrics, Tasks};
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::mailbox::{Letter, Mailbox};
use super::sockets::listen_tcp;
use crate::codec::{FrameError, frame_len};
use crate::config::TurnConfig;
use crate::core::Link;
use crate::{Transport, TurnError};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may leave what was sent to it unread before its connection is closed.
const WRITE: Duration = Duration::from_secs(10);
/// How many frames may wait for a client that reads slowly; more are dropped.
const FRAMES: usize = 256;
/// How many bytes of frames are written at once.
const WRITE_BATCH: usize = 32 * 1024;
/// Room made for reading.
const READ: usize = 8 * 1024;
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
    let shared = Arc::new(Shared {
        mailbox: mailbox.clone(),
        clock: clock.clone(),
        places: Mutex::new(Places { total: 0, by_address: HashMap::new() }),
        most: config.connections,
        most_each: config.connections_per_address,
        next: AtomicU64::new(0),
        open: metrics.gauge("conduit_turn_connections", "TCP and TLS connections to the relay.", &[]),
    });
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
    places: Mutex<Places>,
    most: u32,
    most_each: u32,
    next: AtomicU64,
    open: Gauge,
}

struct Places {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// A connection's place among those that may be open; given back when it is dropped.
struct Place {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, ip: IpAddr) -> Option<Place> {
        let mut places = shared.places.lock();
        let of_address = places.by_address.get(&ip).copied().unwrap_or(0);
        if places.total >= shared.most || of_address >= shared.most_each {
            return None;
        }
        places.total += 1;
        places.by_address.insert(ip, of_address + 1);
        shared.open.set(places.total.into());
        Some(Place { shared: shared.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.shared.places.lock();
        places.total = places.total.saturating_sub(1);
        self.shared.open.set(places.total.into());
        if let Some(count) = places.by_address.get_mut(&self.ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                places.by_address.remove(&self.ip);
            }
        }
    }
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
        let Some(place) = Place::take(&shared, remote.ip()) else { continue };
        let (tls, stop) = (tls.clone(), tasks.shutdown_token());
        tasks.spawn("turn connection", async move {
            let served = stop.run_until_cancelled(serve(stream, remote, tls, &place.shared)).await;
            if let Some(Err(error)) = served {
                tracing::debug!(%remote, %error, "a connection to the relay ended");
            }
        });
    }
}

async fn serve(stream: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => carry(stream, remote, Transport::Tcp, shared).await,
        Some(tls) => {
            let accepted = shared.clock.timeout(HANDSHAKE, tls.accept(stream)).await;
            carry(accepted.ok_or(io::ErrorKind::TimedOut)??, remote, Transport::Tls, shared).await
        }
    }
}

/// Carries frames both ways until the client, the thread or the shutdown ends it.
async fn carry<S>(stream: S, remote: SocketAddr, transport: Transport, shared: &Shared) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = shared.next.fetch_add(1, Ordering::Relaxed);
    let link = Link::Stream { connection, remote, transport };
    let (frames, waiting) = mpsc::channel(FRAMES);
    if !shared.mailbox.post(Letter::Opened { link, frames }).await {
        return Ok(());
    }
    let (reader, writer) = tokio::io::split(stream);
    let ended = tokio::select! {
        ended = read_frames(reader, link, &shared.mailbox) => ended,
        ended = write_frames(writer, waiting, &shared.clock) => ended,
    };
    shared.mailbox.post(Letter::Closed { link }).await;
    ended
}

async fn read_frames(mut reader: impl AsyncRead + Unpin, link: Link, mailbox: &Mailbox) -> io::Result<()> {
    let mut bytes = BytesMut::with_capacity(READ);
    loop {
        while let Some(len) = frame_len(&bytes).map_err(invalid)?
            && bytes.len() >= len
        {
            // A full mailbox holds the client back.
            if !mailbox.post(Letter::Frame { link, frame: bytes.split_to(len).freeze() }).await {
                return Ok(());
            }
        }
        bytes.reserve(READ);
        if reader.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Ends when the thread has given up the connection, or the client does not read.
async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut waiting: mpsc::Receiver<Bytes>,
    clock: &Clock,
) -> io::Result<()> {
    let mut batch = BytesMut::with_capacity(WRITE_BATCH);
    while let Some(first) = waiting.recv().await {
        batch.extend_from_slice(&first);
        while batch.len() < WRITE_BATCH
            && let Ok(more) = waiting.try_recv()
        {
            batch.extend_from_slice(&more);
        }
        let write = async {
            writer.write_all(&batch).await?;
            writer.flush().await
        };
        clock.timeout(WRITE, write).await.ok_or(io::ErrorKind::TimedOut)??;
        batch.clear();
    }
    Ok(())
}
