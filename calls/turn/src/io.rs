//! The sockets: one thread for datagrams and connections, and tasks that make connections.
//!
//! The thread owns the [`Core`], polls the UDP listeners, the relay sockets and the TCP and TLS connections, and reads
//! and sends in batches. No socket is read for long while others wait. Connections are accepted, and TLS handshakes
//! done, by tasks of the async runtime, which post them to the thread. A client that does not read loses frames, as on
//! any network.

mod buffers;
mod connections;
mod mailbox;
mod outbox;
mod places;
mod sockets;
mod source;
mod stream;
mod wire;

use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Waker};
use runtime::{Clock, Metrics, Random, Tasks};
use rustls::server::ResolvesServerCert;
use tokio::sync::oneshot;

use crate::auth::Auth;
use crate::codec::frame_len;
use crate::config::TurnConfig;
use crate::core::{Core, CoreParts, Link, Now, RelayAddress};
use crate::policy::{Beside, Policy};
use crate::{Neighbour, TurnError};

use buffers::Buffers;
use mailbox::Inbox;
pub(crate) use mailbox::{Letter, Mailbox};
use sockets::Socket;
use source::Source;
use stream::{Incoming, Next};
use wire::Wire;

/// How often what has expired is cleared away.
const TICK: Duration = Duration::from_secs(1);
/// How many batches are read from one socket before the next one has its turn.
const BATCHES: usize = 4;
/// How many letters are read before the sockets have their turn.
const LETTERS: usize = 64;

/// What the thread is started from.
pub(crate) struct Start {
    pub(crate) config: TurnConfig,
    pub(crate) auth: Arc<Auth>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    pub(crate) tls: Option<Arc<dyn ResolvesServerCert>>,
    pub(crate) neighbours: Vec<Neighbour>,
}

/// Opens everything, then starts the thread and the tasks.
pub(crate) fn start(start: Start) -> Result<Mailbox, TurnError> {
    let Start { config, auth, clock, random, tasks, metrics, tls, neighbours } = start;
    let poll = Poll::new()?;
    let (mailbox, inbox) = mailbox::open(Arc::new(Waker::new(poll.registry(), Source::Waker.token())?));

    let mut listeners = Vec::new();
    let addresses = sockets::listen_addresses(&config);
    for (ip, index) in addresses.iter().zip(0..) {
        let socket = sockets::bind_udp(SocketAddr::new(*ip, config.port))?;
        listeners.push(Socket::register(socket, poll.registry(), Source::Listener(index))?);
    }
    let acceptors = connections::bind(&addresses, &config, tls)?;

    let (relay_v4, relay_v6) = sockets::relay_addresses(&config);
    if relay_v4.is_none() && relay_v6.is_none() {
        return Err(TurnError::NoRelayAddress);
    }
    let policy = Policy {
        allowed: config.allowed_peers.clone(),
        own: own_addresses(&config, [relay_v4, relay_v6]),
        relay_ports: config.relay_ports,
        listener_ports: vec![config.port, config.tls_port],
        neighbours: neighbours.into_iter().map(|neighbour| beside(neighbour, [relay_v4, relay_v6])).collect(),
    };
    let core = Core::new(CoreParts { config: &config, auth, policy, relay_v4, relay_v6, random, metrics: &metrics });
    let wire = Wire::new(poll.registry().try_clone()?, listeners, &metrics);
    let next_tick = clock.monotonic();
    let thread = Thread {
        core,
        wire,
        poll,
        inbox,
        buffers: Buffers::new(),
        incoming: Incoming::new(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        readable: VecDeque::new(),
        next_tick,
    };
    watch(thread, &mailbox, &tasks)?;
    connections::accept(acceptors, &config, &mailbox, &clock, &tasks, &metrics);
    tracing::info!(port = config.port, v4 = ?relay_v4, v6 = ?relay_v6, ports = %config.relay_ports, "the relay is open");
    Ok(mailbox)
}

/// The addresses of this relay, as far as they are known: peers at them are refused.
fn own_addresses(config: &TurnConfig, relays: [Option<RelayAddress>; 2]) -> Vec<IpAddr> {
    let relays = relays.into_iter().flatten().flat_map(|relay| [relay.bind, relay.public]);
    let all = relays.chain(config.listen.iter().copied()).chain(config.public_addresses.iter().copied());
    let mut own: Vec<IpAddr> = all.filter(|ip| !ip.is_unspecified()).collect();
    own.sort_unstable();
    own.dedup();
    own
}

/// Where the media server is reached from here. If it listens on all addresses of this machine, then at that of the relay:
/// from there it answers.
fn beside(neighbour: Neighbour, relays: [Option<RelayAddress>; 2]) -> Beside {
    let Neighbour { told, listens } = neighbour;
    let relay = relays.into_iter().flatten().find(|relay| relay.bind.is_ipv4() == told.is_ipv4());
    let at = match relay {
        _ if outbound::is_own(told.ip()) => told.ip(),
        Some(relay) if listens.is_unspecified() => relay.bind,
        _ => listens,
    };
    Beside { told, at: SocketAddr::new(at, told.port()) }
}

/// Starts the thread, and a task that lives as long as it: the shutdown waits for both.
fn watch(thread: Thread, mailbox: &Mailbox, tasks: &Tasks) -> Result<(), TurnError> {
    let (ended, end) = oneshot::channel::<()>();
    std::thread::Builder::new().name("turn".to_owned()).spawn(move || {
        // Dropped when the thread ends, however it does.
        let _ended = ended;
        thread.run();
    })?;
    let (mailbox, stop) = (mailbox.clone(), tasks.shutdown_token());
    tasks.spawn("turn", async move {
        let mut end = end;
        tokio::select! {
            _ = &mut end => tracing::error!("the relay has ended: calls work only where clients reach the media port"),
            () = stop.cancelled() => {
                mailbox.wake();
                let _ = end.await;
            }
        }
    });
    Ok(())
}

/// The thread's state.
struct Thread {
    core: Core,
    wire: Wire,
    poll: Poll,
    inbox: Inbox,
    buffers: Buffers,
    incoming: Incoming,
    clock: Clock,
    tasks: Tasks,
    /// What may have more to read. Polling tells only what has become readable.
    readable: VecDeque<Source>,
    next_tick: Duration,
}

impl Thread {
    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut letters = false;
        while !self.tasks.is_shutting_down() {
            let busy = letters || !self.readable.is_empty();
            let wait = if busy { Duration::ZERO } else { TICK };
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != ErrorKind::Interrupted
            {
                tracing::error!(%error, "the relay cannot poll its sockets");
                return;
            }
            let now = Now { mono: self.clock.monotonic(), unix: self.clock.now_ms() / 1000 };
            for event in &events {
                let source = Source::of(event.token());
                if source == Source::Waker {
                    letters = true;
                } else if self.wire.notice(source, event) {
                    self.readable.push_back(source);
                }
            }
            if letters {
                letters = self.read_letters(now);
            }
            self.read_sources(now);
            self.wire.flush();
            if now.mono >= self.next_tick {
                self.next_tick = now.mono + TICK;
                self.core.tick(now, &mut self.wire);
                for slot in self.wire.overdue_streams(now.mono, |link| self.core.has_allocation(link)) {
                    self.close_stream(slot);
                }
            }
        }
    }

    /// Reads some of each source.
    fn read_sources(&mut self, now: Now) {
        for _ in 0..self.readable.len() {
            let Some(source) = self.readable.pop_front() else { return };
            let more = match source {
                Source::Stream(slot) => self.read_stream(slot, now),
                socket => self.read_socket(socket, now),
            };
            if more {
                self.readable.push_back(source);
            } else {
                self.wire.mark_drained(source);
            }
        }
    }

    /// Reads a few batches; whether there may be more.
    fn read_socket(&mut self, source: Source, now: Now) -> bool {
        for _ in 0..BATCHES {
            let Some(socket) = self.wire.socket(source) else { return false };
            let more = self.buffers.receive(socket);
            for (meta, bytes) in self.buffers.datagrams() {
                match source {
                    Source::Listener(listener) => {
                        let link = Link::Udp { listener, remote: meta.addr, local: meta.dst_ip };
                        self.core.take_from_client(now, link, bytes, &mut self.wire);
                    }
                    Source::Relay(slot) => self.core.take_from_peer(now, slot, meta.addr, bytes, &mut self.wire),
                    Source::Waker | Source::Stream(_) => {}
                }
            }
            self.wire.flush();
            if !more {
                return false;
            }
        }
        true
    }

    /// Reads once; whether there may be more.
    fn read_stream(&mut self, slot: usize, now: Now) -> bool {
        let Some(stream) = self.wire.stream(slot) else { return false };
        let link = stream.link;
        let next = stream.read(&mut self.incoming).and_then(|next| {
            let mut rest = self.incoming.frames();
            while let Some(length) = frame_len(rest).map_err(|error| Error::new(ErrorKind::InvalidData, error))?
                && let Some((frame, after)) = rest.split_at_checked(length)
            {
                self.core.take_from_client(now, link, frame, &mut self.wire);
                rest = after;
            }
            if let Some(stream) = self.wire.stream(slot) {
                stream.keep(rest);
            }
            Ok(next)
        });
        self.wire.flush();
        match next {
            Ok(Next::More) => return true,
            Ok(Next::Later) => {}
            Ok(Next::End) => self.close_stream(slot),
            Err(error) => {
                tracing::debug!(remote = %link.remote(), %error, "a connection to the relay ended");
                self.close_stream(slot);
            }
        }
        false
    }

    /// Closes a connection and gives back what it had.
    fn close_stream(&mut self, slot: usize) {
        if let Some(link) = self.wire.stream(slot).map(|stream| stream.link) {
            self.core.closed(&link, &mut self.wire);
            self.wire.close_stream(slot);
        }
    }

    /// Reads letters; whether there may be more.
    fn read_letters(&mut self, now: Now) -> bool {
        self.inbox.awake();
        for _ in 0..LETTERS {
            let Some(letter) = self.inbox.next() else { return false };
            match letter {
                Letter::Opened(connected) => self.readable.extend(self.wire.open_stream(connected, now.mono)),
                // Who asked may have gone away.
                Letter::Overview(answer) => _ = answer.send(self.core.overview(now)),
            }
        }
        true
    }
}
