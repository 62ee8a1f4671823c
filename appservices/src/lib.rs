//! The edge towards application services: what happens here is told to those who registered for it (Application Service
//! API §"Pushing events"), and they are asked what only they know (§"Querying", §"Third-party networks").
//!
//! - `serving.rs` begins and ends with services as they are registered and removed;
//! - `follow.rs` looks at what is committed, once for all services, and notes for each what is of interest to it;
//!   `interest.rs` decides that, and remembers it by room;
//! - `line.rs` is what waits for one service; `catch_up.rs` finds it in the log again after a restart or a long outage;
//! - `transaction.rs` puts a transaction together, `rows.rs` keeps it on the disk, `deliver.rs` sends it;
//! - `ephemeral.rs` and `encryption.rs` are what comes along besides events;
//! - `client.rs` speaks HTTP, `queries.rs` asks questions.
//!
//! Invariants:
//! - The queue of a service is the log after its cursor: an outage makes nothing grow on the disk, and in memory no more
//!   than a bounded list of places.
//! - Events are sent in the order of their commits, in one transaction at a time.
//! - A transaction is on the disk as it is sent, in the commit that moves the cursor over it: it is repeated byte for
//!   byte under the same id until the service has taken it, also after a restart.
//! - An event costs each service one look into a table, however many members the room has.

mod catch_up;
mod client;
mod deliver;
mod encryption;
mod ephemeral;
mod error;
mod follow;
mod interest;
mod line;
mod meters;
mod queries;
mod rows;
mod serving;
mod transaction;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use outbound::Web;
use parking_lot::{Mutex, RwLock};
use rooms::Rooms;
use runtime::{Clock, Counter, Metrics, Random, Tasks};
use spec::ids::UserId;
use storage::{KeyspaceInfo, Store, StreamPos};
use users::Users;

use client::ServiceClient;
use follow::Arrivals;
use interest::Interest;
use line::Line;

/// The keyspaces of this crate, to be declared when the store is opened.
pub const KEYSPACES: &[KeyspaceInfo] = rows::KEYSPACES;

/// What a [`Dispatcher`] is built from.
pub struct DispatcherParts {
    /// The store, opened with [`KEYSPACES`].
    pub store: Store,
    /// The rooms whose events are told.
    pub rooms: Rooms,
    /// The users, and the services that are registered.
    pub users: Users,
    /// What carries requests.
    pub web: Arc<dyn Web>,
    /// Time.
    pub clock: Clock,
    /// Randomness, for pauses.
    pub random: Random,
    /// Where it runs.
    pub tasks: Tasks,
    /// Where it is counted.
    pub metrics: Metrics,
}

/// Speaks with the application services. A cheap handle; one a store.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

/// Only the dispatcher looks inside.
pub struct Inner {
    store: Store,
    rooms: Rooms,
    users: Users,
    clock: Clock,
    random: Random,
    tasks: Tasks,
    client: ServiceClient,
    arrivals: Arc<Arrivals>,
    interest: RwLock<Arc<Interest>>,
    /// What waits for which service; only those with a URL.
    lines: RwLock<BTreeMap<String, Arc<Line>>>,
    /// Up to where the follower has looked. Locked while lines are extended, and by those who become live.
    done: Mutex<StreamPos>,
    /// Users that services are being asked for because they were invited.
    asked: Mutex<BTreeSet<UserId>>,
    metrics: DispatcherMetrics,
}

impl Deref for Dispatcher {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dispatcher")
    }
}

struct DispatcherMetrics {
    events: Counter,
    transactions: Counter,
    failures: Counter,
}

impl DispatcherMetrics {
    fn new(metrics: &Metrics) -> Self {
        DispatcherMetrics {
            events: metrics.counter("conduit_appservice_events_total", "Events that services have taken.", &[]),
            transactions: metrics.counter(
                "conduit_appservice_transactions_total",
                "Transactions that services have taken.",
                &[],
            ),
            failures: metrics.counter(
                "conduit_appservice_transactions_failed_total",
                "Attempts at transactions that services did not take; they are repeated.",
                &[],
            ),
        }
    }
}

impl Dispatcher {
    /// Nothing is sent before [`Dispatcher::start`]; questions can be asked at once.
    #[must_use]
    pub fn new(parts: DispatcherParts) -> Dispatcher {
        let DispatcherParts { store, rooms, users, web, clock, random, tasks, metrics } = parts;
        let interest = RwLock::new(Arc::new(Interest::new(users.appservices(), rooms.clone())));
        let dispatcher = Dispatcher(Arc::new(Inner {
            client: ServiceClient::new(web, clock.clone()),
            arrivals: Arc::default(),
            interest,
            lines: RwLock::default(),
            done: Mutex::new(StreamPos::ZERO),
            asked: Mutex::default(),
            metrics: DispatcherMetrics::new(&metrics),
            store,
            rooms,
            users,
            clock,
            random,
            tasks,
        }));
        dispatcher.publish_lag(&metrics);
        dispatcher
    }

    /// Goes on where the last run left off, and runs until shutdown. To be called once. What is committed from now on
    /// is not missed.
    pub fn start(&self) {
        let arrivals = self.arrivals.clone();
        self.store.on_visible(Arc::new(move |group| arrivals.observe(group)));
        self.tasks.spawn_essential("appservice follower", self.clone().follow());
        self.tasks.spawn("appservice typing", self.clone().watch_typing());
        self.tasks.spawn("appservice presence", self.clone().watch_presence());
    }

    fn interest(&self) -> Arc<Interest> {
        self.interest.read().clone()
    }

    fn line(&self, id: &str) -> Option<Arc<Line>> {
        self.lines.read().get(id).cloned()
    }
}
