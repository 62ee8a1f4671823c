//! Which relay ports are free.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use runtime::Random;

use super::RelayAddress;
use crate::config::PortRange;

/// How many ports that somebody else has taken are tried before giving up.
const MAX_TAKEN: usize = 16;

/// The relay's addresses and their ports.
pub(super) struct Ports {
    range: PortRange,
    v4: Option<RelayAddress>,
    v6: Option<RelayAddress>,
    /// The allocation behind each public relay address.
    used: HashMap<SocketAddr, usize>,
    random: Random,
}

impl Ports {
    pub(super) fn new(range: PortRange, v4: Option<RelayAddress>, v6: Option<RelayAddress>, random: Random) -> Ports {
        Ports { range, v4, v6, used: HashMap::new(), random }
    }

    /// The relay address of a family.
    pub(super) fn address(&self, v6: bool) -> Option<RelayAddress> {
        if v6 { self.v6 } else { self.v4 }
    }

    /// Finds a free port, from a random one on so that it cannot be foretold, that `open` can open for `slot`. The
    /// public address, or `None` if all are taken.
    pub(super) fn take(
        &mut self,
        slot: usize,
        address: RelayAddress,
        even: bool,
        mut open: impl FnMut(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let count = self.range.count();
        let start = self.random.below(count as u64) as usize;
        let mut taken = 0;
        for step in 0..count {
            let port = self.range.first.checked_add(u16::try_from((start + step) % count).ok()?)?;
            let public = SocketAddr::new(address.public, port);
            if (even && !port.is_multiple_of(2)) || self.used.contains_key(&public) {
                continue;
            }
            if open(SocketAddr::new(address.bind, port)) {
                self.used.insert(public, slot);
                return Some(public);
            }
            taken += 1;
            if taken == MAX_TAKEN {
                break;
            }
        }
        None
    }

    pub(super) fn free(&mut self, public: SocketAddr) {
        self.used.remove(&public);
    }

    /// The allocation at one of our relay addresses; `peer` may name it as it is bound.
    pub(super) fn find(&self, peer: SocketAddr) -> Option<usize> {
        let public = match peer.ip() {
            IpAddr::V4(_) => self.v4?.public,
            IpAddr::V6(_) => self.v6?.public,
        };
        self.used.get(&SocketAddr::new(public, peer.port())).copied()
    }
}
