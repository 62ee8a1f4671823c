//! How often somebody may join and speak.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::config::RateLimit;
use runtime::{Counter, Gauge, Metrics};

/// Identities that are remembered; beyond it the oldest full buckets are forgotten.
const MAX_REMEMBERED: usize = 20_000;

/// A token bucket. Times are those of [`runtime::Clock::monotonic`].
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    last: Duration,
}

impl Bucket {
    pub fn full(limit: RateLimit, now: Duration) -> Bucket {
        Bucket { tokens: f64::from(limit.burst), last: now }
    }

    /// Whether there is a token to take.
    pub fn take(&mut self, limit: RateLimit, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.tokens = (self.tokens + passed * limit.per_second).min(f64::from(limit.burst));
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// How often each identity has joined.
pub struct JoinLimits {
    limit: RateLimit,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl JoinLimits {
    pub fn new(limit: RateLimit) -> JoinLimits {
        JoinLimits { limit, buckets: Mutex::new(HashMap::new()) }
    }

    /// Whether `identity` may join now.
    pub fn admit(&self, identity: &str, now: Duration) -> bool {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MAX_REMEMBERED {
            // A bucket that is full again is the same as none.
            let refill = f64::from(self.limit.burst) / self.limit.per_second.max(f64::MIN_POSITIVE);
            buckets.retain(|_, bucket| now.saturating_sub(bucket.last).as_secs_f64() < refill);
        }
        if buckets.len() >= MAX_REMEMBERED {
            return false;
        }
        let bucket = buckets.entry(identity.to_owned()).or_insert_with(|| Bucket::full(self.limit, now));
        bucket.take(self.limit, now)
    }
}

/// The metrics of signalling.
pub struct SignalMetrics {
    pub connections: Gauge,
    pub messages: Counter,
    metrics: Metrics,
}

impl SignalMetrics {
    pub fn new(metrics: &Metrics) -> SignalMetrics {
        SignalMetrics {
            connections: metrics.gauge("conduit_sfu_signal_connections", "Open signalling connections.", &[]),
            messages: metrics.counter("conduit_sfu_signal_messages_total", "Signalling messages of clients.", &[]),
            metrics: metrics.clone(),
        }
    }

    /// Counts an attempt to join that was refused.
    pub fn count_refusal(&self, reason: &'static str) {
        self.metrics
            .counter("conduit_sfu_refusals_total", "Joins that were refused, by reason.", &[("reason", reason)])
            .add(1);
    }
}
