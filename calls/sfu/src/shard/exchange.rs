//! How the thread that receives knows which media thread a datagram is for, and how it gets there.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::Thread;

use parking_lot::RwLock;
use str0m::net::Protocol;

use super::routes;

/// Batches that may wait for a media thread; more are lost, as they would be on the way.
pub const BATCHES: usize = 256;

/// Which thread the names and addresses of all connections belong to. The threads write it, and have the rest of a route
/// to themselves.
#[derive(Default)]
pub struct Exchange {
    names: RwLock<HashMap<String, usize>>,
    addresses: RwLock<HashMap<(SocketAddr, bool), usize>>,
}

impl Exchange {
    /// The thread a datagram is for: an ICE check names its connection, anything else is known by its source.
    pub fn find(&self, source: SocketAddr, tcp: bool, datagram: &[u8]) -> Option<usize> {
        let named = if routes::is_stun(datagram) {
            routes::local_name(datagram).and_then(|name| self.names.read().get(name).copied())
        } else {
            None
        };
        named.or_else(|| self.addresses.read().get(&(source, tcp)).copied())
    }

    pub fn add_name(&self, name: String, thread: usize) {
        self.names.write().insert(name, thread);
    }

    pub fn remove_name(&self, name: &str) {
        self.names.write().remove(name);
    }

    pub fn add_address(&self, address: SocketAddr, tcp: bool, thread: usize) {
        self.addresses.write().insert((address, tcp), thread);
    }

    /// Forgets an address, if it still belongs to the thread.
    pub fn remove_address(&self, address: SocketAddr, tcp: bool, thread: usize) {
        let mut addresses = self.addresses.write();
        if addresses.get(&(address, tcp)) == Some(&thread) {
            addresses.remove(&(address, tcp));
        }
    }

    /// Forgets everything of a thread.
    pub fn remove_thread(&self, thread: usize) {
        self.names.write().retain(|_, owner| *owner != thread);
        self.addresses.write().retain(|_, owner| *owner != thread);
    }
}

/// Datagrams that were received together.
#[derive(Debug)]
pub struct Batch {
    pub protocol: Protocol,
    bytes: Vec<u8>,
    entries: Vec<(SocketAddr, Option<IpAddr>, Range<usize>)>,
}

impl Batch {
    pub fn new(protocol: Protocol) -> Batch {
        Batch { protocol, bytes: Vec::new(), entries: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a datagram: where it came from, the address it came to if that is known.
    pub fn push(&mut self, source: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.entries.push((source, to, begin..self.bytes.len()));
    }

    /// The datagrams in the order they came.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, Option<IpAddr>, &[u8])> {
        self.entries.iter().map(|(source, to, range)| (*source, *to, self.bytes.get(range.clone()).unwrap_or_default()))
    }
}

/// The way of datagrams to a media thread.
pub struct Inlet {
    pub batches: SyncSender<Batch>,
    pub thread: Thread,
}

impl Inlet {
    /// Hands a batch over; `false` when the thread is too far behind, and the batch is lost.
    pub fn send(&self, batch: Batch) -> bool {
        let sent = !matches!(self.batches.try_send(batch), Err(TrySendError::Full(_)));
        self.thread.unpark();
        sent
    }
}
