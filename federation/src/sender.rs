//! Sending: what happens here is told to the servers that it concerns (Server-Server API §Transactions, §EDUs).
//!
//! - `follow.rs` looks at what is committed and notes which server has to be told of which room, from which event on;
//! - `rows.rs` keeps that on the disk, `table.rs` in memory;
//! - a scheduler gives servers their turns, `deliver.rs` is one turn: `gather.rs` reads the log and `pack.rs` puts the
//!   transaction together;
//! - `outbox.rs` keeps to-device messages, `devices.rs` tells of device lists, `watch.rs` and `ephemeral.rs` of typing,
//!   receipts and presence, `catch_up.rs` of what servers missed whose being in a partial room was not known.
//!
//! Invariants:
//! - The queue of a server is the log of its rooms after a position: an outage makes no queue grow.
//! - An event goes to a server only if it was in the room when the event came, decided when the transaction is packed;
//!   except for those that end the membership of a user who was asked to come.
//! - What is pending has its row before the follower's cursor passes it, and loses it when the server has acknowledged
//!   it: a crash may send something twice, never not at all.
//! - A server has one transaction under way at most, and a server with nothing pending costs nothing.

mod catch_up;
mod deliver;
mod devices;
mod eligible;
mod ephemeral;
mod follow;
mod forget;
mod gather;
mod outbox;
mod pack;
mod rows;
mod table;
mod watch;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use rooms::{RoomError, RoomNid, Rooms, UserNid};
use runtime::{Clock, Counter, DELIVERY_BUCKETS, Gauge, Histogram, Metrics, Random, TIME_BUCKETS, Tasks};
use spec::ids::ServerName;
use storage::{CommitError, Read, StorageError, Store};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use users::{UserError, Users};

use crate::FederationParts;
use crate::client::FederationClient;
use crate::config::FederationConfig;
use crate::destinations::Destinations;

pub(crate) use rows::KEYSPACES;

#[cfg(test)]
mod tests;

/// How long the scheduler sleeps without a timer, in milliseconds.
const IDLE_MS: u64 = 3_600_000;

/// What a [`Sender`] is built from.
pub(crate) struct SenderParts {
    /// The store, opened with [`KEYSPACES`].
    pub store: Store,
    /// The rooms whose events are sent.
    pub rooms: Rooms,
    /// The users whose devices and presence are told.
    pub users: Users,
    /// What sends requests.
    pub client: FederationClient,
    /// Who may be sent to, and when.
    pub destinations: Destinations,
    /// Settings.
    pub config: Arc<FederationConfig>,
    /// Time.
    pub clock: Clock,
    /// Randomness, for the ids of transactions.
    pub random: Random,
    /// Where it runs.
    pub tasks: Tasks,
    /// Where it is counted.
    pub metrics: Metrics,
}

/// The outbound queues of this server. A cheap handle; one a store.
#[derive(Clone)]
pub(crate) struct Sender(Arc<Inner>);

/// Only the sender looks inside.
pub(crate) struct Inner {
    parts: SenderParts,
    server_name: ServerName,
    table: Mutex<table::Table>,
    /// Somebody may be in line, or a timer has changed.
    wake: Notify,
    arrivals: Arc<follow::Arrivals>,
    metrics: SenderMetrics,
}

impl Deref for Inner {
    type Target = SenderParts;

    fn deref(&self) -> &SenderParts {
        &self.parts
    }
}

impl Deref for Sender {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

struct SenderMetrics {
    pdus: Counter,
    edus: Counter,
    transactions: Counter,
    failures: Counter,
    pending: Gauge,
    /// From sending a transaction to its answer.
    transaction_time: Histogram,
    /// From a user's event to its acknowledgement.
    delivery: Histogram,
}

impl SenderMetrics {
    fn new(metrics: &Metrics) -> Self {
        SenderMetrics {
            pdus: metrics.counter("conduit_federation_pdus_sent_total", "PDUs that other servers acknowledged.", &[]),
            edus: metrics.counter("conduit_federation_edus_sent_total", "EDUs that other servers acknowledged.", &[]),
            transactions: metrics.counter(
                "conduit_federation_transactions_sent_total",
                "Transactions that other servers acknowledged.",
                &[],
            ),
            failures: metrics.counter(
                "conduit_federation_transactions_failed_total",
                "Transactions that other servers did not acknowledge; they are sent again.",
                &[],
            ),
            pending: metrics.gauge("conduit_federation_pending_servers", "Servers that something waits for.", &[]),
            transaction_time: metrics.histogram(
                "conduit_federation_transaction_seconds",
                "From sending a transaction to its acknowledgement.",
                TIME_BUCKETS,
                &[],
            ),
            delivery: metrics.histogram(
                "conduit_delivery_federation_seconds",
                "From a user's event to its acknowledgement by another server, of the newest event of each room.",
                DELIVERY_BUCKETS,
                &[],
            ),
        }
    }
}

/// Why something cannot be sent: all of these are ours or the operator's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Reading failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Writing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The rooms failed.
    #[error(transparent)]
    Rooms(#[from] RoomError),
    /// The users failed.
    #[error(transparent)]
    Users(#[from] UserError),
}

impl Sender {
    /// The sender of the edge. Nothing is sent before [`Sender::start`], but it is queued.
    pub fn new(parts: &FederationParts) -> Sender {
        Sender::from_parts(SenderParts {
            store: parts.store.clone(),
            rooms: parts.rooms.clone(),
            users: parts.users.clone(),
            client: parts.client.clone(),
            destinations: parts.destinations.clone(),
            config: parts.config.clone(),
            clock: parts.clock.clone(),
            random: parts.random.clone(),
            tasks: parts.tasks.clone(),
            metrics: parts.metrics.clone(),
        })
    }

    fn from_parts(parts: SenderParts) -> Sender {
        Sender(Arc::new(Inner {
            server_name: parts.client.server_name().clone(),
            table: Mutex::default(),
            wake: Notify::new(),
            arrivals: Arc::default(),
            metrics: SenderMetrics::new(&parts.metrics),
            parts,
        }))
    }

    /// Goes on where the last run left off, and runs until shutdown. To be called once. What is committed from now on
    /// is not missed. If what is pending cannot be read, the server shuts down.
    pub fn start(&self) {
        let arrivals = self.arrivals.clone();
        self.store.on_visible(Arc::new(move |group| arrivals.observe(group)));
        let sender = self.clone();
        self.tasks.spawn_essential("federation follower", async move {
            match sender.load().and_then(|()| sender.resume_following()) {
                Ok(place) => {
                    sender.spawn_others();
                    let shutdown = sender.tasks.shutdown_token();
                    sender.follow(place, shutdown).await;
                }
                Err(error) => tracing::error!(%error, "what waits for other servers cannot be read"),
            }
        });
    }

    fn spawn_others(&self) {
        let shutdown = || self.tasks.shutdown_token();
        self.tasks.spawn("federation scheduler", self.clone().schedule());
        if self.config.typing {
            self.tasks.spawn("federation typing", self.clone().watch_typing(shutdown()));
        }
        if self.config.presence {
            self.tasks.spawn("federation presence", self.clone().watch_presence(shutdown()));
        }
    }

    /// Puts a server in line if something is pending for it, even if it failed lately.
    pub fn wake(&self, server: &ServerName) {
        let mut table = self.table.lock();
        table.resume(server);
        table.wake(server);
        drop(table);
        self.wake.notify_one();
    }

    /// Whether something is pending for a server.
    pub fn is_pending(&self, server: &ServerName) -> bool {
        self.table.lock().knows(server)
    }

    /// The servers that something is pending for, in no order.
    #[cfg(test)]
    pub fn pending_destinations(&self) -> Vec<ServerName> {
        self.table.lock().names()
    }

    /// Reads what is pending.
    fn load(&self) -> Result<(), SendError> {
        let mut table = self.table.lock();
        let mut servers = BTreeSet::new();
        for row in self.store.scan(&rows::PENDING, &()).iter() {
            let ((server, room), after) = row?;
            let Some(server) = rows::read_name(&server) else { continue };
            let latest = match self.rooms.head(room) {
                Ok(head) => head.last_seq().max(after.next()),
                Err(error) => {
                    tracing::error!(room = room.0, %error, "a room with something to send cannot be read");
                    continue;
                }
            };
            table.open_room(&server, room, table::Stretch::new(after, latest));
            servers.insert(server);
        }
        for key in self.store.scan(&rows::EXTRA, &()).keys() {
            let (server, room, seq) = key?;
            let Some(server) = rows::read_name(&server) else { continue };
            table.destination(&server).extras.insert((room, seq));
            servers.insert(server);
        }
        for key in self.store.scan(&rows::OUTBOX, &()).keys() {
            let Some(server) = rows::read_name(&key?.0) else { continue };
            servers.insert(server.clone());
            let destination = table.destination(&server);
            destination.has_outbox = true;
            destination.outbox += 1;
        }
        let visible = self.store.visible();
        for row in self.store.scan(&rows::DEVICE_POS, &()).iter() {
            let (server, after) = row?;
            let Some(server) = rows::read_name(&server) else { continue };
            let stretch = table::Stretch::new(after, visible.max(after.next()));
            table.destination(&server).devices = Some(stretch);
            servers.insert(server);
        }
        for key in self.store.scan(&rows::WHOLE_LISTS, &()).keys() {
            let (server, user) = key?;
            let Some(server) = rows::read_name(&server) else { continue };
            table.destination(&server).whole_lists.insert(user);
            servers.insert(server);
        }
        for server in &servers {
            table.wake(server);
        }
        Ok(())
    }

    /// Gives servers their turns until shutdown.
    async fn schedule(self) {
        let mut returns = self.destinations.returns();
        let limit = self.config.max_concurrent_sends.max(1);
        loop {
            let next_ms = {
                let mut table = self.table.lock();
                let now_ms = self.clock.now_ms();
                table.expire(now_ms);
                while let Some(server) = table.take_ready(limit) {
                    let (sender, shutdown) = (self.clone(), self.tasks.shutdown_token());
                    self.tasks.spawn("federation transaction", async move {
                        shutdown.run_until_cancelled(sender.take_turn(server)).await;
                    });
                }
                self.metrics.pending.set(table.len() as i64);
                table.next_timer().unwrap_or_else(|| now_ms.saturating_add(IDLE_MS)).max(now_ms.saturating_add(1))
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.clock.sleep_until_ms(next_ms) => {}
                returned = returns.recv() => match returned {
                    Ok(server) => self.wake(&server),
                    Err(RecvError::Lagged(_)) => self.resume_those_allowed(),
                    Err(RecvError::Closed) => return,
                },
                () = self.tasks.shutdown_signal() => return,
            }
        }
    }

    fn resume_those_allowed(&self) {
        let mut table = self.table.lock();
        for server in table.backing_off() {
            if self.destinations.check(&server).is_ok() {
                table.resume(&server);
            }
        }
    }

    fn is_local(&self, user: UserNid) -> Result<bool, SendError> {
        Ok(self.rooms.user_id(user)?.server_name() == self.server_name.as_str())
    }

    /// The other servers in a room that may be sent to.
    fn servers_in(&self, room: RoomNid) -> Result<Vec<ServerName>, SendError> {
        let stays = self.rooms.room_servers(room)?;
        let others = stays.iter().filter(|(server, stay)| stay.joined > 0 && **server != self.server_name);
        Ok(others.map(|(server, _)| server).filter(|server| self.destinations.is_allowed(server)).cloned().collect())
    }

    /// The other servers in the rooms of a user, but for one room.
    fn servers_of_rooms(&self, user: UserNid, except: Option<RoomNid>) -> Result<BTreeSet<ServerName>, SendError> {
        let mut servers = BTreeSet::new();
        for room in self.rooms.joined_rooms(user)?.into_iter().filter(|room| Some(*room) != except) {
            servers.extend(self.servers_in(room)?);
        }
        Ok(servers)
    }

    fn shares_room(&self, user: UserNid, server: &ServerName) -> Result<bool, SendError> {
        for room in self.rooms.joined_rooms(user)? {
            if self.rooms.room_servers(room)?.get(server).is_some_and(|stay| stay.joined > 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
