//! Following what is committed.
//!
//! The commit observer only notes which rooms and users changed. A task gathers that for a moment and has it counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use media::Media;
use parking_lot::Mutex;
use rooms::{RoomNid, Rooms, TOPIC_ACCOUNTS, TOPIC_ROOM, TOPIC_ROOM_GONE, UserNid};
use runtime::{CancellationToken, Clock, Metrics, Tasks};
use storage::{Batch, Committed, Read, Store, StreamPos};
use tokio::sync::Notify;
use users::Users;

use super::count::Types;
use super::latency::Measured;
use super::rows::{CURSOR, KNOWN, THE_CURSOR};
use crate::error::AdminError;
use crate::every_account::visit_accounts;

/// How long changes are gathered before they are counted.
const GATHER: Duration = Duration::from_secs(5);
/// How long it waits after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// How often old days are put together.
const TIDY_INTERVAL: Duration = Duration::from_secs(3600);
/// How often it is noted how much there is and how long things took.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(60);

/// Statistics of a server. A cheap handle.
#[derive(Clone)]
pub struct Statistics(Arc<Inner>);

/// What statistics are made of.
pub struct StatisticsParts {
    /// The store with the keyspaces of statistics.
    pub store: Store,
    /// The rooms.
    pub rooms: Rooms,
    /// The accounts.
    pub users: Users,
    /// The content repository.
    pub media: Media,
    /// Time.
    pub clock: Clock,
    /// The figures that tell how long things took.
    pub metrics: Metrics,
}

pub struct Inner {
    pub(super) parts: StatisticsParts,
    pub(super) arrivals: Mutex<Arrivals>,
    news: Notify,
    /// Held while counts are written.
    pub(super) writing: tokio::sync::Mutex<Writing>,
}

impl std::ops::Deref for Statistics {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What has changed and is not counted yet.
#[derive(Default)]
pub(super) struct Arrivals {
    pub(super) rooms: BTreeSet<RoomNid>,
    pub(super) seen: BTreeSet<UserNid>,
    pub(super) upto: StreamPos,
    /// Whether rooms came or went since they were counted.
    pub(super) do_rooms_differ: bool,
}

/// What is remembered from one count to the next.
#[derive(Default)]
pub(super) struct Writing {
    pub(super) types: Types,
    pub(super) measured: Measured,
}

impl Statistics {
    /// Nothing is counted before [`Statistics::start`].
    #[must_use]
    pub fn new(parts: StatisticsParts) -> Statistics {
        Statistics(Arc::new(Inner {
            parts,
            // Whatever happened to rooms while nobody looked.
            arrivals: Mutex::new(Arrivals { do_rooms_differ: true, ..Arrivals::default() }),
            news: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        }))
    }

    /// Counts from where the last run left off until shutdown. To be called once. What is committed from now on is not
    /// missed.
    pub fn start(&self, tasks: &Tasks) {
        // The store would never be closed if its observer held it.
        let observer = Arc::downgrade(&self.0);
        self.parts.store.on_visible(Arc::new(move |group| {
            if let Some(inner) = observer.upgrade() {
                Statistics(inner).observe(group);
            }
        }));
        let (statistics, shutdown) = (self.clone(), tasks.shutdown_token());
        tasks.spawn("statistics", async move { statistics.run(shutdown).await });
        let (statistics, shutdown) = (self.clone(), tasks.shutdown_token());
        tasks.spawn("statistics of old days", async move {
            shutdown.run_until_cancelled(statistics.tidy_forever()).await;
        });
    }

    async fn tidy_forever(&self) {
        loop {
            self.parts.clock.sleep(TIDY_INTERVAL).await;
            if let Err(error) = self.tidy().await {
                tracing::error!(%error, "old statistics were not put together");
            }
        }
    }

    fn observe(&self, group: &[Committed]) {
        let mut arrivals = self.arrivals.lock();
        let before = arrivals.rooms.len() + arrivals.seen.len();
        for committed in group {
            arrivals.upto = arrivals.upto.max(committed.pos);
            for topic in &committed.topics {
                match topic.kind() {
                    TOPIC_ROOM => drop(arrivals.rooms.insert(RoomNid(topic.id()))),
                    TOPIC_ACCOUNTS => drop(arrivals.seen.insert(UserNid(topic.id()))),
                    TOPIC_ROOM_GONE => arrivals.do_rooms_differ = true,
                    _ => {}
                }
            }
        }
        let is_news = arrivals.rooms.len() + arrivals.seen.len() > before;
        drop(arrivals);
        if is_news {
            self.news.notify_one();
        }
    }

    async fn run(self, shutdown: CancellationToken) {
        while let Err(error) = self.catch_up().await {
            tracing::error!(%error, "statistics do not know where they were; it is tried again");
            if shutdown.run_until_cancelled(self.parts.clock.sleep(RETRY_AFTER)).await.is_none() {
                return;
            }
        }
        let mut sampling = std::pin::pin!(self.parts.clock.sleep(SAMPLE_INTERVAL));
        loop {
            let done = tokio::select! {
                () = self.news.notified() => self.count_arrived().await,
                () = &mut sampling => {
                    sampling.set(self.parts.clock.sleep(SAMPLE_INTERVAL));
                    self.sample().await
                }
                () = shutdown.cancelled() => break,
            };
            let pause = match done {
                Ok(()) => GATHER,
                Err(error) => {
                    tracing::error!(%error, "statistics fall behind; it is tried again");
                    self.news.notify_one();
                    RETRY_AFTER
                }
            };
            if shutdown.run_until_cancelled(self.parts.clock.sleep(pause)).await.is_none() {
                break;
            }
        }
        // What was measured is known to this process only.
        if let Err(error) = self.sample().await {
            tracing::warn!(%error, "the statistics of the last minute are lost");
        }
    }

    /// Notes what changed while nobody counted. The first time, counting begins now.
    pub(super) async fn catch_up(&self) -> Result<(), AdminError> {
        let Inner { parts, .. } = &*self.0;
        let visible = parts.store.visible();
        let cursor = match parts.store.get(&CURSOR, &THE_CURSOR)? {
            Some(cursor) => cursor,
            None => {
                let mut batch = Batch::new();
                batch.put(&CURSOR, &THE_CURSOR, &visible);
                parts.store.commit(batch).await?;
                visible
            }
        };
        self.backfill(cursor).await?;
        let rooms = parts.rooms.rooms_changed_after(cursor)?;
        let accounts = self.changed_accounts()?;
        let mut arrivals = self.arrivals.lock();
        arrivals.rooms.extend(rooms);
        arrivals.seen.extend(accounts);
        arrivals.upto = arrivals.upto.max(visible);
        drop(arrivals);
        self.news.notify_one();
        Ok(())
    }

    /// Accounts that were made, closed or opened and not counted. Reads every account.
    fn changed_accounts(&self) -> Result<Vec<UserNid>, AdminError> {
        let mut changed = Vec::new();
        visit_accounts(&self.parts.users, &mut |account| {
            let known = self.parts.store.get(&KNOWN, &account.user)?.unwrap_or_default();
            let has_changed = !known.has_account || known.is_open == account.is_deactivated;
            if has_changed && self.is_somebody(&account.user_id) {
                changed.push(account.user);
            }
            Ok(())
        })?;
        Ok(changed)
    }

    /// Counts what has arrived. On an error it stays to be counted.
    pub(super) async fn count_arrived(&self) -> Result<(), AdminError> {
        let mut writing = self.writing.lock().await;
        let (rooms, seen, upto) = {
            let mut arrivals = self.arrivals.lock();
            (std::mem::take(&mut arrivals.rooms), std::mem::take(&mut arrivals.seen), arrivals.upto)
        };
        let counted = self.write_counts(&mut writing.types, &rooms, &seen, upto).await;
        if counted.is_err() {
            let mut arrivals = self.arrivals.lock();
            arrivals.rooms.extend(rooms);
            arrivals.seen.extend(seen);
        }
        counted
    }
}
