//! The follower: brings the index up to what is committed.
//!
//! The commit observer only notes which rooms changed and up to which position. A task gathers that for a moment and has
//! the work done on a thread that may wait for the disk. No send waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{RoomNid, Rooms, TOPIC_ROOM, TOPIC_ROOM_GONE};
use runtime::{CancellationToken, Clock, TaskFailed};
use storage::{Committed, Store, StreamPos};
use tokio::sync::{Notify, watch};

use crate::error::SearchError;
use crate::indexer::{BuildStatus, Indexer};

/// How long the follower waits after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// After so long without news the memory for adding is given back.
const IDLE_AFTER: Duration = Duration::from_secs(10);
/// After a commit that took a time, so many times as long passes before the next: a slow disk is for sending first.
const PAUSE_FACTOR: u32 = 10;
/// How often a long building is told of in the log.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What was committed and not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    arrived: Mutex<Arrived>,
    pub news: Notify,
}

#[derive(Debug, Default)]
struct Arrived {
    rooms: BTreeSet<RoomNid>,
    /// Everything that was committed up to here is in these rooms, or was looked at.
    upto: StreamPos,
}

impl Arrivals {
    /// Called with each group of commits.
    pub fn observe(&self, group: &[Committed]) {
        let mut arrived = self.arrived.lock();
        let before = arrived.rooms.len();
        for committed in group {
            arrived.upto = arrived.upto.max(committed.pos);
            let rooms = committed.topics.iter().filter(|topic| matches!(topic.kind(), TOPIC_ROOM | TOPIC_ROOM_GONE));
            arrived.rooms.extend(rooms.map(|topic| RoomNid(topic.id())));
        }
        let is_news = arrived.rooms.len() > before;
        drop(arrived);
        if is_news {
            self.news.notify_one();
        }
    }

    /// Adds rooms that changed up to a position while nobody looked.
    pub fn add(&self, rooms: impl IntoIterator<Item = RoomNid>, upto: StreamPos) {
        let mut arrived = self.arrived.lock();
        arrived.rooms.extend(rooms);
        arrived.upto = arrived.upto.max(upto);
        drop(arrived);
        self.news.notify_one();
    }

    /// Wakes the follower, and says how far it will then come at least: to every commit whose committer was told.
    pub fn wake(&self) -> StreamPos {
        let upto = self.arrived.lock().upto;
        self.news.notify_one();
        upto
    }

    fn take(&self) -> Arrived {
        let mut arrived = self.arrived.lock();
        let upto = arrived.upto;
        Arrived { rooms: std::mem::take(&mut arrived.rooms), upto }
    }
}

/// How far the index is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// What came up to here is found.
    pub done: StreamPos,
    /// While the index is being built.
    pub building: Option<BuildStatus>,
    /// How many of the rebuilds that were asked for have begun.
    pub rebuilds: u64,
}

/// The follower. One an index.
pub(crate) struct Follower {
    pub store: Store,
    pub rooms: Rooms,
    pub clock: Clock,
    pub indexer: Arc<Mutex<Indexer>>,
    pub arrivals: Arc<Arrivals>,
    pub status: Arc<watch::Sender<Status>>,
    /// How many rebuilds were asked for.
    pub wanted: Arc<AtomicU64>,
    pub commit_interval: Duration,
}

/// What became of one piece of work.
enum Turn {
    /// There was nothing to do.
    Idle,
    /// Something was done, and there may be more.
    Worked,
}

impl Follower {
    /// Follows until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut reported = self.clock.monotonic();
        while !shutdown.is_cancelled() {
            let began = self.clock.monotonic();
            let pause = match self.work().await {
                Ok(Turn::Idle) => {
                    self.wait(&shutdown).await;
                    self.commit_interval
                }
                Ok(Turn::Worked) => {
                    self.report(&mut reported);
                    self.pause_after(self.clock.monotonic().saturating_sub(began))
                }
                Err(SearchError::Stopping) => break,
                Err(error) => {
                    tracing::error!(%error, "the search index falls behind; it is tried again");
                    RETRY_AFTER
                }
            };
            if !pause.is_zero() && shutdown.run_until_cancelled(self.clock.sleep(pause)).await.is_none() {
                break;
            }
        }
        if let Err(error) = self.block(Indexer::finish).await {
            // It is only the work of looking again that is lost.
            tracing::debug!(%error, "the search index does not know how far it has come");
        }
    }

    /// While building, as long as the work took; else so long that commits are a small part of what the disk does.
    fn pause_after(&self, took: Duration) -> Duration {
        if self.commit_interval.is_zero() {
            return Duration::ZERO;
        }
        if self.status.borrow().building.is_some() { took } else { took.saturating_mul(PAUSE_FACTOR) }
    }

    /// Waits for news. Without any for a while, memory is given back.
    async fn wait(&self, shutdown: &CancellationToken) {
        let holds_writer = self.indexer.lock().holds_writer();
        tokio::select! {
            () = self.arrivals.news.notified() => return,
            () = shutdown.cancelled() => return,
            () = self.clock.sleep(IDLE_AFTER), if holds_writer => {}
        }
        if let Err(error) = self.block(Indexer::rest).await {
            tracing::warn!(%error, "the search index was not tidied up");
        }
        tokio::select! {
            () = self.arrivals.news.notified() => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Does one piece of work.
    async fn work(&self) -> Result<Turn, SearchError> {
        let wanted = self.wanted.load(Ordering::Acquire);
        if wanted > self.status.borrow().rebuilds {
            let until = self.store.visible();
            self.block(move |indexer| indexer.begin_again(until)).await?;
            let building = Some(BuildStatus { rooms_left: 0, events: 0 });
            self.status.send_modify(|status| (status.building, status.rebuilds) = (building, wanted));
            tracing::info!("the search index is built again");
            return Ok(Turn::Worked);
        }
        if self.status.borrow().building.is_some() {
            return self.build().await;
        }
        let Arrived { rooms, upto } = self.arrivals.take();
        if upto <= self.status.borrow().done {
            return Ok(Turn::Idle);
        }
        let is_idle = rooms.is_empty();
        let looked = Arc::new(rooms);
        let followed = looked.clone();
        if let Err(error) = self.block(move |indexer| indexer.follow(&followed, upto)).await {
            self.arrivals.add(looked.iter().copied(), upto);
            return Err(error);
        }
        self.status.send_modify(|status| status.done = upto);
        Ok(if is_idle { Turn::Idle } else { Turn::Worked })
    }

    async fn build(&self) -> Result<Turn, SearchError> {
        let building = self.block(Indexer::build).await?;
        if building.is_none() {
            let done = self.indexer.lock().progress().done;
            // Of what changed meanwhile, and before this start, somebody has to know.
            let upto = self.store.visible();
            self.arrivals.add(self.rooms.rooms_grown_after(done)?, upto);
            tracing::info!("the search index is complete");
            self.status.send_modify(|status| status.done = done);
        }
        self.status.send_modify(|status| status.building = building);
        Ok(Turn::Worked)
    }

    fn report(&self, reported: &mut Duration) {
        let now = self.clock.monotonic();
        if let Some(BuildStatus { rooms_left, events }) = self.status.borrow().building
            && now.saturating_sub(*reported) >= REPORT_EVERY
        {
            *reported = now;
            tracing::info!(rooms_left, events, "the search index is being built");
        }
    }

    /// Runs work that waits for the disk. What failed in the middle is forgotten.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Indexer) -> Result<T, SearchError> + Send + 'static,
    ) -> Result<T, SearchError> {
        let indexer = self.indexer.clone();
        let result = tokio::task::spawn_blocking(move || {
            let mut indexer = indexer.lock();
            let result = work(&mut indexer);
            if result.is_err() {
                indexer.roll_back();
            }
            result
        });
        match result.await {
            Ok(result) => result,
            Err(error) => {
                if !error.is_panic() {
                    return Err(SearchError::Stopping);
                }
                self.indexer.lock().roll_back();
                Err(SearchError::Task(TaskFailed("search index")))
            }
        }
    }
}
