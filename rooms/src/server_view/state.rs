//! The state of a room at an event, with the events that authorise it.

use spec::ids::EventId;

use super::auth_chain::AuthWalk;
use super::{ServerView, event_id};
use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq, SnapshotId};
use crate::rooms::Rooms;

/// How many heroes a room has (Client-Server API §Calculating the display name for a room).
const MAX_HEROES: usize = 5;

/// A room's state and its auth chain, to be read piece by piece: first all of the state, then the
/// chain. A room of any size takes a few bytes an event and the events of one piece.
pub struct JoinState {
    rooms: Rooms,
    room: RoomNid,
    state: std::vec::IntoIter<RoomSeq>,
    walk: AuthWalk,
}

impl Rooms {
    /// The state of a snapshot and its auth chain, for the answer to a join (Server-Server API `PUT
    /// /send_join/{roomId}/{eventId}`). Reads synchronously, an event at a time.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn events_for_join(&self, room: RoomNid, snapshot: SnapshotId) -> Result<JoinState, RoomError> {
        let state = self.state_seqs(room, snapshot)?.into_iter();
        Ok(JoinState { rooms: self.clone(), room, state, walk: AuthWalk::new(self, room) })
    }

    /// As [`Rooms::events_for_join`], for a server that takes a state without members: of these only the heroes of a room
    /// that has neither name nor alias are in it. The auth chain is also that of the join, and holds nothing of the state
    /// again (Server-Server API `PUT /send_join`, `omit_members`). Costs no more in a room with many members.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn events_for_partial_join(&self, join: &Event) -> Result<JoinState, RoomError> {
        let (room, snapshot) = (join.room(), join.state_before());
        let mut state = self.plain_state_seqs(room, snapshot)?;
        let is_named = self.state_seq(room, snapshot, "m.room.name", "")?.is_some()
            || self.state_seq(room, snapshot, "m.room.canonical_alias", "")?.is_some();
        if !is_named {
            state.extend(self.heroes_for(join)?);
        }
        let mut walk = AuthWalk::new(self, room);
        state.iter().for_each(|seq| walk.leave_out(*seq));
        walk.cite(join)?;
        Ok(JoinState { rooms: self.clone(), room, state: state.into_iter(), walk })
    }

    /// The member events, in the state before a join, of some who were joined then.
    fn heroes_for(&self, join: &Event) -> Result<Vec<RoomSeq>, RoomError> {
        let mut heroes = Vec::with_capacity(MAX_HEROES);
        // Whoever joined after this one, or has gone since, is not among them: a few more are looked at.
        for user in self.joined_members(join.room())?.iter().take(MAX_HEROES * 4) {
            let user = self.user_id(*user)?;
            if heroes.len() == MAX_HEROES || join.state_key() == Some(user.as_str()) {
                continue;
            }
            heroes.extend(self.state_seq(join.room(), join.state_before(), "m.room.member", user.as_str())?);
        }
        Ok(heroes)
    }
}

impl JoinState {
    /// How many events of the state are still to come.
    #[must_use]
    pub fn state_left(&self) -> usize {
        self.state.len()
    }

    /// Leaves events of the state out of the auth chain. To be called before anything is read.
    pub fn omit_state_from_auth_chain(&mut self) {
        self.state.as_slice().iter().for_each(|seq| self.walk.leave_out(*seq));
    }

    /// The next at most `limit` events of the state; none once all are read.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn next_state(&mut self, limit: usize) -> Result<Vec<Event>, RoomError> {
        let mut events = Vec::with_capacity(limit.min(self.state.len()));
        for seq in self.state.by_ref().take(limit) {
            let event = self.rooms.event_at(self.room, seq)?;
            self.walk.cite(&event)?;
            events.push(event);
        }
        Ok(events)
    }

    /// The next at most `limit` events of the auth chain; none once all are read. Whatever of the
    /// state was not read yet is read for what it cites, and skipped.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn next_auth_chain(&mut self, limit: usize) -> Result<Vec<Event>, RoomError> {
        for seq in self.state.by_ref() {
            self.walk.cite(&self.rooms.event_at(self.room, seq)?)?;
        }
        let mut events = Vec::new();
        while events.len() < limit
            && let Some(event) = self.walk.advance()?
        {
            events.push(event);
        }
        Ok(events)
    }
}

impl ServerView {
    /// The ids of the state before an event and of its auth chain (Server-Server API `GET
    /// /state_ids/{roomId}`).
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] unless the event is of the timeline, accepted or soft-failed; or if
    /// the server is not in the room and may not see it. [`RoomError::StateIncomplete`] if the state before the event is
    /// provisional, as it may be in a partial room.
    pub fn state_ids_before(&self, id: &EventId) -> Result<(Vec<EventId>, Vec<EventId>), RoomError> {
        let mut events = self.state_for_join(id)?;
        let mut state = Vec::with_capacity(events.state_left());
        for event in events.read_state() {
            state.push(event_id(&event?)?);
        }
        let mut chain = Vec::new();
        while let Some(event) = events.walk.advance()? {
            chain.push(event_id(&event)?);
        }
        Ok((state, chain))
    }

    /// The state before an event and its auth chain (Server-Server API `GET /state/{roomId}`). All of
    /// it at once: for large rooms there is [`ServerView::state_for_join`].
    ///
    /// # Errors
    /// As [`ServerView::state_ids_before`].
    pub fn state_before(&self, id: &EventId) -> Result<(Vec<Event>, Vec<Event>), RoomError> {
        let mut events = self.state_for_join(id)?;
        let state = events.next_state(usize::MAX)?;
        Ok((state, events.next_auth_chain(usize::MAX)?))
    }

    /// The state before an event and its auth chain, to be read piece by piece.
    ///
    /// # Errors
    /// As [`ServerView::state_ids_before`].
    pub fn state_for_join(&self, id: &EventId) -> Result<JoinState, RoomError> {
        let event = self.find_in_timeline(id)?;
        if !self.rooms.is_state_known(&event)? {
            return Err(RoomError::StateIncomplete);
        }
        self.rooms.events_for_join(self.room, event.state_before())
    }
}

impl JoinState {
    fn read_state(&mut self) -> impl Iterator<Item = Result<Event, RoomError>> + '_ {
        let JoinState { rooms, room, state, walk } = self;
        state.by_ref().map(|seq| {
            let event = rooms.event_at(*room, seq)?;
            walk.cite(&event)?;
            Ok(event)
        })
    }
}
