//! What sync counts and times. Counting costs a relaxed addition; [`Sync::publish_metrics`] makes it seen.

use std::time::Duration;

use rooms::Membership;
use runtime::{Counter, DELIVERY_BUCKETS, Gauge, Histogram, Metrics, TIME_BUCKETS};
use storage::StreamPos;

use crate::sync::{Inner, Rows, Sync};

/// Which sync.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    V3,
    Sliding,
    /// The old event stream.
    Events,
}

/// The figures of sync.
pub(crate) struct Meters {
    v3: FormMeters,
    sliding: FormMeters,
    events: FormMeters,
    delivery: Histogram,
}

/// The figures of one form of sync.
pub(crate) struct FormMeters {
    pub news: Counter,
    pub empty: Counter,
    pub failed: Counter,
    pub waiting: Gauge,
    /// One look for news.
    pub look: Histogram,
}

impl Meters {
    pub fn new() -> Meters {
        let form = || FormMeters {
            news: Counter::default(),
            empty: Counter::default(),
            failed: Counter::default(),
            waiting: Gauge::default(),
            look: Histogram::new(TIME_BUCKETS),
        };
        Meters { v3: form(), sliding: form(), events: form(), delivery: Histogram::new(DELIVERY_BUCKETS) }
    }

    pub fn of(&self, form: Form) -> &FormMeters {
        match form {
            Form::V3 => &self.v3,
            Form::Sliding => &self.sliding,
            Form::Events => &self.events,
        }
    }
}

/// Counts a waiting request as long as it lives, however it ends.
pub(crate) struct WaitingGuard<'a>(&'a Gauge);

impl<'a> WaitingGuard<'a> {
    pub fn new(gauge: &'a Gauge) -> WaitingGuard<'a> {
        gauge.add(1);
        WaitingGuard(gauge)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Inner {
    /// Counts how long the events were on their way that a request which waited at `from` has found at `until`. Of a
    /// client that was away it would be counted how long that was, so those do not come here.
    pub(crate) fn count_delivery(&self, rows: &Rows, from: StreamPos, until: StreamPos) {
        for (room, age) in self.rooms.sent_between(from, until) {
            if rows.get(&room).is_some_and(|row| row.membership == Membership::Join) {
                self.meters.delivery.observe_duration(age);
            }
        }
    }

    /// Counts one look for news.
    pub(crate) fn count_look(&self, form: Form, began: Duration) {
        self.meters.of(form).look.observe_duration(self.clock.monotonic().saturating_sub(began));
    }
}

impl Sync {
    /// Shows the figures of sync.
    pub fn publish_metrics(&self, metrics: &Metrics) {
        let meters = &self.0.meters;
        for (name, form) in [("v3", &meters.v3), ("sliding", &meters.sliding), ("events", &meters.events)] {
            let outcomes = [("news", &form.news), ("empty", &form.empty), ("failed", &form.failed)];
            for (outcome, counter) in outcomes {
                let labels = [("form", name), ("outcome", outcome)];
                metrics.publish("conduit_sync_answers_total", "Answers to sync requests.", &labels, counter);
            }
            let labels = [("form", name)];
            metrics.publish("conduit_sync_waiting", "Sync requests that wait for news.", &labels, &form.waiting);
            let help = "Time to look for news and to write the answer, without waiting.";
            metrics.publish("conduit_sync_compute_seconds", help, &labels, &form.look);
        }
        let help = "From the request that sends an event to the answer of a waiting sync that has it.";
        metrics.publish("conduit_delivery_sync_seconds", help, &[], &meters.delivery);
    }
}
