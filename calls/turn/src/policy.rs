//! To whom may be relayed. A relay is a way into the operator's network, so what is not public is refused.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::{Network, PortRange};

/// What the relay is on its own machine, and what the operator allows.
pub(crate) struct Policy {
    /// Networks where peers may be although they are not public.
    pub(crate) allowed: Vec<Network>,
    /// Addresses of this relay: those it listens on, relays from, and tells its clients.
    pub(crate) own: Vec<IpAddr>,
    pub(crate) relay_ports: PortRange,
    /// Ports of the listeners.
    pub(crate) listener_ports: Vec<u16>,
    /// What is reached although it is on this machine.
    pub(crate) neighbours: Vec<Beside>,
}

/// The media server beside this relay.
#[derive(Clone, Copy)]
pub(crate) struct Beside {
    /// Where clients are told that it is.
    pub(crate) told: SocketAddr,
    /// Where it is reached from here: what is told may be a router, which need not bring back what comes from here.
    pub(crate) at: SocketAddr,
}

/// How datagrams get to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through a socket.
    Network,
    /// The peer is an address that this relay gave to another client: handed over here, never through a socket.
    Relay,
    /// The peer is the media server beside this relay: through a socket, to where it is reached from here.
    Neighbour(SocketAddr),
}

impl Policy {
    /// How to reach `peer`; `None` if nothing may be relayed to it.
    pub(crate) fn route(&self, peer: SocketAddr) -> Option<Route> {
        if let Some(beside) = self.neighbours.iter().find(|beside| beside.told == peer) {
            return Some(Route::Neighbour(beside.at));
        }
        if self.own.contains(&peer.ip()) {
            if self.relay_ports.contains(peer.port()) {
                return Some(Route::Relay);
            }
            // Whatever the operator allows: a relay that talks to itself goes round in circles.
            if self.listener_ports.contains(&peer.port()) {
                return None;
            }
        }
        (peer.port() != 0 && self.is_open(peer.ip())).then_some(Route::Network)
    }

    /// Whether `peer` is the media server beside this relay.
    pub(crate) fn is_neighbour(&self, peer: SocketAddr) -> bool {
        self.neighbours.iter().any(|beside| beside.told == peer)
    }

    /// By which address clients know whom a datagram comes from.
    pub(crate) fn known_as(&self, from: SocketAddr) -> SocketAddr {
        if self.is_neighbour(from) {
            return from;
        }
        self.neighbours.iter().find(|beside| beside.at == from).map_or(from, |beside| beside.told)
    }

    /// Whether datagrams may go to and come from any port of `ip` through a socket.
    pub(crate) fn is_open(&self, ip: IpAddr) -> bool {
        if ip.is_unspecified() || ip.is_multicast() {
            return false;
        }
        let allowed = || self.allowed.iter().any(|network| network.contains(ip));
        allowed() || (outbound::is_public(ip) && !is_another_form(ip) && !self.own.contains(&ip))
    }

    /// Whether a permission for `peer` may be given. The port of a permission does not count (RFC 8656 §9), except
    /// that it tells which of our own addresses is meant.
    pub(crate) fn may_permit(&self, peer: SocketAddr) -> bool {
        self.is_open(peer.ip()) || matches!(self.route(peer), Some(Route::Relay | Route::Neighbour(_)))
    }
}

/// Whether an IPv6 address stands for an IPv4 one (mapped, compatible, NAT64, 6to4, Teredo): there is no need to reach
/// an IPv4 peer this way, and it would get around rules for IPv4.
fn is_another_form(ip: IpAddr) -> bool {
    let IpAddr::V6(ip) = ip else { return false };
    starts(ip, &[0, 0, 0, 0]) || starts(ip, &[0x64, 0xff9b]) || starts(ip, &[0x2002]) || starts(ip, &[0x2001, 0])
}

fn starts(ip: Ipv6Addr, prefix: &[u16]) -> bool {
    ip.segments().starts_with(prefix)
}
