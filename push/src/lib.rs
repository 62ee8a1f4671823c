//! The push edge: notifications of events to the push gateways that clients name (Client-Server API §Push
//! Notifications, Push Gateway API).
//!
//! - `arrivals.rs` notes what is committed, `follow.rs` looks at it and queues what notifies somebody; `audience.rs`
//!   says who that can be;
//! - `rows.rs` keeps what is queued on the disk, `table.rs` in memory;
//! - a scheduler gives pushers their turns, `deliver.rs` is one turn, `notification.rs` what is sent in it, and
//!   `gateway.rs` the request.
//!
//! Invariants:
//! - What notifies has its row before the follower's cursor passes it, and loses it when the gateway has taken it: a
//!   crash may send something twice, never not at all. It is given up after a time, and of a long queue the oldest go.
//! - A pusher has one request under way at most, so its notifications arrive in their order.
//! - An event costs the members of its room that have pushers; a room without any costs one look.
//! - No more requests are under way than configured, whatever gateways do, and those that failed get half of the places.
//! - No redirect is followed, and no address inside the operator's network is asked.

mod arrivals;
mod audience;
mod config;
mod deliver;
mod error;
mod follow;
mod gateway;
mod notification;
mod rows;
mod table;

use std::ops::Deref;
use std::sync::Arc;

use outbound::Web;
use parking_lot::Mutex;
use rooms::Rooms;
use runtime::{Clock, Counter, Gauge, Metrics, Random, Tasks};
use storage::Store;
use tokio::sync::{Notify, RwLock};
use users::Users;

pub use config::{BadgeCount, PushConfig};
pub use rows::KEYSPACES;

use error::{PushError, leave_out};

#[cfg(test)]
mod tests;

/// How long the scheduler sleeps without a timer, in milliseconds.
const IDLE_MS: u64 = 3_600_000;

/// What [`Push`] is built from.
pub struct PushParts {
    /// The store, opened with [`KEYSPACES`].
    pub store: Store,
    /// The rooms whose events notify.
    pub rooms: Rooms,
    /// The users who are notified.
    pub users: Users,
    /// What carries requests.
    pub web: Arc<dyn Web>,
    /// Settings.
    pub config: PushConfig,
    /// Time.
    pub clock: Clock,
    /// Randomness, so that what failed together is not tried together.
    pub random: Random,
    /// Where it runs.
    pub tasks: Tasks,
    /// Where it is counted.
    pub metrics: Metrics,
}

/// Push delivery. A cheap handle; one a store.
#[derive(Clone)]
pub struct Push(Arc<Inner>);

/// Only this crate looks inside.
pub struct Inner {
    parts: PushParts,
    table: Mutex<table::Table>,
    holds: Mutex<gateway::Holds>,
    arrivals: Arc<arrivals::Arrivals>,
    /// Somebody may be in line, or a timer has changed.
    wake: Notify,
    /// Taken by whoever writes rows of badges, from before they are read until the table knows of it: by the follower
    /// alone, by turns side by side, as each pusher has one at a time.
    badges: RwLock<()>,
    metrics: PushMetrics,
}

impl Deref for Inner {
    type Target = PushParts;

    fn deref(&self) -> &PushParts {
        &self.parts
    }
}

impl Deref for Push {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

struct PushMetrics {
    queued: Counter,
    sent: Counter,
    failed: Counter,
    rejected: Counter,
    given_up: Counter,
    pending: Gauge,
}

impl PushMetrics {
    fn new(metrics: &Metrics) -> Self {
        PushMetrics {
            queued: metrics.counter("conduit_push_queued_total", "Notifications queued for pushers.", &[]),
            sent: metrics.counter("conduit_push_sent_total", "Requests that push gateways took.", &[]),
            failed: metrics.counter(
                "conduit_push_failed_total",
                "Requests that push gateways did not take; they are sent again.",
                &[],
            ),
            rejected: metrics.counter("conduit_push_rejected_total", "Pushers removed at a gateway's word.", &[]),
            given_up: metrics.counter(
                "conduit_push_given_up_total",
                "Notifications dropped because they waited too long, or too many did.",
                &[],
            ),
            pending: metrics.gauge("conduit_push_pending_pushers", "Pushers that something waits for.", &[]),
        }
    }
}

impl Push {
    /// Push delivery on a store. Nothing is queued or sent before [`Push::start`].
    #[must_use]
    pub fn new(parts: PushParts) -> Push {
        Push(Arc::new(Inner {
            table: Mutex::default(),
            holds: Mutex::default(),
            arrivals: Arc::default(),
            wake: Notify::new(),
            badges: RwLock::default(),
            metrics: PushMetrics::new(&parts.metrics),
            parts,
        }))
    }

    /// Goes on where the last run left off, and runs until shutdown; does nothing where push is switched off. To be
    /// called once. What is committed from now on is not missed. If what is queued cannot be read, the server shuts down.
    pub fn start(&self) {
        let push = self.clone();
        if !self.config.enabled {
            self.tasks.spawn("push off", async move {
                if let Err(error) = push.forget_cursor().await {
                    tracing::error!(%error, "the cursor of push was not taken out");
                }
            });
            return;
        }
        let arrivals = self.arrivals.clone();
        self.store.on_visible(Arc::new(move |group| arrivals.observe(group)));
        let begin = self.store.visible();
        self.tasks.spawn_essential("push follower", async move {
            match push.load().and_then(|()| push.resume_following(begin)) {
                Ok(follower) => {
                    push.tasks.spawn("push scheduler", push.clone().schedule());
                    let shutdown = push.tasks.shutdown_token();
                    push.follow(follower, shutdown).await;
                }
                Err(error) => tracing::error!(%error, "what is queued for push gateways cannot be read"),
            }
        });
    }

    /// Reads what is queued.
    fn load(&self) -> Result<(), PushError> {
        let mut table = self.table.lock();
        let now_ms = self.clock.now_ms();
        for row in rows::queued(&self.store) {
            let (pusher, place) = row?;
            table.add(&pusher, place);
        }
        for row in rows::badges(&self.store) {
            let (pusher, badge) = row?;
            let is_gone = match self.users.pusher(pusher.user, &pusher.app_id, &pusher.pushkey) {
                Ok(kept) => kept.is_none(),
                Err(error) => {
                    leave_out("user", pusher.user.0, error.into())?;
                    continue;
                }
            };
            // The turn of one that is gone deletes what it left.
            if badge.is_due || is_gone {
                table.add_badge(&pusher, now_ms);
            }
        }
        Ok(())
    }

    /// Gives pushers their turns until shutdown.
    async fn schedule(self) {
        let limit = self.config.max_concurrent_requests.max(1);
        loop {
            let next_ms = {
                let mut table = self.table.lock();
                let now_ms = self.clock.now_ms();
                table.expire(now_ms);
                while let Some(pusher) = table.take_ready(limit) {
                    let (push, shutdown) = (self.clone(), self.tasks.shutdown_token());
                    self.tasks.spawn("push turn", async move {
                        shutdown.run_until_cancelled(push.take_turn(pusher)).await;
                    });
                }
                self.metrics.pending.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
                table.next_timer().unwrap_or_else(|| now_ms.saturating_add(IDLE_MS)).max(now_ms.saturating_add(1))
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.clock.sleep_until_ms(next_ms) => {}
                () = self.tasks.shutdown_signal() => return,
            }
        }
    }
}
