//! How the media thread gets its sockets.

use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use mio::net::TcpListener;
use mio::{Interest, Poll, Token, Waker};
use runtime::Clock;
use slab::Slab;
use str0m::net::Protocol;

use super::addresses;
use super::metrics::MediaMetrics;
use super::routes::Routes;
use super::run::{FIRST_UDP, Shard, WAKER};
use super::tcp::TcpPorts;
use super::udp::{Sender, UdpPort};
use super::{Board, Command};
use crate::config::SfuConfig;
use crate::room::{Fixed, Outbox};
use crate::server::{SfuError, SfuParts};

impl Shard {
    /// Binds the sockets.
    pub fn bind(parts: &SfuParts, inbox: Receiver<Command>, board: Arc<Board>) -> Result<(Shard, Waker), SfuError> {
        let config = &parts.config;
        let poll = Poll::new().map_err(SfuError::Thread)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(SfuError::Thread)?;
        let (mut udp, listeners) = open_ports(config)?;
        for (index, port) in udp.iter_mut().enumerate() {
            let token = Token(FIRST_UDP + index);
            poll.registry().register(&mut port.socket, token, Interest::READABLE).map_err(SfuError::Thread)?;
        }
        let tcp = TcpPorts::register(listeners, FIRST_UDP + udp.len(), poll.registry()).map_err(SfuError::Thread)?;
        let udp_port = udp.first().map(|port| port.local.port()).ok_or(SfuError::NoAddress)?;
        let tcp_port = tcp.local_addresses().first().map(SocketAddr::port);
        let public = addresses::public_addresses(config);
        let candidates = addresses::candidates(&public, udp_port, tcp_port);
        if candidates.is_empty() {
            return Err(SfuError::NoAddress);
        }
        let provider = str0m::crypto::from_feature_flags().dtls_provider;
        let no_certificate = || SfuError::Thread(std::io::Error::other("no certificate for media can be made"));
        let certificate = provider.generate_certificate().ok_or_else(no_certificate)?;
        let (random, metrics) = (parts.random.clone(), MediaMetrics::new(&parts.metrics));
        let fixed = Fixed { config: config.clone(), random, certificate, candidates, metrics };
        tracing::info!(?public, udp_port, tcp_port, "media of calls are received");
        let started = start_of_time(&parts.clock);
        let readable = vec![true; udp.len()];
        let shard = Shard {
            fixed,
            clock: parts.clock.clone(),
            started,
            observer: parts.observer.clone(),
            board,
            inbox,
            poll,
            udp,
            tcp,
            sender: Sender::new(addresses::own(&public)),
            rooms: Slab::new(),
            by_name: HashMap::new(),
            touched: Vec::new(),
            routes: Routes::default(),
            wakes: BinaryHeap::new(),
            out: Outbox::default(),
            readable,
            next_tick: started,
            next_overview: started,
            stopping: false,
        };
        Ok((shard, waker))
    }

    /// The addresses that are told to clients.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let name = |protocol| if protocol == Protocol::Udp { "udp" } else { "tcp" };
        self.fixed.candidates.iter().map(|candidate| (name(candidate.proto()), candidate.addr())).collect()
    }
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
