//! Which servers may be asked, and which are left alone for a while because they failed.
//!
//! The back-off of a server is shared by all requests to it and by its outbound queue. It is durable,
//! so that a restart does not begin with a request to every server that has been gone for months.
//! A row exists only as long as a server fails, and is written only when its state changes.

mod backoff;
mod lists;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use runtime::{Clock, Metrics, Random};
use serde::{Deserialize, Serialize};
use spec::ids::ServerName;
use storage::{Batch, Keyspace, KeyspaceInfo, Profile, Read, StorageError, Store};
use tokio::sync::broadcast;

use crate::config::FederationConfig;
use crate::error::RemoteError;
use lists::ServerLists;

/// Server → its back-off.
pub(crate) const DESTINATIONS: Keyspace<String, BackoffRow> = Keyspace::new("destinations", Profile::Points);
/// Every keyspace of this module.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[DESTINATIONS.info()];

/// How many failing servers are remembered; those that could be tried again longest ago go first.
const MAX_FAILING: usize = 20_000;
/// How many go at a time.
const EVICT: usize = 500;
/// A server that could have been tried again so long ago and was not is forgotten at the start.
const FORGET_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// How often being heard from lets a server be tried again while it goes on failing.
const HEARD_PAUSE_MS: u64 = 60 * 1000;
/// How many returns are kept for a receiver that is slow.
const RETURNS: usize = 1024;

/// A stored back-off. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackoffRow {
    /// When it failed first.
    pub(crate) failing_since: u64,
    /// Until when it is left alone.
    pub(crate) retry_at: u64,
    /// How many tries failed.
    pub(crate) failures: u32,
}
storage::stored!(BackoffRow, 1);

/// What [`Destinations::open`] needs.
pub struct DestinationsParts {
    /// The store with [`crate::keyspaces`].
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// Randomness, for the jitter.
    pub random: Random,
    /// The lists and the lengths of the back-off.
    pub config: Arc<FederationConfig>,
}

/// Whom this server may ask, now or later; clones share it.
#[derive(Clone)]
pub struct Destinations(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    random: Random,
    /// Whether anything is exchanged at all.
    enabled: bool,
    settings: RwLock<Settings>,
    failing: Mutex<HashMap<ServerName, Failing>>,
    returns: broadcast::Sender<ServerName>,
}

struct Settings {
    lists: ServerLists,
    backoff: Duration,
    max_backoff: Duration,
}

#[derive(Clone, Copy)]
struct Failing {
    row: BackoffRow,
    /// When it was last heard from while it failed.
    heard_at: Option<u64>,
}

impl Destinations {
    /// Reads the back-off of all servers that fail.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(parts: DestinationsParts) -> Result<Destinations, StorageError> {
        let now = parts.clock.now_ms();
        let mut failing = HashMap::new();
        for row in parts.store.scan(&DESTINATIONS, &()).iter() {
            let (server, row) = row?;
            let is_recent = row.retry_at.saturating_add(FORGET_MS) > now;
            if let (Ok(server), true) = (ServerName::parse(server), is_recent && failing.len() < MAX_FAILING) {
                failing.insert(server, Failing { row, heard_at: None });
            }
        }
        Ok(Destinations(Arc::new(Inner {
            store: parts.store,
            clock: parts.clock,
            random: parts.random,
            enabled: parts.config.enabled,
            settings: RwLock::new(Settings::new(&parts.config)),
            failing: Mutex::new(failing),
            returns: broadcast::Sender::new(RETURNS),
        })))
    }

    /// Takes over the lists and the lengths of the back-off.
    pub fn reload(&self, config: &FederationConfig) {
        *self.0.settings.write() = Settings::new(config);
    }

    /// Whether the operator lets this server exchange anything with that one.
    #[must_use]
    pub fn is_allowed(&self, server: &ServerName) -> bool {
        self.0.enabled && self.0.settings.read().lists.allow(server)
    }

    /// Whether a server may be asked now.
    ///
    /// # Errors
    /// [`RemoteError::NotAllowed`], [`RemoteError::BackingOff`].
    pub fn check(&self, server: &ServerName) -> Result<(), RemoteError> {
        if !self.is_allowed(server) {
            return Err(RemoteError::NotAllowed(server.clone()));
        }
        match self.retry_at(server) {
            Some(at) => {
                let seconds = at.saturating_sub(self.0.clock.now_ms()).div_ceil(1000);
                Err(RemoteError::BackingOff { server: server.clone(), seconds })
            }
            None => Ok(()),
        }
    }

    /// Until when a server is left alone, in milliseconds since the Unix epoch; `None` if it may be
    /// asked now.
    #[must_use]
    pub fn retry_at(&self, server: &ServerName) -> Option<u64> {
        let retry_at = self.0.failing.lock().get(server)?.row.retry_at;
        (retry_at > self.0.clock.now_ms()).then_some(retry_at)
    }

    /// Since when a server has been failing, in milliseconds since the Unix epoch; `None` if it answers.
    #[must_use]
    pub fn failing_since(&self, server: &ServerName) -> Option<u64> {
        Some(self.0.failing.lock().get(server)?.row.failing_since)
    }

    /// How often a server has failed in a row.
    #[must_use]
    pub fn failures(&self, server: &ServerName) -> u32 {
        self.0.failing.lock().get(server).map_or(0, |failing| failing.row.failures)
    }

    /// The servers that fail, in no order.
    #[must_use]
    pub fn failing(&self) -> Vec<ServerName> {
        self.0.failing.lock().keys().cloned().collect()
    }

    /// The servers that are left alone now, and until when, in milliseconds since the Unix epoch; the one that may be
    /// asked again first comes first. At most `limit` of them, and how many there are.
    #[must_use]
    pub fn backing_off(&self, limit: usize) -> (Vec<(ServerName, u64)>, usize) {
        let now = self.0.clock.now_ms();
        let failing = self.0.failing.lock();
        let mut all: Vec<_> = failing.iter().filter(|(_, failing)| failing.row.retry_at > now).collect();
        let count = all.len();
        all.sort_unstable_by_key(|(server, failing)| (failing.row.retry_at, *server));
        (all.into_iter().take(limit).map(|(server, failing)| (server.clone(), failing.row.retry_at)).collect(), count)
    }

    /// Shows how many servers are left alone.
    pub(crate) fn publish_metrics(&self, metrics: &Metrics) {
        let destinations = self.clone();
        let help = "Servers that failed and are left alone for a while.";
        let count = move || destinations.backing_off(0).1 as f64;
        metrics.observe_gauge("conduit_federation_backing_off", help, &[], count);
    }

    /// A server answered. Ends its back-off, if there was one, and tells of its return.
    ///
    /// Cancel-safe: what is in memory counts; a row that stays is taken out with the next success
    /// after a restart.
    pub async fn record_success(&self, server: &ServerName) {
        if self.0.failing.lock().remove(server).is_none() {
            return;
        }
        tracing::info!(destination = %server, "the server answers again");
        // Fails if nobody listens.
        let _ = self.0.returns.send(server.clone());
        let mut batch = Batch::new();
        batch.delete(&DESTINATIONS, &server.as_str().to_owned());
        self.write(batch).await;
    }

    /// A server did not do its part: no connection, no answer, or a server error. `retry_after` is
    /// what it asked for itself. Further failures during a back-off are those of requests that were
    /// on their way already, and change nothing. Cancel-safe, as [`Destinations::record_success`].
    pub async fn record_failure(&self, server: &ServerName, retry_after: Option<Duration>) {
        let Some((row, evicted)) = self.note_failure(server, retry_after) else { return };
        if row.failures == 1 {
            tracing::info!(destination = %server, retry_at = row.retry_at, "the server fails and is left alone for a while");
        }
        let mut batch = Batch::new();
        batch.put(&DESTINATIONS, &server.as_str().to_owned(), &row);
        for server in evicted {
            batch.delete(&DESTINATIONS, &server.as_str().to_owned());
        }
        self.write(batch).await;
    }

    /// A server sent something, so it is there: it may be tried at once. A server that we reach
    /// nevertheless not gets no more tries by this than one a minute.
    pub fn heard_from(&self, server: &ServerName) {
        let now = self.0.clock.now_ms();
        {
            let mut all = self.0.failing.lock();
            let Some(failing) = all.get_mut(server) else { return };
            let is_early = failing.heard_at.is_some_and(|at| at.saturating_add(HEARD_PAUSE_MS) > now);
            if failing.row.retry_at <= now || is_early {
                return;
            }
            failing.heard_at = Some(now);
            failing.row.retry_at = now;
        }
        // Fails if nobody listens.
        let _ = self.0.returns.send(server.clone());
    }

    /// Servers that may be asked again before their time: they answered, or were heard from. A
    /// receiver that lags has to look at all servers it waits for.
    #[must_use]
    pub fn returns(&self) -> broadcast::Receiver<ServerName> {
        self.0.returns.subscribe()
    }

    /// The new row, and whom to forget for it; `None` if nothing changes.
    fn note_failure(
        &self,
        server: &ServerName,
        retry_after: Option<Duration>,
    ) -> Option<(BackoffRow, Vec<ServerName>)> {
        let now = self.0.clock.now_ms();
        let settings = self.0.settings.read();
        let mut all = self.0.failing.lock();
        let before = all.get(server).copied();
        if before.is_some_and(|before| before.row.retry_at > now) {
            return None;
        }
        let failures = before.map_or(0, |before| before.row.failures).saturating_add(1);
        let pause = backoff::pause_ms(settings.backoff, settings.max_backoff, failures, retry_after, &self.0.random);
        let row = BackoffRow {
            failing_since: before.map_or(now, |before| before.row.failing_since),
            retry_at: now.saturating_add(pause),
            failures,
        };
        let evicted = if all.len() >= MAX_FAILING && before.is_none() { evict(&mut all) } else { Vec::new() };
        all.insert(server.clone(), Failing { row, heard_at: before.and_then(|before| before.heard_at) });
        Some((row, evicted))
    }

    async fn write(&self, batch: Batch) {
        if let Err(error) = self.0.store.commit(batch).await {
            tracing::error!(%error, "the back-off of a server was not written");
        }
    }
}

impl Settings {
    fn new(config: &FederationConfig) -> Settings {
        Settings {
            lists: ServerLists::new(&config.allowed_servers, &config.denied_servers),
            backoff: config.backoff.duration(),
            max_backoff: config.max_backoff.duration(),
        }
    }
}

/// Makes room: forgets those that could be tried again longest ago.
fn evict(all: &mut HashMap<ServerName, Failing>) -> Vec<ServerName> {
    let mut by_retry: Vec<(u64, ServerName)> = all.iter().map(|(server, f)| (f.row.retry_at, server.clone())).collect();
    by_retry.sort_unstable();
    by_retry.truncate(EVICT);
    for (_, server) in &by_retry {
        all.remove(server);
    }
    by_retry.into_iter().map(|(_, server)| server).collect()
}
