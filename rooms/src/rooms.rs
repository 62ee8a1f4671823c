//! The handle of this crate.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use runtime::{Clock, Random, Tasks};
use spec::ids::{EventId, ServerName};
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Corrupt, Read, Store, StreamPos};

use crate::delayed::{DelayedEventsConfig, Delays};
use crate::error::RoomError;
use crate::event::Event;
use crate::gate::Gate;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::{DELETING, EVENT_IDS, EventPlace, HEADS, TIMELINE};
use crate::memory::Memory;
use crate::meters::Meters;
use crate::overview::Overviews;
use crate::policy::{Asking, PolicyServers};
use crate::purge::Purges;
use crate::retention::RetentionConfig;
use crate::typing::Typing;
use crate::writer::Queues;

/// Settings of this crate.
#[derive(Clone, Debug)]
pub struct RoomsConfig {
    /// The version of new rooms whose creator does not choose one.
    pub default_room_version: RoomVersion,
    /// How many rooms (and users' room lists) are kept in memory.
    pub cached_rooms: usize,
    /// Delayed events.
    pub delayed_events: DelayedEventsConfig,
    /// How long messages are kept.
    pub retention: RetentionConfig,
}

impl Default for RoomsConfig {
    fn default() -> Self {
        RoomsConfig {
            default_room_version: RoomVersion::V12,
            cached_rooms: 4096,
            delayed_events: DelayedEventsConfig::default(),
            retention: RetentionConfig::default(),
        }
    }
}

/// What [`Rooms`] is built from.
pub struct RoomsParts {
    /// The store, opened with this crate's keyspaces.
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// Randomness, for the ids of rooms before version 12.
    pub random: Random,
    /// Where writers run.
    pub tasks: Tasks,
    /// This server's name.
    pub server_name: ServerName,
    /// The key that signs this server's events.
    pub signing_key: Arc<SigningKey>,
    /// Settings.
    pub config: RoomsConfig,
    /// The way to policy servers; without it, rooms that use one take no event of ours.
    pub policy_servers: Option<Arc<dyn PolicyServers>>,
}

/// All rooms of this server. A cheap handle.
#[derive(Clone)]
pub struct Rooms(Arc<Inner>);

/// Only `rooms` itself looks inside.
pub struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) tasks: Tasks,
    pub(crate) server_name: ServerName,
    pub(crate) signing_key: Arc<SigningKey>,
    pub(crate) config: RoomsConfig,
    pub(crate) memory: Arc<Memory>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) queues: Queues,
    pub(crate) typing: Typing,
    pub(crate) policy_servers: Option<Arc<dyn PolicyServers>>,
    pub(crate) asking: Asking,
    pub(crate) delays: Delays,
    pub(crate) gate: OnceLock<Arc<dyn Gate>>,
    pub(crate) overviews: Overviews,
    pub(crate) purges: Purges,
    /// Told whenever a partial room has become a full one.
    pub(crate) full_state: tokio::sync::Notify,
}

impl std::ops::Deref for Rooms {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Rooms {
    /// Opens the rooms of a store. One handle a store: it observes the store's commits.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn new(parts: RoomsParts) -> Result<Rooms, RoomError> {
        let RoomsParts { store, clock, random, tasks, server_name, signing_key, config, policy_servers } = parts;
        let memory = Arc::new(Memory::new(
            config.cached_rooms,
            Rooms::first_free_numbers(&store)?,
            store.scan(&DELETING, &()).keys().collect::<Result<_, _>>()?,
        ));
        let meters = Arc::new(Meters::new());
        let (observed, noted) = (memory.clone(), meters.clone());
        store.on_commit(Arc::new(move |commits| observed.observe(commits, &noted)));
        let typing = Typing::new(&clock, &random);
        let queues = Queues::default();
        Ok(Rooms(Arc::new(Inner {
            store,
            clock,
            random,
            tasks,
            server_name,
            signing_key,
            config,
            memory,
            meters,
            queues,
            typing,
            policy_servers,
            asking: Asking::default(),
            delays: Delays::default(),
            overviews: Overviews::default(),
            purges: Purges::default(),
            gate: OnceLock::new(),
            full_state: tokio::sync::Notify::new(),
        })))
    }

    /// This server's name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The store that the rooms are in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The version of rooms whose creator does not choose one.
    #[must_use]
    pub fn default_version(&self) -> RoomVersion {
        self.config.default_room_version
    }

    /// The event of a number. Its caller has to know that its viewer may see it.
    ///
    /// # Errors
    /// [`RoomError::Inconsistent`] if there is none.
    pub fn event_at(&self, room: RoomNid, seq: RoomSeq) -> Result<Event, RoomError> {
        let event = self.store.get_with(&TIMELINE, &(room, seq), |row| Event::from_stored(room, seq, row))?;
        Ok(event.ok_or(RoomError::Inconsistent("missing event"))??)
    }

    /// The event of a number, if it was not purged. Its caller has to know that its viewer may see it.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn find_event_at(&self, room: RoomNid, seq: RoomSeq) -> Result<Option<Event>, RoomError> {
        Ok(self.store.get_with(&TIMELINE, &(room, seq), |row| Event::from_stored(room, seq, row))?.transpose()?)
    }

    /// The event of a number, or else the one before it: numbers of purged events are not used again. Its caller has to
    /// know that its viewer may see it.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn event_at_or_before(&self, room: RoomNid, seq: RoomSeq) -> Result<Option<Event>, RoomError> {
        match self.find_event_at(room, seq)? {
            Some(event) => Ok(Some(event)),
            None => Ok(self.scan_events(room, RoomSeq::FIRST, seq, 1, true)?.pop()),
        }
    }

    pub(crate) fn find_event(&self, event_id: &str) -> Result<Option<EventPlace>, RoomError> {
        Ok(self.store.get(&EVENT_IDS, &event_id.to_owned())?)
    }

    /// The room of a stored event, outliers included. Whether anybody may see the event is another matter.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn room_of_event(&self, id: &EventId) -> Result<Option<RoomNid>, RoomError> {
        Ok(self.find_event(id.as_str())?.map(|place| place.room))
    }

    /// The timeline events of a room after `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn events_after(&self, room: RoomNid, after: RoomSeq, limit: usize) -> Result<Vec<Event>, RoomError> {
        self.scan_events(room, after.next(), RoomSeq::FIRST_OUTLIER, limit, false)
    }

    /// The events of a room that are numbered from `from` to before `until`, newest first, at most `limit`.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn events_back(
        &self,
        room: RoomNid,
        from: RoomSeq,
        until: RoomSeq,
        limit: usize,
    ) -> Result<Vec<Event>, RoomError> {
        self.scan_events(room, from, until, limit, true)
    }

    /// The rooms whose timeline has grown after the position: for those who follow it and were away. Looks at every
    /// room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn rooms_changed_after(&self, pos: StreamPos) -> Result<Vec<RoomNid>, RoomError> {
        let mut changed = Vec::new();
        for row in self.store.scan(&HEADS, &()).iter() {
            let (room, head) = row?;
            let last = RoomSeq(head.next_seq.0.saturating_sub(1));
            let event = self.store.get_with(&TIMELINE, &(room, last), |row| Event::from_stored(room, last, row))?;
            if event.transpose()?.is_some_and(|event| event.pos() > pos) {
                changed.push(room);
            }
        }
        Ok(changed)
    }

    /// Events numbered `from..until`, at most `limit`, in either direction.
    pub(crate) fn scan_events(
        &self,
        room: RoomNid,
        from: RoomSeq,
        until: RoomSeq,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Event>, RoomError> {
        let mut failed = None;
        let events = self.scan_rows(room, (from, until), limit, reverse, &mut |_, corrupt| {
            failed = Some(corrupt);
            ControlFlow::Break(())
        })?;
        match failed {
            Some(corrupt) => Err(corrupt.into()),
            None => Ok(events),
        }
    }

    /// As [`Rooms::scan_events`], but without the rows that cannot be read: `damaged` is shown each of these, and says
    /// whether to go on.
    pub(crate) fn scan_rows(
        &self,
        room: RoomNid,
        (from, until): (RoomSeq, RoomSeq),
        limit: usize,
        reverse: bool,
        damaged: &mut dyn FnMut(RoomSeq, Corrupt) -> ControlFlow<()>,
    ) -> Result<Vec<Event>, RoomError> {
        let mut events = Vec::new();
        let mut scan = self.store.scan(&TIMELINE, &room).from(&(room, from)).until(&(room, until));
        if reverse {
            scan = scan.reverse();
        }
        if limit == 0 {
            return Ok(events);
        }
        scan.for_each_raw(|key, row| {
            // A timeline key is the room's number and the event's, eight bytes each.
            let seq = key.get(8..16).and_then(|raw| raw.try_into().ok()).map(u64::from_be_bytes);
            let seq = RoomSeq((seq.unwrap_or_default() ^ 1 << 63) as i64);
            match Event::from_stored(room, seq, row) {
                Ok(event) => events.push(event),
                Err(corrupt) => damaged(seq, corrupt)?,
            }
            if events.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(events)
    }
}
