//! Which connection a datagram is for: by its source address, once an ICE check from there was
//! authenticated, and before that by the user name of the check. Never by trying all.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::exchange::Exchange;
use crate::room::PeerAt;

/// A connection and its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub room: usize,
    pub at: PeerAt,
}

/// The tables of one media thread. The exchange, which is shared, is told whose names and addresses they are.
pub struct Routes {
    names: HashMap<String, Route>,
    addresses: HashMap<(SocketAddr, bool), Route>,
    exchange: Arc<Exchange>,
    thread: usize,
}

impl Routes {
    /// Empty tables of the media thread of this number.
    pub fn new(exchange: Arc<Exchange>, thread: usize) -> Routes {
        Routes { names: HashMap::new(), addresses: HashMap::new(), exchange, thread }
    }

    pub fn by_address(&self, address: SocketAddr, tcp: bool) -> Option<Route> {
        self.addresses.get(&(address, tcp)).copied()
    }

    pub fn by_name(&self, name: &str) -> Option<Route> {
        self.names.get(name).copied()
    }

    pub fn add_name(&mut self, name: String, route: Route) {
        self.exchange.add_name(name.clone(), self.thread);
        self.names.insert(name, route);
    }

    pub fn remove_name(&mut self, name: &str) {
        self.exchange.remove_name(name);
        self.names.remove(name);
    }

    pub fn add_address(&mut self, address: SocketAddr, tcp: bool, route: Route) {
        self.exchange.add_address(address, tcp, self.thread);
        self.addresses.insert((address, tcp), route);
    }

    /// Forgets an address, if it still belongs to the connection.
    pub fn remove_address(&mut self, address: SocketAddr, room: usize) {
        for tcp in [false, true] {
            if self.addresses.get(&(address, tcp)).is_some_and(|route| route.room == room) {
                self.exchange.remove_address(address, tcp, self.thread);
                self.addresses.remove(&(address, tcp));
            }
        }
    }

    /// Forgets everything of a room.
    pub fn remove_room(&mut self, room: usize) {
        let Routes { names, addresses, exchange, thread } = self;
        names.retain(|name, route| {
            let stays = route.room != room;
            if !stays {
                exchange.remove_name(name);
            }
            stays
        });
        addresses.retain(|(address, tcp), route| {
            let stays = route.room != room;
            if !stays {
                exchange.remove_address(*address, *tcp, *thread);
            }
            stays
        });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.exchange.remove_thread(self.thread);
        self.names.clear();
        self.addresses.clear();
    }
}

/// Whether a datagram is STUN (RFC 8489 section 5, RFC 7983).
pub fn is_stun(datagram: &[u8]) -> bool {
    const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    datagram.first().is_some_and(|first| *first < 2) && datagram.get(4..8) == Some(&MAGIC)
}

/// Our part of the user name of an ICE check (RFC 8445 section 7.2.2), without looking at the rest.
pub fn local_name(datagram: &[u8]) -> Option<&str> {
    const USERNAME: u16 = 0x0006;
    const HEADER: usize = 20;
    let mut rest = datagram.get(HEADER..)?;
    loop {
        let (kind, after) = rest.split_first_chunk::<2>()?;
        let (length, after) = after.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let value = after.get(..length)?;
        if u16::from_be_bytes(*kind) == USERNAME {
            return std::str::from_utf8(value).ok()?.split(':').next();
        }
        // Attributes are padded to four bytes.
        rest = after.get(length.next_multiple_of(4)..)?;
    }
}
