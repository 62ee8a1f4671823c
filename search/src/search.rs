//! The handle of this crate.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rooms::Rooms;
use runtime::{Clock, Metrics, Random, Tasks};
use serde::{Deserialize, Serialize};
use storage::{Batch, Keyspace, KeyspaceInfo, Profile, Read, Store, StreamPos, stored};
use tokio::sync::watch;
use users::Users;

use crate::config::SearchConfig;
use crate::error::SearchError;
use crate::follow::{Arrivals, Follower, Status};
use crate::index::{Index, Progress, SharedIndex};
use crate::indexer::{BuildStatus, Indexer};

/// Which index belongs to this store: one that was left from another is not used.
const INDEX: Keyspace<(), IndexRow> = Keyspace::new("search_index", Profile::Points);

/// Every keyspace of this crate.
pub const KEYSPACES: &[KeyspaceInfo] = &[INDEX.info()];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IndexRow {
    identity: u64,
}
stored!(IndexRow, 1);

/// What [`Search`] is built from.
pub struct SearchParts {
    /// The store, opened with this crate's [`KEYSPACES`].
    pub store: Store,
    /// The rooms whose events are searched.
    pub rooms: Rooms,
    /// The users who ignore others.
    pub users: Users,
    /// Where the index is; a folder of its own, which may be deleted while the server does not run.
    pub folder: PathBuf,
    /// Time.
    pub clock: Clock,
    /// Randomness, to tell indexes apart.
    pub random: Random,
    /// Where it works.
    pub tasks: Tasks,
    /// Where it is counted.
    pub metrics: Metrics,
    /// Settings.
    pub config: SearchConfig,
}

/// The search in messages. A cheap handle; one a store.
#[derive(Clone)]
pub struct Search(Arc<Inner>);

/// Only the search looks inside.
pub struct Inner {
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) tasks: Tasks,
    pub(crate) index: SharedIndex,
    arrivals: Arc<Arrivals>,
    status: Arc<watch::Sender<Status>>,
    wanted: Arc<AtomicU64>,
}

impl std::ops::Deref for Search {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Search {
    /// Opens the index, or begins a new one if there is none that fits the store, and follows the store from then on.
    /// Blocks for the disk. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`SearchError::Folder`] and [`SearchError::Index`] if no index can be made; storage errors.
    pub fn open(parts: SearchParts) -> Result<Search, SearchError> {
        let SearchParts { store, rooms, users, folder, clock, random, tasks, metrics, config } = parts;
        let arrivals = Arc::<Arrivals>::default();
        let observer = arrivals.clone();
        store.on_visible(Arc::new(move |group| observer.observe(group)));
        let memory = config.writer_bytes();
        let known = store.get(&INDEX, &())?;
        let opened = Index::open(&folder).filter(|(_, progress)| fits(&store, known.as_ref(), progress));
        let (index, progress) = match opened {
            Some(opened) => opened,
            None => {
                let progress = Progress::start(random.u64(), store.visible());
                let index = Index::create(&folder, &progress, memory)?;
                let mut batch = Batch::new();
                batch.put(&INDEX, &(), &IndexRow { identity: progress.identity });
                store.commit_blocking(batch)?;
                tracing::info!("a new search index is built");
                (index, progress)
            }
        };
        let building = progress.building.map(|_| BuildStatus { rooms_left: 0, events: index.len() });
        let status = Arc::new(watch::Sender::new(Status { done: progress.done, building, rebuilds: 0 }));
        if building.is_none() {
            let upto = store.visible();
            arrivals.add(rooms.rooms_grown_after(progress.done)?, upto);
        }
        let (index, wanted) = (Arc::new(index), Arc::new(AtomicU64::new(0)));
        let indexer = Indexer::new(rooms.clone(), index.clone(), progress, memory, tasks.shutdown_token());
        let follower = Follower {
            store: store.clone(),
            rooms: rooms.clone(),
            clock,
            indexer: Arc::new(Mutex::new(indexer)),
            arrivals: arrivals.clone(),
            status: status.clone(),
            wanted: wanted.clone(),
            commit_interval: config.commit_interval.duration(),
        };
        count(&metrics, &store, &index, &status);
        tasks.spawn("search index", follower.run(tasks.shutdown_token()));
        Ok(Search(Arc::new(Inner { rooms, users, tasks, index, arrivals, status, wanted })))
    }

    /// Waits until what was committed by now is found. For tests and for commands. Cancel-safe.
    ///
    /// # Errors
    /// [`SearchError::Stopping`] if the server stops before.
    pub async fn catch_up(&self) -> Result<(), SearchError> {
        let upto = self.arrivals.wake();
        self.wait_for(|status| status.building.is_none() && status.done >= upto).await
    }

    /// Builds the index from nothing, and tells `report` now and then how far that is; returns how many events it then
    /// holds. Meanwhile only a part is found. Dropping the future does not stop it.
    ///
    /// # Errors
    /// [`SearchError::Stopping`] if the server stops before; it then goes on at the next start.
    pub async fn rebuild(&self, report: &(dyn Fn(BuildStatus) + Send + Sync)) -> Result<u64, SearchError> {
        let wanted = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        self.arrivals.news.notify_one();
        let mut told = None;
        self.wait_for(|status| {
            if status.rebuilds < wanted {
                return false;
            }
            if let Some(building) = status.building.filter(|building| told != Some(*building)) {
                told = Some(building);
                report(building);
            }
            status.building.is_none()
        })
        .await?;
        Ok(self.index.len())
    }

    async fn wait_for(&self, holds: impl FnMut(&Status) -> bool) -> Result<(), SearchError> {
        let mut status = self.status.subscribe();
        tokio::select! {
            waited = status.wait_for(holds) => waited.map(drop).map_err(|_| SearchError::Stopping),
            () = self.tasks.shutdown_signal() => Err(SearchError::Stopping),
        }
    }
}

/// Whether an index is the one of this store, and knows nothing that the store does not: the store may be an older one.
fn fits(store: &Store, known: Option<&IndexRow>, progress: &Progress) -> bool {
    let reached = progress.building.map_or(progress.done, |building| building.until);
    known.is_some_and(|row| row.identity == progress.identity) && reached <= store.visible()
}

fn count(metrics: &Metrics, store: &Store, index: &SharedIndex, status: &Arc<watch::Sender<Status>>) {
    let index = index.clone();
    metrics.observe_gauge("conduit_search_events", "Events that can be found.", &[], move || index.len() as f64);
    let (store, status) = (store.clone(), status.clone());
    let behind = move || {
        let StreamPos(done) = status.borrow().done;
        store.visible().0.saturating_sub(done) as f64
    };
    metrics.observe_gauge("conduit_search_behind", "Commits that the search index has not looked at.", &[], behind);
}
