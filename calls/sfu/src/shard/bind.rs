//! How the media threads and the thread of the sockets begin.

use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use mio::net::TcpListener;
use mio::{Interest, Poll, Token, Waker};
use runtime::Clock;
use slab::Slab;
use str0m::net::Protocol;

use super::directory::Directory;
use super::exchange::{BATCHES, Batch, Exchange, Inlet};
use super::gather::Gather;
use super::metrics::MediaMetrics;
use super::ports::{FIRST_UDP, Ports, TCP_ORDERS, TcpOrder, TcpWay, WAKER};
use super::routes::Routes;
use super::run::Shard;
use super::self_test::SelfTest;
use super::tcp::TcpPorts;
use super::udp::{Sender, UdpPort};
use super::{Backlog, Board, COMMANDS, Shards, Shared, Way, addresses};
use crate::config::SfuConfig;
use crate::room::{Fixed, Outbox};
use crate::server::{SfuError, SfuParts};

/// What all threads have in common.
struct Common {
    fixed: Arc<Fixed>,
    udp: Arc<Vec<UdpPort>>,
    tcp: TcpWay,
    exchange: Arc<Exchange>,
    directory: Arc<Directory>,
    /// The addresses told to clients that are this machine's.
    own: Vec<IpAddr>,
    started: Instant,
}

/// Binds the sockets and starts the threads.
///
/// # Errors
/// [`SfuError`]: what the operator has to change.
pub fn start(parts: &SfuParts) -> Result<Shards, SfuError> {
    let config = &parts.config;
    let poll = Poll::new().map_err(SfuError::Thread)?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(SfuError::Thread)?);
    let (mut udp, listeners) = open_ports(config)?;
    for (index, port) in udp.iter_mut().enumerate() {
        let token = Token(FIRST_UDP + index);
        poll.registry().register(&mut port.socket, token, Interest::READABLE).map_err(SfuError::Thread)?;
    }
    let tcp = TcpPorts::register(listeners, FIRST_UDP + udp.len(), poll.registry()).map_err(SfuError::Thread)?;
    let udp_port = udp.first().map(|port| port.local.port()).ok_or(SfuError::NoAddress)?;
    let tcp_port = tcp.local_addresses().first().map(SocketAddr::port);
    let public = addresses::public_addresses(config);
    let fixed = Arc::new(fixed(parts, &public, udp_port, tcp_port)?);
    let threads = config.media_threads();
    tracing::info!(?public, udp_port, tcp_port, threads, "media of calls are received");
    let (orders, ordered) = sync_channel(TCP_ORDERS);
    let common = Common {
        fixed,
        udp: Arc::new(udp),
        tcp: TcpWay { orders, waker },
        exchange: Arc::default(),
        directory: Arc::new(Directory::new(threads)),
        own: addresses::own(&public),
        started: start_of_time(&parts.clock),
    };
    let (mut ways, mut inlets) = (Vec::new(), Vec::new());
    for thread in 0..threads {
        let (way, inlet) = start_thread(parts, &common, thread)?;
        ways.push(way);
        inlets.push(inlet);
    }
    let stopping = start_ports(parts, &common, poll, tcp, ordered, inlets)?;
    // The addresses that are told to clients.
    let name = |protocol| if protocol == Protocol::Udp { "udp" } else { "tcp" };
    let candidates = common.fixed.candidates.iter();
    let addresses = candidates.map(|candidate| (name(candidate.proto()), candidate.addr())).collect();
    Ok(Shards(Arc::new(Shared { ways, directory: common.directory, addresses, stopping, ports: common.tcp })))
}

/// Starts the media thread of this number.
fn start_thread(parts: &SfuParts, common: &Common, thread: usize) -> Result<(Way, Inlet), SfuError> {
    let (commands, inbox) = sync_channel(COMMANDS);
    let (batches, incoming) = sync_channel(BATCHES);
    let (board, backlog): (Arc<Board>, Arc<Backlog>) = (Arc::default(), Arc::default());
    let shard = Shard {
        thread,
        fixed: common.fixed.clone(),
        clock: parts.clock.clone(),
        started: common.started,
        observer: parts.observer.clone(),
        board: board.clone(),
        directory: common.directory.clone(),
        inbox,
        backlog: backlog.clone(),
        batches: incoming,
        udp: common.udp.clone(),
        tcp: common.tcp.clone(),
        sender: Sender::new(common.own.clone()),
        rooms: Slab::new(),
        by_name: HashMap::new(),
        touched: Vec::new(),
        routes: Routes::new(common.exchange.clone(), thread),
        wakes: BinaryHeap::new(),
        out: Outbox::default(),
        next_tick: common.started,
        next_overview: common.started,
        stopping: false,
    };
    let builder = std::thread::Builder::new().name(format!("sfu-media-{thread}"));
    let running = builder.spawn(move || shard.run()).map_err(SfuError::Thread)?;
    let running = running.thread().clone();
    Ok((Way { commands, backlog, thread: running.clone(), board }, Inlet { batches, thread: running }))
}

/// Starts the thread of the sockets; what ends it.
fn start_ports(
    parts: &SfuParts,
    common: &Common,
    poll: Poll,
    tcp: TcpPorts,
    orders: Receiver<TcpOrder>,
    inlets: Vec<Inlet>,
) -> Result<Arc<AtomicBool>, SfuError> {
    let stopping = Arc::new(AtomicBool::new(false));
    let ports = Ports {
        poll,
        udp: common.udp.clone(),
        tcp,
        orders,
        waker: common.tcp.waker.clone(),
        exchange: common.exchange.clone(),
        waiting: inlets.iter().map(|_| Batch::new(Protocol::Udp)).collect(),
        inlets,
        readable: Vec::new(),
        last_round: common.started,
        gather: Gather::new(common.started),
        next_check: common.started,
        self_test: SelfTest::new(&parts.secret),
        sender: Sender::new(common.own.clone()),
        metrics: MediaMetrics::new(&parts.metrics),
        clock: parts.clock.clone(),
        started: common.started,
        stopping: stopping.clone(),
    };
    let builder = std::thread::Builder::new().name("sfu-ports".to_owned());
    builder.spawn(move || ports.run()).map_err(SfuError::Thread)?;
    Ok(stopping)
}

/// What does not change.
fn fixed(parts: &SfuParts, public: &[IpAddr], udp_port: u16, tcp_port: Option<u16>) -> Result<Fixed, SfuError> {
    let candidates = addresses::candidates(public, udp_port, tcp_port);
    if candidates.is_empty() {
        return Err(SfuError::NoAddress);
    }
    let provider = str0m::crypto::from_feature_flags().dtls_provider;
    let no_certificate = || SfuError::Thread(std::io::Error::other("no certificate for media can be made"));
    let certificate = provider.generate_certificate().ok_or_else(no_certificate)?;
    let (random, metrics) = (parts.random.clone(), MediaMetrics::new(&parts.metrics));
    Ok(Fixed { config: parts.config.clone(), random, certificate, candidates, metrics })
}

/// The sockets of all addresses to listen on.
fn open_ports(config: &SfuConfig) -> Result<(Vec<UdpPort>, Vec<TcpListener>), SfuError> {
    let (mut udp, mut listeners) = (Vec::new(), Vec::new());
    for ip in &config.listen {
        let address = SocketAddr::new(*ip, config.udp_port);
        match UdpPort::bind(address) {
            Ok(port) => udp.push(port),
            // A machine without IPv6 is no reason to give up.
            Err(source) if ip.is_ipv6() && ip.is_unspecified() => {
                tracing::info!(%source, "no media over IPv6");
                continue;
            }
            Err(source) => return Err(SfuError::Bind { address, source }),
        }
        if config.tcp_port != 0 {
            let address = SocketAddr::new(*ip, config.tcp_port);
            match TcpPorts::bind(address) {
                Ok(listener) => listeners.push(listener),
                Err(source) => return Err(SfuError::Bind { address, source }),
            }
        }
    }
    Ok((udp, listeners))
}

/// The instant at which the clock stood at zero.
#[expect(clippy::disallowed_methods, reason = "the engine counts in instants, of which one has to be taken")]
fn start_of_time(clock: &Clock) -> Instant {
    let now = Instant::now();
    now.checked_sub(clock.monotonic()).unwrap_or(now)
}
