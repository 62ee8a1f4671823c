//! CreatePermission and ChannelBind (RFC 8656 §10, §12).

use std::net::{IpAddr, SocketAddr};

use super::{Core, Outside, Request};
use crate::codec::peers;

/// Channel numbers: those of RFC 8656 and, as before it, up to 0x7FFF (RFC 5766 §11).
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

impl Core {
    pub(super) fn create_permission(
        &mut self,
        request: &Request<'_>,
        slot: usize,
        out: &mut impl Outside,
    ) -> Result<(), u16> {
        let mut ips = Vec::new();
        // All or none: checked before the first one is given.
        for peer in peers(request.message) {
            let peer = peer.ok_or(400u16)?;
            self.check_peer(slot, peer)?;
            ips.push(peer.ip());
        }
        if ips.is_empty() {
            return Err(400);
        }
        let now = request.now.mono;
        let allocation = self.allocations.get_mut(slot).ok_or(437u16)?;
        ips.sort_unstable();
        ips.dedup();
        if !allocation.room_for(&ips, now) {
            return Err(508);
        }
        for ip in ips {
            allocation.permit(ip, self.policy.is_open(ip), now);
        }
        self.grant(request, out, |_| {});
        Ok(())
    }

    pub(super) fn bind_channel(
        &mut self,
        request: &Request<'_>,
        slot: usize,
        out: &mut impl Outside,
    ) -> Result<(), u16> {
        let number = request.attributes.channel.filter(|number| CHANNELS.contains(number)).ok_or(400u16)?;
        let peer = request.attributes.peer.ok_or(400u16)?;
        self.check_peer(slot, peer)?;
        let route = self.policy.route(peer).ok_or(403u16)?;
        let now = request.now.mono;
        let allocation = self.allocations.get_mut(slot).ok_or(437u16)?;
        if !allocation.room_for(&[peer.ip()], now) {
            return Err(508);
        }
        allocation.bind(number, peer, route, now)?;
        allocation.permit(peer.ip(), self.policy.is_open(peer.ip()), now);
        self.grant(request, out, |_| {});
        Ok(())
    }

    fn check_peer(&self, slot: usize, peer: SocketAddr) -> Result<(), u16> {
        // An IPv4 address in the form of an IPv6 one is judged before its family is: it is never right.
        if let IpAddr::V6(ip) = peer.ip()
            && ip.to_ipv4_mapped().is_some()
        {
            return Err(403);
        }
        let relay_v6 = self.allocations.get(slot).is_some_and(|allocation| allocation.relay.is_ipv6());
        if relay_v6 != peer.is_ipv6() {
            return Err(443);
        }
        if self.policy.may_permit(peer) { Ok(()) } else { Err(403) }
    }
}
