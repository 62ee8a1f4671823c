//! The relay without its sockets: requests of clients, what they are granted, and which way each datagram goes.
//!
//! It is given the time, randomness and what arrives, and tells an [`Outside`] what to do. Nothing here waits.

mod allocate;
mod allocation;
mod answer;
mod permit;
mod ports;
mod relay;
mod users;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use runtime::config::RateLimit;
use runtime::{Metrics, Random};
use slab::Slab;

use crate::auth::{Auth, Caller};
use crate::codec::{Attributes, Class, Message, Method};
use crate::config::TurnConfig;
use crate::limits::{Bucket, Sources, byte_rate};
use crate::meters::Meters;
use crate::policy::Policy;
use crate::{AllocationInfo, Transport};

use allocation::Allocation;
use ports::Ports;
use users::UserTable;

/// The time of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For lifetimes.
    pub(crate) mono: Duration,
    /// Seconds since 1970, for credentials.
    pub(crate) unix: u64,
}

/// The way to a client: its 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Datagrams between `remote` and the address `local` of a listener.
    Udp { listener: u16, remote: SocketAddr, local: Option<IpAddr> },
    /// A connection. Its number is given to another one only after [`Core::closed`].
    Stream { connection: usize, remote: SocketAddr, transport: Transport },
}

impl Hash for Link {
    // Looked up for each datagram: only what tells links apart, in few words.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Link::Stream { connection, .. } => state.write_usize(*connection),
            Link::Udp { remote, .. } => match remote.ip() {
                IpAddr::V4(ip) => state.write_u64(u64::from(u32::from(ip)) << 16 | u64::from(remote.port())),
                IpAddr::V6(ip) => {
                    state.write_u128(u128::from(ip));
                    state.write_u16(remote.port());
                }
            },
        }
    }
}

impl Link {
    pub(crate) fn remote(&self) -> SocketAddr {
        match self {
            Link::Udp { remote, .. } | Link::Stream { remote, .. } => *remote,
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self {
            Link::Udp { .. } => Transport::Udp,
            Link::Stream { transport, .. } => *transport,
        }
    }
}

/// What the core has done for it.
pub(crate) trait Outside {
    /// Opens the relay socket of the allocation in `slot`. `false` if the port is taken.
    fn open_relay(&mut self, slot: usize, address: SocketAddr) -> bool;
    /// Closes it.
    fn close_relay(&mut self, slot: usize);
    /// Sends one message, in parts, to a client.
    fn send_to_client(&mut self, link: &Link, parts: [&[u8]; 3]);
    /// Sends a datagram from the relay socket in `slot`.
    fn send_to_peer(&mut self, slot: usize, peer: SocketAddr, data: &[u8]);
}

/// A family's relay address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayAddress {
    /// What sockets are bound to.
    pub(crate) bind: IpAddr,
    /// What clients and peers are told.
    pub(crate) public: IpAddr,
}

/// What the core is built from.
pub(crate) struct CoreParts<'a> {
    pub(crate) config: &'a TurnConfig,
    pub(crate) auth: Arc<Auth>,
    pub(crate) policy: Policy,
    pub(crate) relay_v4: Option<RelayAddress>,
    pub(crate) relay_v6: Option<RelayAddress>,
    pub(crate) random: Random,
    pub(crate) metrics: &'a Metrics,
}

/// Bounds that the operator set.
struct Limits {
    lifetime: Duration,
    max_lifetime: Duration,
    allocations: usize,
    bandwidth: Option<RateLimit>,
}

/// The state of the relay.
pub(crate) struct Core {
    auth: Arc<Auth>,
    policy: Policy,
    limits: Limits,
    strangers: Sources,
    allocations: Slab<Allocation>,
    by_link: HashMap<Link, usize>,
    ports: Ports,
    users: UserTable,
    total: Option<Bucket>,
    meters: Meters,
    /// The message that is being written.
    scratch: Vec<u8>,
    /// Makes the transaction ids of indications, which nobody answers, differ.
    indications: u64,
}

impl Core {
    pub(crate) fn new(parts: CoreParts<'_>) -> Core {
        let CoreParts { config, auth, policy, relay_v4, relay_v6, random, metrics } = parts;
        let bandwidth = byte_rate(config.bandwidth.bytes());
        let lifetime = config.lifetime.duration();
        Core {
            auth,
            policy,
            limits: Limits {
                lifetime,
                max_lifetime: config.max_lifetime.duration().max(lifetime),
                allocations: config.allocations as usize,
                bandwidth,
            },
            strangers: Sources::new(config.strangers),
            allocations: Slab::new(),
            by_link: HashMap::new(),
            users: UserTable::new(config.allocations_per_user, byte_rate(config.user_bandwidth.bytes())),
            total: bandwidth.map(|limit| Bucket::full(limit, Duration::ZERO)),
            meters: Meters::new(metrics),
            scratch: Vec::new(),
            indications: random.u64(),
            ports: Ports::new(config.relay_ports, relay_v4, relay_v6, random),
        }
    }

    /// Takes in what a client sent: a datagram, or one frame of a connection.
    pub(crate) fn take_from_client(&mut self, now: Now, link: Link, bytes: &[u8], out: &mut impl Outside) {
        if matches!(bytes.first(), Some(0x40..=0x7f)) {
            self.relay_channel_data(now, &link, bytes, out);
            return;
        }
        let Ok(message) = Message::parse(bytes) else {
            self.meters.malformed.add(1);
            return;
        };
        match (message.class(), message.method()) {
            (Class::Request, method) => self.answer_request(now, link, &message, method, out),
            (Class::Indication, Method::Send) => self.relay_send(now, &link, &message, out),
            // Keep-alives, and answers to questions that were never asked.
            _ => {}
        }
    }

    fn answer_request(&mut self, now: Now, link: Link, message: &Message<'_>, method: Method, out: &mut impl Outside) {
        let live = self.live_slot(now, &link);
        // Who has no allocation may be anybody, at a source address that may be made up.
        if live.is_none() && !self.strangers.take(link.remote().ip(), now.mono) {
            self.meters.strangers_dropped.add(1);
            return;
        }
        let Some(attributes) = Attributes::read(message) else {
            self.refuse(&link, message, None, 400, out);
            return;
        };
        if method == Method::Binding {
            self.answer_binding(&link, message, &attributes, out);
            return;
        }
        if matches!(method, Method::Send | Method::Data | Method::Other(_)) {
            self.refuse(&link, message, None, 400, out);
            return;
        }
        let caller = match self.auth.check(message, &attributes, now.unix, link.remote()) {
            Ok(caller) => caller,
            Err(unproven) => {
                if live.is_none() || self.strangers.take(link.remote().ip(), now.mono) {
                    self.challenge(now, &link, message, unproven, out);
                }
                return;
            }
        };
        if !attributes.unknown().is_empty() {
            self.refuse_unknown(&link, message, &attributes, Some(&caller), out);
            return;
        }
        let request = Request { now, link, message, attributes: &attributes, caller: &caller };
        let done = match method {
            Method::Allocate => self.allocate(&request, live, out),
            _ => self.change(&request, method, live, out),
        };
        if let Err(code) = done {
            self.refuse(&link, message, Some(&caller), code, out);
        }
    }

    /// Requests about an allocation that is there.
    fn change(
        &mut self,
        request: &Request<'_>,
        method: Method,
        live: Option<usize>,
        out: &mut impl Outside,
    ) -> Result<(), u16> {
        let slot = live.ok_or(437u16)?;
        if self.allocations.get(slot).is_none_or(|allocation| allocation.username != request.caller.username) {
            return Err(441);
        }
        match method {
            Method::Refresh => self.refresh(request, slot, out),
            Method::CreatePermission => self.create_permission(request, slot, out),
            Method::ChannelBind => self.bind_channel(request, slot, out),
            _ => Err(400),
        }
    }

    fn live_slot(&self, now: Now, link: &Link) -> Option<usize> {
        let slot = *self.by_link.get(link)?;
        self.allocations.get(slot).filter(|allocation| allocation.expires > now.mono).map(|_| slot)
    }

    /// Whether `link` has an allocation.
    pub(crate) fn has_allocation(&self, link: &Link) -> bool {
        self.by_link.contains_key(link)
    }

    /// The connection behind `link` is gone, and with it what it had.
    pub(crate) fn closed(&mut self, link: &Link, out: &mut impl Outside) {
        if let Some(slot) = self.by_link.get(link).copied() {
            self.remove(slot, out);
        }
    }

    /// Forgets what has expired; once a second is often enough, for nothing expired is used.
    pub(crate) fn tick(&mut self, now: Now, out: &mut impl Outside) {
        let expired = |(slot, allocation): (usize, &Allocation)| (allocation.expires <= now.mono).then_some(slot);
        let expired: Vec<usize> = self.allocations.iter().filter_map(expired).collect();
        for slot in expired {
            self.remove(slot, out);
        }
        for (_, allocation) in &mut self.allocations {
            allocation.forget_expired(now.mono);
        }
    }

    fn remove(&mut self, slot: usize, out: &mut impl Outside) {
        let Some(allocation) = self.allocations.try_remove(slot) else { return };
        self.by_link.remove(&allocation.link);
        self.ports.free(allocation.relay);
        self.users.leave(allocation.user);
        self.meters.allocations.set(self.allocations.len() as i64);
        out.close_relay(slot);
        tracing::debug!(
            user = allocation::user_of(&allocation.username),
            relay = %allocation.relay,
            sent = allocation.sent,
            received = allocation.received,
            "a relay address was given back"
        );
    }

    /// Everything that is allocated and has not expired.
    pub(crate) fn overview(&self, now: Now) -> Vec<AllocationInfo> {
        let live = self.allocations.iter().filter(|(_, allocation)| allocation.expires > now.mono);
        live.map(|(_, allocation)| allocation.info(now.mono)).collect()
    }
}

/// A request of somebody known.
struct Request<'a> {
    now: Now,
    link: Link,
    message: &'a Message<'a>,
    attributes: &'a Attributes<'a>,
    caller: &'a Caller<'a>,
}
