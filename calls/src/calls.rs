//! The handle of this crate.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rooms::Rooms;
use runtime::{Clock, Tasks};
use storage::Store;
use users::Users;

use crate::advertise::CallAddresses;
use crate::config::CallsConfig;
use crate::delegate::Leaves;
use crate::error::CallError;
use crate::events::CallEvents;
use crate::history::CALL_LEGS;
use crate::ports::{MediaServer, Recorder, RemoteCalls, TurnServer};
use crate::recording::Recordings;
use crate::rings::{CALL_RINGS, GrownRooms};
use crate::table::Table;

/// What [`Calls`] is built from.
pub struct CallsParts {
    /// The store, opened with [`crate::KEYSPACES`].
    pub store: Store,
    /// The rooms that calls are in.
    pub rooms: Rooms,
    /// The accounts.
    pub users: Users,
    /// Time.
    pub clock: Clock,
    /// Where work runs.
    pub tasks: Tasks,
    /// Settings.
    pub config: CallsConfig,
    /// Where calls are reached; `None` if that is not known: then none are offered.
    pub addresses: Option<CallAddresses>,
    /// The media server, if there is one.
    pub media: Option<Arc<dyn MediaServer>>,
    /// The TURN server, if there is one.
    pub turn: Option<Arc<dyn TurnServer>>,
    /// What records calls, if anything.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// Other homeservers.
    pub remote: Arc<dyn RemoteCalls>,
    /// What the media server tells.
    pub events: CallEvents,
}

/// Calls. A cheap handle; one a store.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

/// Only this crate looks inside.
pub struct Inner {
    pub(crate) store: Store,
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) config: CallsConfig,
    pub(crate) turn: Option<Arc<dyn TurnServer>>,
    pub(crate) recorder: Option<Arc<dyn Recorder>>,
    pub(crate) recordings: Recordings,
    pub(crate) remote: Arc<dyn RemoteCalls>,
    pub(crate) events: CallEvents,
    pub(crate) table: Arc<Table>,
    pub(crate) leaves: Leaves,
    /// Calls that users of this server were let into lately, with the monotonic time until when others may come before
    /// them: as if they were open.
    pub(crate) opened: Mutex<HashMap<String, std::time::Duration>>,
    /// Rooms to be looked at for calls that ring.
    pub(crate) grown: Arc<GrownRooms>,
    media: Option<(Arc<dyn MediaServer>, CallAddresses)>,
}

/// [`Calls`] for what calls themselves hold, such as the media server: does not keep them alive.
#[derive(Clone, Default)]
pub struct WeakCalls(Weak<Inner>);

impl WeakCalls {
    pub(crate) fn upgrade(&self) -> Option<Calls> {
        self.0.upgrade().map(Calls)
    }

    /// [`Calls::may_join`]; nobody may when calls have ended.
    #[must_use]
    pub fn may_join(&self, room: &str, identity: &str) -> bool {
        self.upgrade().is_some_and(|calls| calls.may_join(room, identity))
    }
}

impl Deref for Calls {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Calls {
    /// A handle that does not keep calls alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakCalls {
        WeakCalls(Arc::downgrade(&self.0))
    }

    /// Calls on a store. Nothing runs before [`Calls::start`].
    #[must_use]
    pub fn new(parts: CallsParts) -> Calls {
        let CallsParts { store, rooms, users, clock, tasks, config, addresses, media, turn, recorder, remote, events } =
            parts;
        let media = media.zip(addresses).filter(|_| config.enabled);
        Calls(Arc::new(Inner {
            store,
            rooms,
            users,
            clock,
            tasks,
            config,
            turn,
            recorder,
            recordings: Recordings::default(),
            remote,
            events,
            table: Arc::default(),
            leaves: Leaves::default(),
            opened: Mutex::default(),
            grown: Arc::default(),
            media,
        }))
    }

    /// Takes up the leave events that were delegated before the last end, and follows the media server and the commits
    /// until shutdown. To be called once.
    pub fn start(&self) {
        if self.media.is_some() || self.turn.is_some() {
            let (grown, begin) = (self.grown.clone(), self.store.visible());
            self.store.on_visible(Arc::new(move |group| grown.observe(group)));
            let calls = self.clone();
            self.tasks.spawn_essential("calls that ring", async move { calls.follow_rings(begin).await });
        }
        if self.recorder.is_some() {
            let calls = self.clone();
            self.tasks.spawn_essential("recordings", async move { calls.follow_recordings().await });
        }
        if self.media.is_none() {
            return;
        }
        let (table, events) = (self.table.clone(), self.events.clone());
        self.store.on_visible(Arc::new(move |group| {
            let concerned = table.concerned(group);
            if !concerned.is_empty() {
                events.look_at(concerned);
            }
        }));
        let calls = self.clone();
        self.tasks.spawn_essential("calls", async move { calls.follow().await });
        let calls = self.clone();
        self.tasks.spawn_essential("delegated leaves", async move {
            match calls.load_leaves() {
                Ok(()) => calls.watch_leaves().await,
                Err(error) => tracing::error!(%error, "the delegated leave events cannot be read"),
            }
        });
    }

    /// The media server and where it is.
    ///
    /// # Errors
    /// [`CallError::Off`] if there is none.
    pub(crate) fn media(&self) -> Result<(&dyn MediaServer, &CallAddresses), CallError> {
        self.media.as_ref().map(|(media, addresses)| (&**media, addresses)).ok_or(CallError::Off)
    }

    /// Takes out what has expired and bounds the history. Cancel-safe: the rest is taken out next time.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn sweep(&self) -> Result<(), CallError> {
        self.renew_grants().await?;
        self.forget_grants().await?;
        self.forget_old(&CALL_LEGS).await?;
        self.forget_old(&CALL_RINGS).await
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}
