//! Media over TCP, for clients whose network lets no UDP through: passive ICE-TCP candidates (RFC 6544),
//! each datagram behind its length (RFC 4571).

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

/// More connections are closed at once.
const MAX_CONNECTIONS: usize = 2000;
/// More connections of one address are closed at once.
const MAX_PER_ADDRESS: usize = 50;
/// A connection that no call has claimed by then is closed.
const CLAIM_LIMIT: Duration = Duration::from_secs(10);
/// What may wait for a slow reader, in bytes.
const MAX_UNSENT: usize = 512 * 1024;
/// The most that is read from one connection before others have their turn.
const READ_ROUND: usize = 256 * 1024;
const BACKLOG: i32 = 256;

/// A client's connection.
struct Connection {
    stream: TcpStream,
    remote: SocketAddr,
    /// The address the client connected to.
    local: SocketAddr,
    /// The beginning of a datagram whose rest has not come.
    unread: Vec<u8>,
    unsent: Vec<u8>,
    opened: Instant,
    claimed: bool,
}

/// The listening sockets and their connections.
#[derive(Default)]
pub struct TcpPorts {
    listeners: Vec<TcpListener>,
    connections: Slab<Connection>,
    by_remote: HashMap<SocketAddr, usize>,
    /// The first token; listeners come before connections.
    first: usize,
}

/// A datagram that came over TCP.
pub struct Arrived {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub contents: Vec<u8>,
}

impl TcpPorts {
    /// Binds a listener. `index` is the number of listeners before it.
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from_std(socket.into()))
    }

    /// Polls the listeners with tokens from `first` on.
    pub fn register(mut listeners: Vec<TcpListener>, first: usize, registry: &Registry) -> io::Result<TcpPorts> {
        for (index, listener) in listeners.iter_mut().enumerate() {
            registry.register(listener, Token(first + index), Interest::READABLE)?;
        }
        Ok(TcpPorts { listeners, first, ..TcpPorts::default() })
    }

    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Something may be done on the socket of `token`; what arrived goes into `arrived`.
    pub fn serve(&mut self, token: Token, registry: &Registry, now: Instant, arrived: &mut Vec<Arrived>) {
        let Some(index) = token.0.checked_sub(self.first) else { return };
        match index.checked_sub(self.listeners.len()) {
            None => self.accept(index, registry, now),
            Some(key) => {
                let open = self.read(key, arrived) && self.write(key);
                if !open {
                    self.close(key, registry);
                }
            }
        }
    }

    fn accept(&mut self, index: usize, registry: &Registry, now: Instant) {
        for _ in 0..MAX_CONNECTIONS {
            let Some(Ok((mut stream, remote))) = self.listeners.get(index).map(|listener| listener.accept()) else {
                return;
            };
            let of_address = self.connections.iter().filter(|(_, other)| other.remote.ip() == remote.ip()).count();
            if self.connections.len() >= MAX_CONNECTIONS || of_address >= MAX_PER_ADDRESS {
                continue;
            }
            let Ok(local) = stream.local_addr() else { continue };
            let _ = stream.set_nodelay(true);
            let key = self.connections.vacant_key();
            let token = Token(self.first + self.listeners.len() + key);
            if registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
                continue;
            }
            let (unread, unsent) = (Vec::new(), Vec::new());
            self.connections.insert(Connection { stream, remote, local, unread, unsent, opened: now, claimed: false });
            self.by_remote.insert(remote, key);
        }
    }

    /// Reads until there is nothing more; `false` when the connection is over.
    fn read(&mut self, key: usize, arrived: &mut Vec<Arrived>) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return true };
        let mut buffer = [0; 16 * 1024];
        let mut total = 0;
        while total < READ_ROUND {
            match connection.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(len) => {
                    total += len;
                    connection.unread.extend_from_slice(buffer.get(..len).unwrap_or_default());
                    connection.take_datagrams(arrived);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        // One that sends this much at once is not a client of ours.
        false
    }

    fn write(&mut self, key: usize) -> bool {
        self.connections.get_mut(key).is_none_or(Connection::flush)
    }

    fn close(&mut self, key: usize, registry: &Registry) {
        let Some(mut connection) = self.connections.try_remove(key) else { return };
        let _ = registry.deregister(&mut connection.stream);
        if self.by_remote.get(&connection.remote) == Some(&key) {
            self.by_remote.remove(&connection.remote);
        }
    }

    /// A call has authenticated the connection.
    pub fn claim(&mut self, remote: SocketAddr) {
        if let Some(connection) = self.by_remote.get(&remote).and_then(|key| self.connections.get_mut(*key)) {
            connection.claimed = true;
        }
    }

    /// Sends a datagram to a client, if it is still connected.
    pub fn send(&mut self, remote: SocketAddr, contents: &[u8], registry: &Registry) {
        let Some(key) = self.by_remote.get(&remote).copied() else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Ok(length) = u16::try_from(contents.len()) else { return };
        connection.unsent.extend_from_slice(&length.to_be_bytes());
        connection.unsent.extend_from_slice(contents);
        if connection.unsent.len() > MAX_UNSENT || !connection.flush() {
            self.close(key, registry);
        }
    }

    /// Closes what no call has claimed in time.
    pub fn close_unclaimed(&mut self, now: Instant, registry: &Registry) {
        let late = |connection: &Connection| {
            !connection.claimed && now.saturating_duration_since(connection.opened) > CLAIM_LIMIT
        };
        let late: Vec<usize> = self.connections.iter().filter(|(_, one)| late(one)).map(|(key, _)| key).collect();
        for key in late {
            self.close(key, registry);
        }
    }
}

impl Connection {
    /// Takes whole datagrams out of what was read.
    fn take_datagrams(&mut self, arrived: &mut Vec<Arrived>) {
        let mut rest = self.unread.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let Some((contents, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
                break;
            };
            arrived.push(Arrived { remote: self.remote, local: self.local, contents: contents.to_vec() });
            rest = after;
        }
        let taken = self.unread.len() - rest.len();
        self.unread.drain(..taken);
    }

    /// Writes what waits; `false` when the connection is over.
    fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return false,
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::NotConnected => return true,
                Err(_) => return false,
            }
        }
        true
    }
}
