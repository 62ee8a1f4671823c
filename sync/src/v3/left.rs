//! `rooms.invite`, `rooms.knock` and `rooms.leave`.

use rooms::{Cursor, Departure, Event, Membership, RoomNid, UserRoom};

use super::Assembly;
use super::joined::Stand;
use crate::error::SyncError;
use crate::json::{Array, Object};
use crate::stripped::write_stripped_state;
use crate::timeline::{Room, Timeline, membership_of};

impl Assembly<'_> {
    pub(super) fn write_stripped(
        &self,
        section: &mut Object<'_>,
        room: RoomNid,
        row: UserRoom,
    ) -> Result<(), SyncError> {
        let event = self.sync.rooms.event_at(room, row.seq)?;
        let room_id = self.sync.rooms.head(room)?.room_id().clone();
        let is_hidden = row.membership == Membership::Invite && self.hidden.hides(&event);
        if !self.filter.room.matches_room(room_id.as_str()) || self.ignored.contains(event.sender()) || is_hidden {
            return Ok(());
        }
        let name = if row.membership == Membership::Knock { "knock_state" } else { "invite_state" };
        let mut object = Object::open(section.key(room_id.as_str()));
        let mut state = Object::open(object.key(name));
        write_stripped_state(&self.sync.rooms, &event, self.caller.user, state.key("events"))?;
        state.close();
        object.close();
        Ok(())
    }

    pub(super) fn write_left(&self, section: &mut Object<'_>, room: RoomNid, row: UserRoom) -> Result<(), SyncError> {
        let room = Room::open(&self.sync.rooms, self.caller.user, row, room, self.until)?;
        let room_id = room.view.head().room_id().clone();
        if !self.filter.room.matches_room(room_id.as_str()) {
            return Ok(());
        }
        let event = room.rooms.event_at(room.view.room(), row.seq)?;
        let (timeline, state) = if row.was_joined() && !row.forgotten {
            self.read_left(&room, &event)?
        } else {
            // They were never in, or have nothing to do with it any more: all they may know is that they are not in it.
            let prev_batch = Cursor::after(&event).before();
            let snapshot = event.state_after();
            (Timeline { events: vec![event], limited: false, prev_batch, snapshot }, Vec::new())
        };
        let mut object = Object::open(section.key(room_id.as_str()));
        self.write_timeline_and_state(&mut object, &room, &timeline, &state)?;
        object.close();
        Ok(())
    }

    /// A room of which there is nothing any more.
    pub(super) fn write_departure(&self, section: &mut Object<'_>, departure: &Departure) {
        if !self.filter.room.matches_room(departure.room_id.as_str()) {
            return;
        }
        let mut object = Object::open(section.key(departure.room_id.as_str()));
        let mut timeline = Object::open(object.key("timeline"));
        let mut events = Array::open(timeline.key("events"));
        events.raw(departure.event.get());
        events.close();
        timeline.bool("limited", false);
        timeline.close();
        object.close();
    }

    fn read_left(&self, room: &Room<'_>, last: &Event) -> Result<(Timeline, Vec<Event>), SyncError> {
        let since = match self.since {
            Some(since) if self.was_joined_at(last, since)? => Some(since),
            _ => None,
        };
        let mut timeline = self.read_timeline(room, since)?;
        let state = self.read_state(room, &timeline, Stand { since, state_since: since, resynced: false }, None)?;
        // Banned after leaving: the ban comes after the end of what they may see, but it is about them.
        if room.row.left_at.is_some_and(|left_at| last.seq() > left_at) {
            timeline.events.push(last.clone());
        }
        Ok((timeline, state))
    }

    /// Whether the member whose last member event this is was joined, or gone after having been so, at a position: the
    /// client then has the room's state up to there.
    fn was_joined_at(&self, last: &Event, since: storage::StreamPos) -> Result<bool, SyncError> {
        let mut event = last.clone();
        while event.pos() > since {
            let Some(replaced) = event.replaces() else { return Ok(false) };
            event = self.sync.rooms.event_at(event.room(), replaced)?;
        }
        Ok(matches!(membership_of(&event), Some(Membership::Join | Membership::Leave | Membership::Ban)))
    }
}
