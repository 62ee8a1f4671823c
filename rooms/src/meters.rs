//! What rooms count and time. Counting costs a relaxed addition; [`Rooms::publish_metrics`] makes it seen.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use runtime::{Counter, Gauge, Histogram, Metrics, TIME_BUCKETS};
use storage::{Read, StreamPos};

use crate::error::RoomError;
use crate::ids::RoomNid;
use crate::keyspaces::HEADS;
use crate::receive::Verdict;
use crate::rooms::Rooms;

/// How many events of ours are remembered with when they came, for those who tell them.
const REMEMBERED: usize = 2048;

/// The figures of rooms.
pub(crate) struct Meters {
    /// Events of users of this server that are part of a room now.
    pub sent: Counter,
    /// Commands of users of this server that were refused.
    pub refused: Counter,
    accepted: Counter,
    soft_failed: Counter,
    rejected: Counter,
    /// From the request to the commit.
    pub append: Histogram,
    pub resolution: Histogram,
    resident: Gauge,
    partial: Gauge,
    pub sent_at: SendTimes,
}

impl Meters {
    pub fn new() -> Meters {
        let counter = Counter::default;
        Meters {
            sent: counter(),
            refused: counter(),
            accepted: counter(),
            soft_failed: counter(),
            rejected: counter(),
            append: Histogram::new(TIME_BUCKETS),
            resolution: Histogram::new(TIME_BUCKETS),
            resident: Gauge::default(),
            partial: Gauge::default(),
            sent_at: SendTimes::default(),
        }
    }

    /// Counts what became of events of other servers.
    pub fn count_verdicts(&self, verdicts: &[Result<Verdict, RoomError>]) {
        for verdict in verdicts.iter().flatten() {
            match verdict {
                Verdict::Known => {}
                Verdict::Accepted => self.accepted.add(1),
                Verdict::SoftFailed(_) => self.soft_failed.add(1),
                Verdict::Rejected(_) => self.rejected.add(1),
            }
        }
    }
}

/// When the newest events of ours were asked for, by the position that they got.
#[derive(Default)]
pub(crate) struct SendTimes(Mutex<VecDeque<(StreamPos, RoomNid, Duration)>>);

impl SendTimes {
    /// Notes a commit. Called in order of positions.
    pub fn note(&self, pos: StreamPos, room: RoomNid, at: Duration) {
        let mut times = self.0.lock();
        if times.len() >= REMEMBERED {
            times.pop_front();
        }
        times.push_back((pos, room, at));
    }
}

/// How often a cache had what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
}

impl Lookups {
    pub fn count(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Rooms {
    /// The events of this server's users that were committed after one position and up to another: their room, and how
    /// long it is since they were asked for. Only of the newest some thousand events.
    #[must_use]
    pub fn sent_between(&self, after: StreamPos, until: StreamPos) -> Vec<(RoomNid, Duration)> {
        let now = self.clock.monotonic();
        let times = self.meters.sent_at.0.lock();
        let newest = times.iter().rev().skip_while(|(pos, ..)| *pos > until).take_while(|(pos, ..)| *pos > after);
        newest.map(|(_, room, at)| (*room, now.saturating_sub(*at))).collect()
    }

    /// Counts rooms for their metrics again. Looks at every room, so it is for a blocking thread and for now and then.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn count_rooms(&self) -> Result<(), RoomError> {
        let mut resident = 0;
        for room in self.store.scan(&HEADS, &()).keys() {
            resident += i64::from(self.is_resident(room?)?);
        }
        self.meters.resident.set(resident);
        Ok(())
    }

    /// Shows the figures of rooms.
    pub fn publish_metrics(&self, metrics: &Metrics) {
        let meters = &self.meters;
        let help = "Events that this server has decided on, by who sent them and what became of them.";
        let events = |origin, outcome, counter: &Counter| {
            metrics.publish("conduit_events_total", help, &[("origin", origin), ("outcome", outcome)], counter);
        };
        events("local", "accepted", &meters.sent);
        events("local", "refused", &meters.refused);
        events("remote", "accepted", &meters.accepted);
        events("remote", "soft_failed", &meters.soft_failed);
        events("remote", "rejected", &meters.rejected);
        let help = "From a user's request to the commit of its events.";
        metrics.publish("conduit_event_append_seconds", help, &[], &meters.append);
        let help = "Time to resolve states that differ.";
        metrics.publish("conduit_state_resolution_seconds", help, &[], &meters.resolution);
        let help =
            "Rooms, counted now and then: that users of this server are in, and those whose members are missing.";
        metrics.publish("conduit_rooms", help, &[("kind", "resident")], &meters.resident);
        metrics.publish("conduit_rooms", help, &[("kind", "partial")], &meters.partial);
        let rooms = self.clone();
        metrics.before_reading(move |_| {
            // They are few; where the store fails, the figure stays.
            if let Ok(partial) = rooms.partial_rooms() {
                rooms.meters.partial.set(i64::try_from(partial.len()).unwrap_or(i64::MAX));
            }
        });
        let queues = self.clone();
        let help = "Rooms with something to write.";
        metrics.observe_gauge("conduit_room_writers", help, &[], move || queues.queues.len() as f64);
        self.publish_caches(metrics);
    }

    fn publish_caches(&self, metrics: &Metrics) {
        let memory = &self.memory;
        for (cache, lookups, length) in memory.loading_caches() {
            publish_cache(metrics, cache, lookups, length);
        }
        macro_rules! bounded {
            ($($name:literal: $field:ident),*) => {$({
                let (hits, misses, length) = (memory.clone(), memory.clone(), memory.clone());
                show_cache(
                    metrics,
                    $name,
                    move || hits.$field.hits() as f64,
                    move || misses.$field.misses() as f64,
                    move || length.$field.len() as f64,
                );
            })*};
        }
        bounded!("state_nodes": nodes, "user_numbers": user_nids, "user_ids": user_ids, "room_numbers": room_nids);
    }
}

/// Tells how large a cache is.
pub(crate) type Length = Arc<dyn Fn() -> usize + Send + Sync>;

fn publish_cache(metrics: &Metrics, cache: &'static str, lookups: Arc<Lookups>, length: Length) {
    let misses = lookups.clone();
    show_cache(
        metrics,
        cache,
        move || lookups.hits.load(Ordering::Relaxed) as f64,
        move || misses.misses.load(Ordering::Relaxed) as f64,
        move || length() as f64,
    );
}

fn show_cache(
    metrics: &Metrics,
    cache: &'static str,
    hits: impl Fn() -> f64 + Send + Sync + 'static,
    misses: impl Fn() -> f64 + Send + Sync + 'static,
    entries: impl Fn() -> f64 + Send + Sync + 'static,
) {
    let help = "Lookups in caches, by whether the cache had it.";
    let labels = |outcome| [("cache", cache), ("outcome", outcome)];
    metrics.observe_counter("conduit_cache_lookups_total", help, &labels("hit"), hits);
    metrics.observe_counter("conduit_cache_lookups_total", help, &labels("miss"), misses);
    metrics.observe_gauge("conduit_cache_entries", "Entries of caches.", &[("cache", cache)], entries);
}
