//! The sockets: one thread for datagrams, and tasks for connections.
//!
//! The thread owns the [`Core`], polls the UDP listeners and the relay sockets, and reads and sends in batches. TCP and
//! TLS connections are read by tasks of the async runtime, because handshakes and encryption would hold up the
//! datagrams of others; they hand whole frames to the thread through a bounded mailbox, and get frames back through a
//! bounded queue each. A full queue drops frames, as a network would.

mod buffers;
mod connections;
mod mailbox;
mod outbox;
mod sockets;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use runtime::{Clock, Metrics, Random, Tasks};
use rustls::server::ResolvesServerCert;
use tokio::sync::oneshot;

use crate::TurnError;
use crate::auth::Auth;
use crate::config::TurnConfig;
use crate::core::{Core, CoreParts, Link, Now, RelayAddress};
use crate::policy::Policy;

use buffers::Buffers;
use mailbox::Inbox;
pub(crate) use mailbox::{Letter, Mailbox};
use sockets::Socket;
use wire::Wire;

const WAKER: Token = Token(0);
/// Tokens of the listeners begin here.
const LISTENERS: usize = 1;
/// Tokens of the relay sockets begin here, with the slots of their allocations.
const RELAYS: usize = 1 << 16;
/// How often what has expired is cleared away.
const TICK: Duration = Duration::from_secs(1);
/// How many batches are read from one socket before the next one has its turn.
const BATCHES: usize = 4;
/// How many letters are read before the sockets have their turn.
const LETTERS: usize = 512;

/// What the thread is started from.
pub(crate) struct Start {
    pub(crate) config: TurnConfig,
    pub(crate) auth: Arc<Auth>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    pub(crate) tls: Option<Arc<dyn ResolvesServerCert>>,
    pub(crate) neighbours: Vec<SocketAddr>,
}

/// Opens everything, then starts the thread and the tasks.
pub(crate) fn start(start: Start) -> Result<Mailbox, TurnError> {
    let Start { config, auth, clock, random, tasks, metrics, tls, neighbours } = start;
    let poll = Poll::new()?;
    let (mailbox, inbox) = mailbox::open(Arc::new(Waker::new(poll.registry(), WAKER)?));

    let mut listeners = Vec::new();
    let addresses = sockets::listen_addresses(&config);
    for ip in &addresses {
        let socket = sockets::bind_udp(SocketAddr::new(*ip, config.port))?;
        listeners.push(Socket::register(socket, poll.registry(), Token(LISTENERS + listeners.len()))?);
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
        neighbours,
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
        clock: clock.clone(),
        tasks: tasks.clone(),
        readable: Vec::new(),
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
    clock: Clock,
    tasks: Tasks,
    /// Sockets that may have more to read. Polling tells only what has become readable.
    readable: Vec<Token>,
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
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the relay cannot poll its sockets");
                return;
            }
            let now = Now { mono: self.clock.monotonic(), unix: self.clock.now_ms() / 1000 };
            for event in &events {
                if event.token() == WAKER {
                    letters = true;
                } else if self.wire.socket(event.token()).is_some_and(Socket::mark_readable) {
                    self.readable.push(event.token());
                }
            }
            if letters {
                letters = self.read_letters(now);
            }
            self.read_sockets(now);
            self.wire.flush();
            if now.mono >= self.next_tick {
                self.next_tick = now.mono + TICK;
                self.core.tick(now, &mut self.wire);
                let core = &self.core;
                self.wire.drop_idle_connections(now.mono, |link| core.has_allocation(link));
            }
        }
    }

    fn read_sockets(&mut self, now: Now) {
        for token in std::mem::take(&mut self.readable) {
            if self.read_socket(token, now) {
                self.readable.push(token);
            } else if let Some(socket) = self.wire.socket(token) {
                socket.mark_drained();
            }
        }
    }

    /// Reads a few batches; whether there may be more.
    fn read_socket(&mut self, token: Token, now: Now) -> bool {
        for _ in 0..BATCHES {
            let Some(socket) = self.wire.socket(token) else { return false };
            let more = self.buffers.receive(socket);
            for (meta, bytes) in self.buffers.datagrams() {
                match token.0.checked_sub(RELAYS) {
                    Some(slot) => self.core.take_from_peer(now, slot, meta.addr, bytes, &mut self.wire),
                    None => {
                        let listener = u16::try_from(token.0 - LISTENERS).unwrap_or(u16::MAX);
                        let link = Link::Udp { listener, remote: meta.addr, local: meta.dst_ip };
                        self.core.take_from_client(now, link, bytes, &mut self.wire);
                    }
                }
            }
            self.wire.flush();
            if !more {
                return false;
            }
        }
        true
    }

    /// Reads letters; whether there may be more.
    fn read_letters(&mut self, now: Now) -> bool {
        self.inbox.awake();
        for _ in 0..LETTERS {
            let Some(letter) = self.inbox.next() else { return false };
            match letter {
                Letter::Opened { link, frames } => self.wire.open_connection(link, frames, now.mono),
                Letter::Frame { link, frame } => self.core.take_from_client(now, link, &frame, &mut self.wire),
                Letter::Closed { link } => {
                    self.core.closed(&link, &mut self.wire);
                    self.wire.close_connection(&link);
                }
                // Who asked may have gone away.
                Letter::Overview(answer) => _ = answer.send(self.core.overview(now)),
            }
        }
        true
    }
}
