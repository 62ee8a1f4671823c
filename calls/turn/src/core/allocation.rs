//! One allocation: a relay address, and who may use it for what.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Link;
use crate::AllocationInfo;
use crate::codec::Transaction;
use crate::policy::Route;

/// How long a permission lasts (RFC 8656 §9).
const PERMISSION: Duration = Duration::from_secs(300);
/// How long a channel lasts (RFC 8656 §12).
const CHANNEL: Duration = Duration::from_secs(600);
/// How many addresses an allocation may exchange datagrams with; ICE needs one for each candidate of the other side.
const MAX_PERMISSIONS: usize = 64;
const MAX_CHANNELS: usize = 64;

pub(super) struct Allocation {
    pub(super) link: Link,
    pub(super) user: usize,
    pub(super) username: String,
    /// The relayed transport address, as others see it.
    pub(super) relay: SocketAddr,
    pub(super) created: Duration,
    pub(super) expires: Duration,
    /// The transaction that made it, so that its repetition is answered alike.
    pub(super) transaction: Transaction,
    /// Few, so that looking through them beats hashing.
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    /// Bytes from the client.
    pub(super) sent: u64,
    /// Bytes to the client.
    pub(super) received: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Permission {
    ip: IpAddr,
    expires: Duration,
    /// Whether it holds for sockets, not only for what stays in this process.
    pub(super) open: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    expires: Duration,
    pub(super) route: Route,
}

impl Allocation {
    pub(super) fn new(
        link: Link,
        (user, username): (usize, &str),
        relay: SocketAddr,
        (created, expires): (Duration, Duration),
        transaction: Transaction,
    ) -> Allocation {
        let (permissions, channels) = (Vec::new(), Vec::new());
        let username = username.to_owned();
        Allocation {
            link,
            user,
            username,
            relay,
            created,
            expires,
            transaction,
            permissions,
            channels,
            sent: 0,
            received: 0,
        }
    }

    pub(super) fn permission(&self, ip: IpAddr, now: Duration) -> Option<Permission> {
        self.permissions.iter().find(|permission| permission.ip == ip && permission.expires > now).copied()
    }

    /// Gives or renews a permission. `false` if there are too many.
    pub(super) fn permit(&mut self, ip: IpAddr, open: bool, now: Duration) -> bool {
        self.permissions.retain(|permission| permission.expires > now);
        let expires = now + PERMISSION;
        if let Some(permission) = self.permissions.iter_mut().find(|permission| permission.ip == ip) {
            permission.expires = expires;
            return true;
        }
        let room = self.permissions.len() < MAX_PERMISSIONS;
        if room {
            self.permissions.push(Permission { ip, expires, open });
        }
        room
    }

    /// How many more addresses may be permitted.
    pub(super) fn room_for(&self, ips: &[IpAddr], now: Duration) -> bool {
        let live = self.permissions.iter().filter(|permission| permission.expires > now).count();
        let new = ips.iter().filter(|ip| self.permission(**ip, now).is_none()).count();
        live + new <= MAX_PERMISSIONS
    }

    pub(super) fn channel(&self, number: u16, now: Duration) -> Option<Channel> {
        self.channels.iter().find(|channel| channel.number == number && channel.expires > now).copied()
    }

    pub(super) fn channel_of(&self, peer: SocketAddr, now: Duration) -> Option<Channel> {
        self.channels.iter().find(|channel| channel.peer == peer && channel.expires > now).copied()
    }

    /// Binds or renews a channel, which is not bound to anything else.
    ///
    /// # Errors
    /// 400 when the number or the peer is bound otherwise, 508 when there are too many.
    pub(super) fn bind(&mut self, number: u16, peer: SocketAddr, route: Route, now: Duration) -> Result<(), u16> {
        self.channels.retain(|channel| channel.expires > now);
        let (expires, count) = (now + CHANNEL, self.channels.len());
        let clash = |channel: &&mut Channel| channel.number == number || channel.peer == peer;
        match self.channels.iter_mut().find(clash) {
            Some(channel) if channel.number == number && channel.peer == peer => channel.expires = expires,
            Some(_) => return Err(400),
            None if count < MAX_CHANNELS => {
                self.channels.push(Channel { number, peer, expires, route });
            }
            None => return Err(508),
        }
        Ok(())
    }

    pub(super) fn forget_expired(&mut self, now: Duration) {
        self.permissions.retain(|permission| permission.expires > now);
        self.channels.retain(|channel| channel.expires > now);
    }

    pub(super) fn info(&self, now: Duration) -> AllocationInfo {
        AllocationInfo {
            user: user_of(&self.username).to_owned(),
            client: self.link.remote(),
            transport: self.link.transport(),
            relay: self.relay,
            age: now.saturating_sub(self.created),
            expires_in: self.expires.saturating_sub(now),
            peers: self.permissions.iter().filter(|permission| permission.expires > now).count(),
            sent: self.sent,
            received: self.received,
        }
    }
}

/// The user in a user name, without the time before it.
pub(super) fn user_of(username: &str) -> &str {
    username.split_once(':').map_or("", |(_, user)| user)
}
