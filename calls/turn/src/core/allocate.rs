//! Allocate and Refresh (RFC 8656 §7, §8).

use std::time::Duration;

use super::allocation::Allocation;
use super::{Core, Now, Outside, Request};
use crate::auth::GRACE;
use crate::codec::attribute;

/// REQUESTED-TRANSPORT: the only transport of relays here.
const UDP: u8 = 17;
const FAMILY_V4: u8 = 1;
const FAMILY_V6: u8 = 2;

impl Core {
    pub(super) fn allocate(
        &mut self,
        request: &Request<'_>,
        live: Option<usize>,
        out: &mut impl Outside,
    ) -> Result<(), u16> {
        if let Some(slot) = live {
            let same = |allocation: &Allocation| {
                allocation.transaction == *request.message.transaction()
                    && allocation.username == request.caller.username
            };
            // Only a repetition of the request that made the allocation is answered again.
            return if self.allocations.get(slot).is_some_and(same) {
                self.answer_allocate(request, slot, out);
                Ok(())
            } else {
                Err(437)
            };
        }
        let v6 = check_allocate(request)?;
        let address = self.ports.address(v6).ok_or(440u16)?;
        let (now, caller) = (request.now, request.caller);
        if now.unix >= caller.expires {
            return Err(401);
        }
        if !self.users.may_enter(caller.user) {
            return Err(486);
        }
        // An expired one that has not been cleared away yet would be found under the same link.
        self.closed(&request.link, out);
        if self.allocations.len() >= self.limits.allocations {
            return Err(508);
        }
        let expires = now.mono + self.choose_lifetime(request);
        let even = request.attributes.even_port.is_some();
        let slot = self.allocations.vacant_key();
        let relay = self.ports.take(slot, address, even, |address| out.open_relay(slot, address)).ok_or(508u16)?;
        let user = self.users.enter(caller.user, now.mono);
        let transaction = *request.message.transaction();
        let names = (user, caller.username);
        self.allocations.insert(Allocation::new(request.link, names, relay, (now.mono, expires), transaction));
        self.by_link.insert(request.link, slot);
        self.meters.allocations.set(self.allocations.len() as i64);
        tracing::debug!(user = caller.user, %relay, transport = ?request.link.transport(), "a relay address was given");
        self.answer_allocate(request, slot, out);
        Ok(())
    }

    fn answer_allocate(&mut self, request: &Request<'_>, slot: usize, out: &mut impl Outside) {
        let Some(allocation) = self.allocations.get(slot) else { return };
        let relay = allocation.relay;
        let lifetime = seconds(allocation.expires.saturating_sub(request.now.mono));
        self.grant(request, out, |writer| {
            writer.add_address(attribute::XOR_RELAYED_ADDRESS, relay);
            if request.attributes.additional_family.is_some() {
                // One address for each allocation: the second is refused, the first one given (RFC 8656 §7.2).
                let reason = "Address Family not Supported";
                writer.add_error(attribute::ADDRESS_ERROR_CODE, [FAMILY_V6, 0], 440, reason);
            }
            writer.add(attribute::LIFETIME, &lifetime.to_be_bytes());
            writer.add_address(attribute::XOR_MAPPED_ADDRESS, request.link.remote());
        });
    }

    pub(super) fn refresh(&mut self, request: &Request<'_>, slot: usize, out: &mut impl Outside) -> Result<(), u16> {
        let relay_v6 = self.allocations.get(slot).is_some_and(|allocation| allocation.relay.is_ipv6());
        let wanted = request.attributes.family.map(|family| family == FAMILY_V6);
        if wanted.is_some_and(|v6| v6 != relay_v6) {
            return Err(443);
        }
        let lifetime = if request.attributes.lifetime == Some(0) {
            self.remove(slot, out);
            Duration::ZERO
        } else {
            let lifetime = self.choose_lifetime(request);
            if lifetime.is_zero() {
                return Err(401);
            }
            if let Some(allocation) = self.allocations.get_mut(slot) {
                allocation.expires = request.now.mono + lifetime;
            }
            lifetime
        };
        self.grant(request, out, |writer| {
            writer.add(attribute::LIFETIME, &seconds(lifetime).to_be_bytes());
        });
        Ok(())
    }

    /// What was asked for, at least the usual and at most the longest lifetime, and not beyond the end of the
    /// credentials and its grace.
    fn choose_lifetime(&self, request: &Request<'_>) -> Duration {
        let asked = request.attributes.lifetime.map_or(Duration::ZERO, |asked| Duration::from_secs(asked.into()));
        let bounded = asked.max(self.limits.lifetime).min(self.limits.max_lifetime);
        bounded.min(rest_of_credentials(request.now, request.caller.expires))
    }
}

fn rest_of_credentials(now: Now, expires: u64) -> Duration {
    Duration::from_secs(expires.saturating_add(GRACE.as_secs()).saturating_sub(now.unix))
}

/// What of an Allocate request can be judged by itself: whether it is for IPv6.
fn check_allocate(request: &Request<'_>) -> Result<bool, u16> {
    let attributes = request.attributes;
    match attributes.transport {
        Some(UDP) => {}
        Some(_) => return Err(442),
        None => return Err(400),
    }
    if attributes.reservation && (attributes.even_port.is_some() || attributes.family.is_some()) {
        return Err(400);
    }
    // Pairs of ports are for RTP without multiplexing, which nobody does any more.
    if attributes.reservation || attributes.even_port == Some(true) {
        return Err(508);
    }
    if attributes.additional_family.is_some_and(|family| family != FAMILY_V6 || attributes.family.is_some()) {
        return Err(400);
    }
    match attributes.family {
        None | Some(FAMILY_V4) => Ok(false),
        Some(FAMILY_V6) => Ok(true),
        Some(_) => Err(440),
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
