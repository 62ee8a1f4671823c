//! Incoming datagrams: brought to the connection they are for.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use str0m::Input;
use str0m::net::{Protocol, Receive};

use super::exchange::Batch;
use super::ports::TcpOrder;
use super::routes;
use super::run::Shard;

impl Shard {
    pub(super) fn receive_batch(&mut self, batch: &Batch, now: Instant) {
        for (source, to, datagram) in batch.datagrams() {
            self.receive(batch.protocol, source, to, datagram, now);
        }
        self.flush();
    }

    /// Finds the connection of a datagram. Without one nothing is computed and nothing answered.
    fn receive(&mut self, protocol: Protocol, source: SocketAddr, to: Option<IpAddr>, datagram: &[u8], now: Instant) {
        let tcp = protocol != Protocol::Udp;
        let stun = routes::is_stun(datagram);
        // A check names its connection, also when the address was used by another before.
        let named = if stun { routes::local_name(datagram).and_then(|name| self.routes.by_name(name)) } else { None };
        let known = self.routes.by_address(source, tcp);
        let (Some(route), Some(destination)) = (named.or(known), self.candidate(protocol, to, source)) else {
            return self.fixed.metrics.strangers.add(1);
        };
        let Ok(received) = Receive::new(protocol, source, destination, datagram) else {
            return self.fixed.metrics.strangers.add(1);
        };
        if known == Some(route) {
            return self.with_room(route.room, |room, env| room.receive(route.at, datagram, received, env));
        }
        let input = Input::Receive(now, received);
        let Some(slot) = self.rooms.get_mut(route.room) else { return };
        if !slot.room.authenticates(route.at, &input) {
            return self.fixed.metrics.strangers.add(1);
        }
        if let Some(forgotten) = slot.room.add_address(route.at, source) {
            self.routes.remove_address(forgotten, route.room);
        }
        self.routes.add_address(source, tcp, route);
        if tcp {
            self.tcp.order(TcpOrder::Claim(source));
        }
        let Input::Receive(_, received) = input else { return };
        self.with_room(route.room, |room, env| room.receive(route.at, datagram, received, env));
    }

    /// The address a datagram came to, as clients know it.
    fn candidate(&self, protocol: Protocol, to: Option<IpAddr>, source: SocketAddr) -> Option<SocketAddr> {
        let of_protocol = || self.fixed.candidates.iter().filter(|candidate| candidate.proto() == protocol);
        let exact = of_protocol().find(|candidate| Some(candidate.addr().ip()) == to);
        let same_family = || of_protocol().find(|candidate| candidate.addr().is_ipv4() == source.is_ipv4());
        exact.or_else(same_family).map(|candidate| candidate.addr())
    }
}
