//! The handle of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use rooms::{RoomNid, Rooms, UserNid, UserRoom};
use runtime::{Clock, Tasks};
use storage::{Store, StreamPos};
use users::{Session, Users};

use crate::config::SyncConfig;
use crate::error::SyncError;
use crate::feed::Feed;
use crate::filter::Filter;
use crate::members::SentMembers;
use crate::meters::{Form, Meters, WaitingGuard};
use crate::sliding::connection::Connections;
use crate::sliding::facts::RoomFacts;
use crate::state::PlainStates;
use crate::to_device::DeviceFacts;
use crate::waiters::{Registration, Waiters};
use crate::wake;

const CACHED_FILTERS: usize = 2000;

pub(crate) type Rows = Arc<BTreeMap<RoomNid, UserRoom>>;

/// What [`Sync`] is built from.
pub struct SyncParts {
    /// The store that all domains are in.
    pub store: Store,
    /// The rooms.
    pub rooms: Rooms,
    /// The accounts.
    pub users: Users,
    /// Time.
    pub clock: Clock,
    /// Where wake-ups run; its shutdown ends all waiting.
    pub tasks: Tasks,
    /// Settings.
    pub config: SyncConfig,
}

/// Sync, for all clients. A cheap handle.
#[derive(Clone)]
pub struct Sync(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub store: Store,
    pub rooms: Rooms,
    pub users: Users,
    pub clock: Clock,
    pub tasks: Tasks,
    pub config: SyncConfig,
    pub feed: Arc<Feed>,
    pub waiters: Arc<Waiters>,
    pub sent_members: SentMembers,
    pub plain_states: PlainStates,
    pub devices: DeviceFacts,
    pub connections: Connections,
    pub facts: RoomFacts,
    pub filters: Cache<(UserNid, u64), Arc<Filter>>,
    pub meters: Meters,
}

impl Sync {
    /// Opens sync over domains that are already open: it observes the store after they do. Must be
    /// called inside an executor.
    #[must_use]
    pub fn new(parts: SyncParts) -> Sync {
        let SyncParts { store, rooms, users, clock, tasks, config } = parts;
        let feed = Feed::follow(&store, config.remembered_changes);
        let waiters = Arc::<Waiters>::default();
        wake::start(&store, &rooms, &users, &clock, &tasks, &waiters);
        let connections = Connections::new(&clock, &config);
        Sync(Arc::new(Inner {
            store,
            rooms,
            users,
            clock,
            tasks,
            config,
            feed,
            waiters,
            sent_members: SentMembers::new(),
            plain_states: PlainStates::new(),
            devices: DeviceFacts::new(),
            connections,
            facts: RoomFacts::new(),
            filters: Cache::new(CACHED_FILTERS),
            meters: Meters::new(),
        }))
    }

    /// A filter that the user has stored; filters never change, so the ones in use are kept parsed.
    /// `None` if there is no filter of this id.
    ///
    /// # Errors
    /// [`SyncError::BadJson`] if what was stored is no filter; else storage errors.
    pub fn stored_filter(&self, user: UserNid, id: u64) -> Result<Option<Arc<Filter>>, SyncError> {
        if let Some(filter) = self.0.filters.get(&(user, id)) {
            return Ok(Some(filter));
        }
        let Some(json) = self.0.users.filter(user, id)? else { return Ok(None) };
        let filter = Filter::parse(&json).map_err(|error| SyncError::BadJson(error.to_string()))?;
        let filter = Arc::new(filter);
        self.0.filters.insert((user, id), filter.clone());
        Ok(Some(filter))
    }
}

/// How an assembled answer stands.
pub(crate) enum Found {
    /// There is something to tell.
    News,
    /// There is nothing to tell yet.
    Nothing,
}

impl Inner {
    /// The user's memberships and a position that they agree with: no membership is newer.
    async fn stand(&self, caller: &Session, registration: &Registration) -> Result<(Rows, StreamPos), SyncError> {
        loop {
            // In this order: the memberships hold everything up to the position, and at most more.
            let until = self.store.visible();
            let rows = self.rooms.user_rooms(caller.user)?;
            if registration.shows(&rows) {
                return Ok((rows, until));
            }
            if rows.values().all(|row| row.pos <= until) {
                // What was committed before the rooms are indexed wakes nobody: look again, up to here.
                registration.index(&rows);
                continue;
            }
            // A commit is between its write and its publication.
            tokio::task::yield_now().await;
        }
    }

    /// Looks for news by `look` until there are some, the time is over, or the server shuts down.
    /// Cancel-safe if `look` changes nothing before it finds news.
    pub async fn look_until(
        &self,
        form: Form,
        caller: &Session,
        wait: Duration,
        mut look: impl FnMut(&Rows, StreamPos, bool) -> Result<(Vec<u8>, Found), SyncError>,
    ) -> Result<Vec<u8>, SyncError> {
        let deadline = self.clock.monotonic() + self.config.wait(wait);
        let registration = self.waiters.register(caller.user, caller.device);
        let meters = self.meters.of(form);
        let mut last = wait.is_zero();
        let mut waited_at = None;
        loop {
            let (rows, until) = self.stand(caller, &registration).await?;
            let began = self.clock.monotonic();
            let (answer, found) = look(&rows, until, last).inspect_err(|_| meters.failed.add(1))?;
            self.count_look(form, began);
            let is_news = matches!(found, Found::News);
            if let (true, Some(from)) = (is_news, waited_at) {
                self.count_delivery(&rows, from, until);
            }
            if last || is_news {
                if is_news {
                    meters.news.add(1)
                } else {
                    meters.empty.add(1)
                }
                return Ok(answer);
            }
            waited_at = Some(until);
            let _waiting = WaitingGuard::new(&meters.waiting);
            drop((rows, answer));
            tokio::select! {
                () = registration.woken() => {}
                () = self.clock.sleep_until(deadline) => last = true,
                () = self.tasks.shutdown_signal() => last = true,
            }
        }
    }
}
