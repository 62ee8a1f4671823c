//! Token buckets: for what strangers ask, and for what is relayed.

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use runtime::config::RateLimit;

/// How many sources are told apart. Two that fall together share their limit; more memory than this is never used,
/// whatever addresses are made up.
const SOURCES: usize = 4096;

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    refilled: Duration,
}

impl Bucket {
    /// A full bucket at `now`.
    pub(crate) fn full(limit: RateLimit, now: Duration) -> Bucket {
        Bucket { tokens: f64::from(limit.burst), refilled: now }
    }

    /// Takes `count` tokens if there are as many.
    pub(crate) fn take(&mut self, limit: RateLimit, count: f64, now: Duration) -> bool {
        let passed = now.saturating_sub(self.refilled).as_secs_f64();
        self.tokens = passed.mul_add(limit.per_second, self.tokens).min(f64::from(limit.burst));
        self.refilled = now;
        let enough = self.tokens >= count;
        if enough {
            self.tokens -= count;
        }
        enough
    }
}

/// A bucket for each source address: of IPv6 for each /64, because a client has all of it.
pub(crate) struct Sources {
    limit: RateLimit,
    buckets: Vec<Bucket>,
    hasher: RandomState,
}

impl Sources {
    pub(crate) fn new(limit: RateLimit) -> Sources {
        let buckets = vec![Bucket::full(limit, Duration::ZERO); SOURCES];
        Sources { limit, buckets, hasher: RandomState::new() }
    }

    /// Whether `source` may have one more answer.
    pub(crate) fn take(&mut self, source: IpAddr, now: Duration) -> bool {
        let network = match source {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip) >> 64 | 1 << 127,
        };
        let slot = (self.hasher.hash_one(network) % SOURCES as u64) as usize;
        self.buckets.get_mut(slot).is_some_and(|bucket| bucket.take(self.limit, 1.0, now))
    }
}

/// A bound on bytes in a second; `None` for no bound. A second's worth may come at once.
pub(crate) fn byte_rate(per_second: u64) -> Option<RateLimit> {
    let burst = u32::try_from(per_second).unwrap_or(u32::MAX);
    (per_second > 0).then(|| RateLimit::new(per_second as f64, burst))
}
