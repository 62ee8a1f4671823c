//! What the core has done: sending, and the sockets of allocations.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::Registry;
use mio::event::Event;
use quinn_udp::{Transmit, UdpSockRef};
use runtime::{Counter, Metrics};
use slab::Slab;

use super::outbox::Outbox;
use super::sockets::{Socket, bind_relay};
use super::source::Source;
use super::stream::{Connected, Stream};
use crate::core::{Link, Outside};
use crate::meters::dropped;

/// Listeners, relay sockets and connections.
pub(super) struct Wire {
    registry: Registry,
    listeners: Vec<Socket>,
    /// By the slot of the allocation.
    relays: Vec<Option<Socket>>,
    streams: Slab<Stream>,
    /// Datagrams that have not been sent.
    outbox: Outbox,
    /// Connections to which frames are to be written; some perhaps more than once.
    unwritten: Vec<usize>,
    unsent: Counter,
    slow: Counter,
}

impl Wire {
    pub(super) fn new(registry: Registry, listeners: Vec<Socket>, metrics: &Metrics) -> Wire {
        Wire {
            registry,
            listeners,
            relays: Vec::new(),
            streams: Slab::new(),
            outbox: Outbox::new(),
            unwritten: Vec::new(),
            unsent: dropped(metrics, "send"),
            slow: dropped(metrics, "slow_reader"),
        }
    }

    /// The socket for datagrams behind `source`.
    pub(super) fn socket(&self, source: Source) -> Option<&Socket> {
        match source {
            Source::Listener(index) => self.listeners.get(usize::from(index)),
            Source::Relay(slot) => self.relays.get(slot)?.as_ref(),
            Source::Waker | Source::Stream(_) => None,
        }
    }

    pub(super) fn stream(&mut self, slot: usize) -> Option<&mut Stream> {
        self.streams.get_mut(slot)
    }

    /// Takes note of an event; whether its source has become readable, which it was not.
    pub(super) fn notice(&mut self, source: Source, event: &Event) -> bool {
        match source {
            Source::Stream(slot) => self.stream(slot).is_some_and(|stream| stream.notice(event)),
            other => self.socket(other).is_some_and(Socket::mark_readable),
        }
    }

    /// All of `source` has been read.
    pub(super) fn mark_drained(&mut self, source: Source) {
        match source {
            Source::Stream(slot) => self.stream(slot).into_iter().for_each(Stream::mark_drained),
            other => self.socket(other).into_iter().for_each(Socket::mark_drained),
        }
    }

    /// Sends and writes what has been collected. What a socket does not take now is lost, as on any network.
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
        while let Some(slot) = self.unwritten.pop() {
            if let Some(stream) = self.streams.get_mut(slot) {
                stream.write();
            }
        }
    }

    fn send(&mut self, socket: Source, to: SocketAddr, from: Option<IpAddr>, parts: [&[u8]; 3]) {
        if self.outbox.is_full() {
            self.flush();
        }
        let together = self.socket(socket).map_or(1, |socket| socket.state.max_gso_segments());
        self.outbox.add((socket, to, from), parts, together);
    }

    /// Takes a connection over; what is to be read first.
    pub(super) fn open_stream(&mut self, connected: Connected, now: Duration) -> Option<Source> {
        let place = self.streams.vacant_entry();
        let slot = place.key();
        match Stream::register(connected, slot, &self.registry, now) {
            Ok(stream) => {
                place.insert(stream);
                Some(Source::Stream(slot))
            }
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be polled");
                None
            }
        }
    }

    pub(super) fn close_stream(&mut self, slot: usize) {
        // Closing a socket also ends its registration.
        self.streams.try_remove(slot);
    }

    /// Connections that have to be closed: they have held nothing for too long, or their clients do not read.
    pub(super) fn overdue_streams(&mut self, now: Duration, has_allocation: impl Fn(&Link) -> bool) -> Vec<usize> {
        let overdue = |(slot, stream): (usize, &mut Stream)| {
            let has_allocation = has_allocation(&stream.link);
            stream.is_overdue(now, has_allocation).then_some(slot)
        };
        self.streams.iter_mut().filter_map(overdue).collect()
    }
}

impl Outside for Wire {
    fn open_relay(&mut self, slot: usize, address: SocketAddr) -> bool {
        let opened =
            bind_relay(address).and_then(|socket| Socket::register(socket, &self.registry, Source::Relay(slot)));
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
                self.send(Source::Listener(*listener), *remote, *local, parts);
            }
            Link::Stream { connection, .. } => {
                let Some(stream) = self.streams.get_mut(*connection) else { return };
                if stream.queue(parts) {
                    self.unwritten.push(*connection);
                } else {
                    self.slow.add(1);
                }
            }
        }
    }

    fn send_to_peer(&mut self, slot: usize, peer: SocketAddr, data: &[u8]) {
        self.send(Source::Relay(slot), peer, None, [data, &[], &[]]);
    }
}
