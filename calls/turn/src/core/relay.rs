//! Datagrams on their way (RFC 8656 §11, §12): from a client to a peer, and back.

use std::net::SocketAddr;

use super::{Attributes, Core, Link, Message, Now, Outside, Transport};
use crate::codec::{channel_data, channel_header, padding};
use crate::policy::Route;

/// How a datagram reached one of our relay addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// Through its socket, from anybody.
    Socket,
    /// From within this process, by a peer that cannot be another.
    Inside,
}

impl Core {
    /// ChannelData of a client.
    pub(super) fn relay_channel_data(&mut self, now: Now, link: &Link, bytes: &[u8], out: &mut impl Outside) {
        let Some((number, data)) = channel_data(bytes) else {
            self.meters.malformed.add(1);
            return;
        };
        let slot = self.by_link.get(link).copied();
        let found = slot.and_then(|slot| {
            let allocation = self.allocations.get(slot).filter(|allocation| allocation.expires > now.mono)?;
            let channel = allocation.channel(number, now.mono)?;
            let permission = allocation.permission(channel.peer.ip(), now.mono)?;
            // What the policy said when the channel was bound; it does not change while the relay runs.
            (channel.route != Route::Network || permission.open).then_some((slot, channel))
        });
        match found {
            Some((slot, channel)) => self.send(now, slot, channel.peer, channel.route, data, out),
            None => self.meters.not_permitted.add(1),
        }
    }

    /// A Send indication, which is never answered.
    pub(super) fn relay_send(&mut self, now: Now, link: &Link, message: &Message<'_>, out: &mut impl Outside) {
        let attributes = Attributes::read(message).filter(|attributes| attributes.unknown().is_empty());
        let Some((peer, data)) = attributes.and_then(|attributes| attributes.peer.zip(attributes.data)) else {
            self.meters.malformed.add(1);
            return;
        };
        let found = self.live_slot(now, link).and_then(|slot| {
            let allocation = self.allocations.get(slot)?;
            let permission = allocation.permission(peer.ip(), now.mono)?;
            let route = self.policy.route(peer)?;
            let family = allocation.relay.is_ipv6() == peer.is_ipv6();
            (family && (route != Route::Network || permission.open)).then_some((slot, route))
        });
        match found {
            Some((slot, route)) => self.send(now, slot, peer, route, data, out),
            None => self.meters.not_permitted.add(1),
        }
    }

    fn send(&mut self, now: Now, slot: usize, peer: SocketAddr, route: Route, data: &[u8], out: &mut impl Outside) {
        if !self.take_bandwidth(now, slot, data.len()) {
            return;
        }
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        allocation.sent += data.len() as u64;
        let relay = allocation.relay;
        self.meters.to_peers.count(data.len());
        match route {
            Route::Network => out.send_to_peer(slot, peer, data),
            Route::Neighbour(at) => out.send_to_peer(slot, at, data),
            Route::Relay => {
                if let Some(other) = self.ports.find(peer) {
                    self.deliver(now, other, relay, data, Arrival::Inside, out);
                }
            }
        }
    }

    /// Takes in a datagram from the relay socket in `slot`.
    pub(crate) fn take_from_peer(
        &mut self,
        now: Now,
        slot: usize,
        peer: SocketAddr,
        data: &[u8],
        out: &mut impl Outside,
    ) {
        self.deliver(now, slot, self.policy.known_as(peer), data, Arrival::Socket, out);
    }

    fn deliver(
        &mut self,
        now: Now,
        slot: usize,
        peer: SocketAddr,
        data: &[u8],
        arrival: Arrival,
        out: &mut impl Outside,
    ) {
        let Some(allocation) = self.allocations.get(slot).filter(|allocation| allocation.expires > now.mono) else {
            return;
        };
        let permission = allocation.permission(peer.ip(), now.mono);
        let may_come = || arrival == Arrival::Inside || self.policy.is_neighbour(peer);
        if !permission.is_some_and(|permission| permission.open || may_come()) {
            self.meters.not_permitted.add(1);
            return;
        }
        let (link, channel) = (allocation.link, allocation.channel_of(peer, now.mono));
        if !self.take_bandwidth(now, slot, data.len()) {
            return;
        }
        if let Some(allocation) = self.allocations.get_mut(slot) {
            allocation.received += data.len() as u64;
        }
        self.meters.to_clients.count(data.len());
        if let Some(channel) = channel {
            let Some(header) = channel_header(channel.number, data.len()) else { return };
            // Only in a stream does ChannelData have to end at a multiple of four (RFC 8656 §12.5).
            let end = if link.transport() == Transport::Udp { &[] } else { padding(data.len()) };
            out.send_to_client(&link, [&header, data, end]);
        } else {
            self.begin_data_indication(peer, data.len());
            out.send_to_client(&link, [&self.scratch, data, padding(data.len())]);
        }
    }

    fn take_bandwidth(&mut self, now: Now, slot: usize, bytes: usize) -> bool {
        let user = self.allocations.get(slot).map(|allocation| allocation.user);
        let user = user.is_some_and(|user| self.users.take(user, bytes, now.mono));
        let total = match (&mut self.total, self.limits.bandwidth) {
            (Some(bucket), Some(limit)) => user && bucket.take(limit, bytes as f64, now.mono),
            _ => user,
        };
        if !total {
            self.meters.over_bandwidth.add(1);
        }
        total
    }
}
