//! The state of a room at an event, with the events that authorise it.

use spec::ids::EventId;

use super::auth_chain::AuthWalk;
use super::{ServerView, event_id};
use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq, SnapshotId};
use crate::rooms::Rooms;

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
    /// the server is not in the room and may not see it.
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
