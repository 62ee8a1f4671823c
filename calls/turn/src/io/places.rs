//! How many connections may be open, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use runtime::{Gauge, Metrics};

use crate::config::TurnConfig;

/// The places for connections.
pub(super) struct Places {
    most: u32,
    most_each: u32,
    taken: Mutex<Taken>,
    open: Gauge,
}

#[derive(Default)]
struct Taken {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// A connection's place; given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    ip: IpAddr,
}

impl Places {
    pub(super) fn new(config: &TurnConfig, metrics: &Metrics) -> Arc<Places> {
        Arc::new(Places {
            most: config.connections,
            most_each: config.connections_per_address,
            taken: Mutex::default(),
            open: metrics.gauge("conduit_turn_connections", "TCP and TLS connections to the relay.", &[]),
        })
    }

    /// A place for a connection from `ip`; `None` if there are enough.
    pub(super) fn take(self: &Arc<Places>, ip: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock();
        let of_address = taken.by_address.get(&ip).copied().unwrap_or(0);
        if taken.total >= self.most || of_address >= self.most_each {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(ip, of_address + 1);
        self.open.set(taken.total.into());
        Some(Place { places: self.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total = taken.total.saturating_sub(1);
        self.places.open.set(taken.total.into());
        if let Some(count) = taken.by_address.get_mut(&self.ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_address.remove(&self.ip);
            }
        }
    }
}
