//! What each user has.

use std::collections::HashMap;
use std::time::Duration;

use runtime::config::RateLimit;
use slab::Slab;

use crate::limits::Bucket;

struct User {
    name: String,
    allocations: u32,
    bucket: Option<Bucket>,
}

/// Users with allocations; forgotten with the last one.
pub(super) struct UserTable {
    users: Slab<User>,
    by_name: HashMap<String, usize>,
    allocations_each: u32,
    bandwidth: Option<RateLimit>,
}

impl UserTable {
    pub(super) fn new(allocations_each: u32, bandwidth: Option<RateLimit>) -> UserTable {
        UserTable { users: Slab::new(), by_name: HashMap::new(), allocations_each, bandwidth }
    }

    /// Whether `name` may have one more allocation.
    pub(super) fn may_enter(&self, name: &str) -> bool {
        let user = self.by_name.get(name).and_then(|slot| self.users.get(*slot));
        user.map_or(0, |user| user.allocations) < self.allocations_each
    }

    /// Counts an allocation of `name`.
    pub(super) fn enter(&mut self, name: &str, now: Duration) -> usize {
        let known = self.by_name.get(name).copied();
        let slot = known.unwrap_or_else(|| {
            let bucket = self.bandwidth.map(|limit| Bucket::full(limit, now));
            let slot = self.users.insert(User { name: name.to_owned(), allocations: 0, bucket });
            self.by_name.insert(name.to_owned(), slot);
            slot
        });
        if let Some(user) = self.users.get_mut(slot) {
            user.allocations = user.allocations.saturating_add(1);
        }
        slot
    }

    pub(super) fn leave(&mut self, slot: usize) {
        let Some(user) = self.users.get_mut(slot) else { return };
        user.allocations = user.allocations.saturating_sub(1);
        if user.allocations == 0 {
            let user = self.users.remove(slot);
            self.by_name.remove(&user.name);
        }
    }

    /// Takes `bytes` from what the user may still send or receive.
    pub(super) fn take(&mut self, slot: usize, bytes: usize, now: Duration) -> bool {
        let bucket = self.users.get_mut(slot).and_then(|user| user.bucket.as_mut());
        match (bucket, self.bandwidth) {
            (Some(bucket), Some(limit)) => bucket.take(limit, bytes as f64, now),
            _ => true,
        }
    }
}
