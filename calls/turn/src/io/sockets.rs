//! UDP sockets.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry};
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::source::Source;
use crate::TurnError;
use crate::config::TurnConfig;
use crate::core::RelayAddress;

/// Buffers of the kernel for the sockets that everybody shares; it may give less.
const LISTENER_BUFFER: usize = 4 * 1024 * 1024;

/// A socket that is polled.
pub(super) struct Socket {
    pub(super) inner: UdpSocket,
    pub(super) state: UdpSocketState,
    /// Whether it is in the thread's list of sockets to read.
    readable: Cell<bool>,
}

impl Socket {
    pub(super) fn register(socket: std::net::UdpSocket, registry: &Registry, source: Source) -> io::Result<Socket> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let mut inner = UdpSocket::from_std(socket);
        registry.register(&mut inner, source.token(), Interest::READABLE)?;
        Ok(Socket { inner, state, readable: Cell::new(false) })
    }

    /// Whether this is news.
    pub(super) fn mark_readable(&self) -> bool {
        !self.readable.replace(true)
    }

    pub(super) fn mark_drained(&self) {
        self.readable.set(false);
    }
}

/// The addresses to listen on. All of IPv6 is left out on a machine that has none, because it is listened on by default.
pub(super) fn listen_addresses(config: &TurnConfig) -> Vec<IpAddr> {
    let any_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let has_v6 = || std::net::UdpSocket::bind((any_v6, 0)).is_ok();
    config.listen.iter().copied().filter(|ip| *ip != any_v6 || has_v6()).collect()
}

/// A socket for clients.
pub(super) fn bind_udp(address: SocketAddr) -> Result<std::net::UdpSocket, TurnError> {
    let bind = || {
        let socket = raw(address, Type::DGRAM, Protocol::UDP)?;
        // The kernel's own bound is below what is wished for on most machines.
        let _ = socket.set_recv_buffer_size(LISTENER_BUFFER);
        let _ = socket.set_send_buffer_size(LISTENER_BUFFER);
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| TurnError::Bind { address, source })
}

/// A socket for peers.
pub(super) fn bind_relay(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = raw(address, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A listener for connections.
pub(super) fn listen_tcp(address: SocketAddr) -> Result<std::net::TcpListener, TurnError> {
    let bind = || {
        let socket = raw(address, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(256)?;
        Ok(socket.into())
    };
    bind().map_err(|source| TurnError::Bind { address, source })
}

/// A non-blocking socket of one family: IPv4 clients are served by a socket of their own, so that their addresses never
/// come in the form of IPv6 ones.
fn raw(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The relay addresses of both families: what the operator set, else the address from which this machine reaches the
/// public network.
pub(super) fn relay_addresses(config: &TurnConfig) -> (Option<RelayAddress>, Option<RelayAddress>) {
    let of_family = |v6: bool| {
        let first = |ips: &[IpAddr]| ips.iter().copied().find(|ip| ip.is_ipv6() == v6);
        let public = first(&config.public_addresses);
        let bind = match first(&config.relay_addresses) {
            Some(ip) => ip,
            None if config.relay_addresses.is_empty() => outgoing_address(v6)?,
            None => return None,
        };
        let detected = if bind.is_unspecified() { outgoing_address(v6) } else { Some(bind) };
        Some(RelayAddress { bind, public: public.or(detected)? })
    };
    (of_family(false), of_family(true))
}

/// The address that packets to the public network would come from. Nothing is sent.
fn outgoing_address(v6: bool) -> Option<IpAddr> {
    // Any address that is routed as the public network is; these are the root name servers k.
    let (any, target) = if v6 {
        let target = Ipv6Addr::new(0x2001, 0x7fd, 0, 0, 0, 0, 0, 1);
        (IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(target))
    } else {
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::new(193, 0, 14, 129)))
    };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect((target, 53)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
