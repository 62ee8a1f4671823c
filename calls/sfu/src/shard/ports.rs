//! The thread of the sockets: receives what comes over UDP and TCP and hands it to the media thread it is for. It knows no
//! call and computes nothing, so that no call waits for another here.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use runtime::Clock;
use str0m::net::Protocol;

use super::exchange::{Batch, Exchange, Inlet};
use super::gather::Gather;
use super::metrics::MediaMetrics;
use super::self_test::SelfTest;
use super::tcp::TcpPorts;
use super::udp::{Buffers, Sender, UdpPort};

pub(super) const WAKER: Token = Token(0);
pub(super) const FIRST_UDP: usize = 1;
/// Receives of one round and socket.
const RECEIVES_A_ROUND: usize = 16;
/// Larger datagrams are no media: no path carries them in one piece. The engine cannot send on more than 2,000
/// bytes with the headers it adds, and panics when it is given more.
const MAX_DATAGRAM: usize = 1600;
/// How long the loop rests at most.
const REST: Duration = Duration::from_millis(500);
/// What may wait to be sent over TCP by the media threads; more is lost.
pub const TCP_ORDERS: usize = 8192;

/// What a media thread wants of the TCP connections.
pub enum TcpOrder {
    Send(SocketAddr, Vec<u8>),
    /// A call has authenticated the connection.
    Claim(SocketAddr),
}

/// The way to the TCP connections; cloning is cheap.
#[derive(Clone)]
pub struct TcpWay {
    pub orders: SyncSender<TcpOrder>,
    pub waker: Arc<Waker>,
}

impl TcpWay {
    /// Orders something; done once [`TcpWay::wake`] is called.
    pub fn order(&self, order: TcpOrder) {
        // What finds no room is lost, as it would be on the way.
        let _ = self.orders.try_send(order);
    }

    pub fn wake(&self) {
        // Fails only when the thread is gone.
        let _ = self.waker.wake();
    }
}

/// The state of the thread.
pub struct Ports {
    pub poll: Poll,
    pub udp: Arc<Vec<UdpPort>>,
    pub tcp: TcpPorts,
    pub orders: Receiver<TcpOrder>,
    pub waker: Arc<Waker>,
    pub exchange: Arc<Exchange>,
    pub inlets: Vec<Inlet>,
    pub self_test: SelfTest,
    pub sender: Sender,
    pub metrics: MediaMetrics,
    pub clock: Clock,
    /// What [`Clock::monotonic`] is counted from.
    pub started: Instant,
    pub stopping: Arc<AtomicBool>,
    /// What was received and not handed over, for each media thread.
    pub waiting: Vec<Batch>,
    /// UDP sockets that may still have datagrams.
    pub readable: Vec<bool>,
    pub last_round: Instant,
    pub gather: Gather,
    pub next_check: Instant,
}

impl Ports {
    /// Runs until stopped. A panic loses the datagrams of a round and nothing else.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut buffers = Buffers::new();
        self.readable = vec![true; self.udp.len()];
        while !self.stopping.load(Ordering::Relaxed) {
            let round = catch_unwind(AssertUnwindSafe(|| self.round(&mut events, &mut buffers)));
            if round.is_err() {
                tracing::error!("the thread of the media ports panicked; this is a bug in the server");
            }
        }
    }

    fn round(&mut self, events: &mut Events, buffers: &mut Buffers) {
        let rest = if self.readable.contains(&true) { Duration::ZERO } else { REST };
        if let Err(error) = self.poll.poll(events, Some(rest))
            && error.kind() != ErrorKind::Interrupted
        {
            tracing::error!(%error, "the thread of the media ports cannot poll");
            std::thread::sleep(REST);
        }
        // What comes meanwhile is received, handed over and sent on together, for a fraction of the cost. Where little comes,
        // nothing waits.
        let passed = (self.started + self.clock.monotonic()).saturating_duration_since(self.last_round);
        let early = self.gather.time().saturating_sub(passed);
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        let now = self.started + self.clock.monotonic();
        self.last_round = now;
        self.gather.note(self.metrics.datagrams_out.get(), now);
        for event in &*events {
            match event.token().0.checked_sub(FIRST_UDP) {
                None => {}
                Some(index) if index < self.readable.len() => self.note_readable(index, true),
                Some(_) => self.serve_tcp(event.token(), now),
            }
        }
        for index in 0..self.readable.len() {
            if self.readable.get(index) == Some(&true) {
                let more = self.receive(index, buffers);
                self.note_readable(index, more);
            }
        }
        self.take_orders();
        if now >= self.next_check {
            self.next_check = now + REST;
            self.tcp.close_unclaimed(now, self.poll.registry());
        }
    }

    fn note_readable(&mut self, index: usize, more: bool) {
        if let Some(readable) = self.readable.get_mut(index) {
            *readable = more;
        }
    }

    /// Receives on a UDP socket; whether there may be more.
    fn receive(&mut self, index: usize, buffers: &mut Buffers) -> bool {
        let udp = self.udp.clone();
        let Some(port) = udp.get(index) else { return false };
        for _ in 0..RECEIVES_A_ROUND {
            let filled = match port.receive(buffers) {
                Ok(filled) => filled,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                // For instance an ICMP message about somebody who is gone.
                Err(_) => continue,
            };
            for (source, to, datagram) in buffers.datagrams(filled) {
                self.sort(Protocol::Udp, source, to, datagram);
            }
            self.hand_over(Protocol::Udp);
        }
        true
    }

    fn serve_tcp(&mut self, token: Token, now: Instant) {
        let mut arrived = Vec::new();
        self.tcp.serve(token, self.poll.registry(), now, &mut arrived);
        for datagram in arrived {
            self.sort(Protocol::Tcp, datagram.remote, Some(datagram.local.ip()), &datagram.contents);
        }
        self.hand_over(Protocol::Tcp);
    }

    /// Finds the media thread of a datagram. Without one nothing is computed, and only a self-test is answered.
    fn sort(&mut self, protocol: Protocol, source: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) {
        self.metrics.datagrams_in.add(1);
        self.metrics.bytes_in.add(datagram.len() as u64);
        let fits = datagram.len() <= MAX_DATAGRAM;
        let thread = fits.then(|| self.exchange.find(source, protocol != Protocol::Udp, datagram)).flatten();
        match thread.and_then(|thread| self.waiting.get_mut(thread)) {
            Some(batch) => batch.push(source, to, datagram),
            None => self.take_from_stranger(protocol, source, datagram),
        }
    }

    /// A datagram of no connection: only a self-test is answered, that wants to know whether datagrams arrive.
    fn take_from_stranger(&mut self, protocol: Protocol, source: SocketAddr, datagram: &[u8]) {
        self.metrics.strangers.add(1);
        let Some(answer) = self.self_test.answer(datagram, source) else { return };
        match protocol {
            Protocol::Udp => self.sender.answer(&self.udp, source, &answer, &self.metrics),
            _ => self.tcp.send(source, &answer, self.poll.registry()),
        }
    }

    fn hand_over(&mut self, protocol: Protocol) {
        for (batch, inlet) in self.waiting.iter_mut().zip(&self.inlets) {
            if batch.is_empty() {
                continue;
            }
            let mut batch = std::mem::replace(batch, Batch::new(protocol));
            batch.protocol = protocol;
            if !inlet.send(batch) {
                self.metrics.overruns.add(1);
            }
        }
    }

    fn take_orders(&mut self) {
        for _ in 0..TCP_ORDERS {
            match self.orders.try_recv() {
                Ok(TcpOrder::Send(destination, contents)) => {
                    self.metrics.datagrams_out.add(1);
                    self.tcp.send(destination, &contents, self.poll.registry());
                }
                Ok(TcpOrder::Claim(source)) => self.tcp.claim(source),
                Err(_) => return,
            }
        }
        // There may be more, for the next round; fails only when the thread is gone, which is this one.
        let _ = self.waker.wake();
    }
}
