//! What the core has done: sending, and the sockets of allocations.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mio::{Registry, Token};
use quinn_udp::{Transmit, UdpSockRef};
use runtime::{Counter, Metrics};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::outbox::Outbox;
use super::sockets::{Socket, bind_relay};
use super::{LISTENERS, RELAYS};
use crate::core::{Link, Outside};
use crate::meters::dropped;

/// How long a connection may be without an allocation.
const IDLE: Duration = Duration::from_secs(30);

/// Listeners, relay sockets and connections.
pub(super) struct Wire {
    registry: Registry,
    listeners: Vec<Socket>,
    /// By the slot of the allocation.
    relays: Vec<Option<Socket>>,
    connections: HashMap<u64, Connection>,
    outbox: Outbox,
    unsent: Counter,
    slow: Counter,
}

struct Connection {
    link: Link,
    frames: mpsc::Sender<Bytes>,
    /// Since when it has had no allocation.
    idle_since: Duration,
}

impl Wire {
    pub(super) fn new(registry: Registry, listeners: Vec<Socket>, metrics: &Metrics) -> Wire {
        Wire {
            registry,
            listeners,
            relays: Vec::new(),
            connections: HashMap::new(),
            outbox: Outbox::new(),
            unsent: dropped(metrics, "send"),
            slow: dropped(metrics, "slow_reader"),
        }
    }

    pub(super) fn socket(&self, token: Token) -> Option<&Socket> {
        match token.0.checked_sub(RELAYS) {
            Some(slot) => self.relays.get(slot)?.as_ref(),
            None => self.listeners.get(token.0.checked_sub(LISTENERS)?),
        }
    }

    /// Sends what has been collected. What a socket does not take now is lost, as on any network.
    pub(super) fn flush(&mut self) {
        let mut outbox = std::mem::replace(&mut self.outbox, Outbox::new());
        for run in outbox.drain() {
            let Some(socket) = self.socket(run.socket) else { continue };
            let transmit = Transmit {
                destination: run.to,
                ecn: None,
                contents: &run.bytes,
                segment_size: (run.count > 1).then_some(run.segment),
                src_ip: run.from,
            };
            if socket.state.try_send(UdpSockRef::from(&socket.inner), &transmit).is_err() {
                self.unsent.add(run.count as u64);
            }
        }
        self.outbox = outbox;
    }

    fn send(&mut self, socket: Token, to: SocketAddr, from: Option<std::net::IpAddr>, parts: [&[u8]; 3]) {
        if self.outbox.is_full() {
            self.flush();
        }
        let together = self.socket(socket).map_or(1, |socket| socket.state.max_gso_segments());
        self.outbox.add((socket, to, from), parts, together);
    }

    pub(super) fn open_connection(&mut self, link: Link, frames: mpsc::Sender<Bytes>, now: Duration) {
        if let Link::Stream { connection, .. } = link {
            self.connections.insert(connection, Connection { link, frames, idle_since: now });
        }
    }

    pub(super) fn close_connection(&mut self, link: &Link) {
        if let Link::Stream { connection, .. } = link {
            self.connections.remove(connection);
        }
    }

    /// Ends connections that hold nothing: whoever wants a relay address asks for it at once.
    pub(super) fn drop_idle_connections(&mut self, now: Duration, has_allocation: impl Fn(&Link) -> bool) {
        self.connections.retain(|_, connection| {
            if has_allocation(&connection.link) {
                connection.idle_since = now;
            }
            now.saturating_sub(connection.idle_since) < IDLE
        });
    }
}

impl Outside for Wire {
    fn open_relay(&mut self, slot: usize, address: SocketAddr) -> bool {
        let opened =
            bind_relay(address).and_then(|socket| Socket::register(socket, &self.registry, Token(RELAYS + slot)));
        match opened {
            Ok(socket) => {
                if self.relays.len() <= slot {
                    self.relays.resize_with(slot + 1, || None);
                }
                if let Some(place) = self.relays.get_mut(slot) {
                    *place = Some(socket);
                }
                true
            }
            Err(error) => {
                tracing::debug!(%address, %error, "a relay port cannot be had");
                false
            }
        }
    }

    fn close_relay(&mut self, slot: usize) {
        // The slot may be given to another allocation before the next flush.
        self.flush();
        // Closing a socket also ends its registration.
        if let Some(place) = self.relays.get_mut(slot) {
            *place = None;
        }
    }

    fn send_to_client(&mut self, link: &Link, parts: [&[u8]; 3]) {
        match link {
            Link::Udp { listener, remote, local } => {
                self.send(Token(LISTENERS + usize::from(*listener)), *remote, *local, parts);
            }
            Link::Stream { connection, .. } => {
                let Some(connection) = self.connections.get(connection) else { return };
                let mut frame = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
                parts.iter().for_each(|part| frame.extend_from_slice(part));
                if let Err(TrySendError::Full(_)) = connection.frames.try_send(frame.freeze()) {
                    self.slow.add(1);
                }
            }
        }
    }

    fn send_to_peer(&mut self, slot: usize, peer: SocketAddr, data: &[u8]) {
        self.send(Token(RELAYS + slot), peer, None, [data, &[], &[]]);
    }
}
