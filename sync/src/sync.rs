//! The handle of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rooms::{RoomNid, Rooms, UserRoom};
use runtime::{Clock, Tasks};
use storage::{Store, StreamPos};
use users::{Session, Users};

use crate::config::SyncConfig;
use crate::error::SyncError;
use crate::feed::Feed;
use crate::members::SentMembers;
use crate::sliding::connection::Connections;
use crate::sliding::facts::RoomFacts;
use crate::state::PlainStates;
use crate::to_device::DeviceFacts;
use crate::waiters::{Registration, Waiters};
use crate::wake;

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
}

impl Sync {
    /// Opens sync over domains that are already open: it observes the store after they do. Must be
    /// called inside an executor.
    #[must_use]
    pub fn new(parts: SyncParts) -> Sync {
        let SyncParts { store, rooms, users, clock, tasks, config } = parts;
        let feed = Feed::follow(&store, config.remembered_changes);
        let waiters = Arc::<Waiters>::default();
        wake::start(&store, &rooms, &users, &tasks, &waiters);
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
        }))
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
            let rows = self.rooms.user_rooms(caller.user)?;
            let until = self.store.visible();
            if registration.shows(&rows) {
                return Ok((rows, until));
            }
            if rows.values().all(|row| row.pos <= until) {
                registration.index(&rows);
                // What was committed before the rooms were indexed woke nobody: look up to here.
                return Ok((rows, self.store.visible()));
            }
            // A commit is between its write and its publication.
            tokio::task::yield_now().await;
        }
    }

    /// Looks for news by `look` until there are some, the time is over, or the server shuts down.
    /// Cancel-safe if `look` changes nothing before it finds news.
    pub async fn look_until(
        &self,
        caller: &Session,
        wait: Duration,
        mut look: impl FnMut(&Rows, StreamPos, bool) -> Result<(Vec<u8>, Found), SyncError>,
    ) -> Result<Vec<u8>, SyncError> {
        let deadline = self.clock.monotonic() + self.config.wait(wait);
        let registration = self.waiters.register(caller.user, caller.device);
        let mut last = wait.is_zero();
        loop {
            let (rows, until) = self.stand(caller, &registration).await?;
            let (answer, found) = look(&rows, until, last)?;
            if last || matches!(found, Found::News) {
                return Ok(answer);
            }
            drop((rows, answer));
            let left = deadline.saturating_sub(self.clock.monotonic());
            tokio::select! {
                () = registration.woken() => {}
                () = self.clock.sleep(left) => last = true,
                () = self.tasks.shutdown_signal() => last = true,
            }
        }
    }
}
