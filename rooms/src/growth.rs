//! What came into rooms after a position, for those who follow all of it and may have been away. An event that cannot be
//! read keeps none of the others from them: it is left out, and logged.

use std::ops::ControlFlow;

use storage::{Read, StreamPos};

use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::{DELETING, HEADS};
use crate::rooms::Rooms;

/// How many events are read at first, and then at a time.
const FIRST_CHUNK: usize = 8;
const CHUNK: usize = 128;

impl Rooms {
    /// The rooms into which events came after the position, history included. Looks at every room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn rooms_grown_after(&self, pos: StreamPos) -> Result<Vec<RoomNid>, RoomError> {
        let mut grown = Vec::new();
        for row in self.store.scan(&HEADS, &()).iter() {
            let (room, head) = row?;
            let newest = self.scan_readable(room, RoomSeq::FIRST, head.next_seq, 1, true)?;
            // History is numbered downwards: what came last has the lowest number.
            let latest_history = self.scan_readable(room, RoomSeq::MIN, RoomSeq::FIRST, 1, false)?;
            if newest.iter().chain(&latest_history).any(|event| event.pos() > pos) {
                grown.push(room);
            }
        }
        Ok(grown)
    }

    /// How many rooms this server knows, without those that are being deleted. Reads a key for each.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn number_of_rooms(&self) -> Result<u64, RoomError> {
        let rooms = self.store.scan(&HEADS, &()).keys().try_fold(0_u64, |count, key| key.map(|_| count + 1))?;
        let mut going = 0;
        for row in self.store.scan(&DELETING, &()).iter() {
            going += u64::from(!row?.1.is_done);
        }
        Ok(rooms.saturating_sub(going))
    }

    /// Shows `visit` every event that came into the room after the position, history included and outliers left out,
    /// in no particular order. Costs what came.
    ///
    /// # Errors
    /// Storage errors, and those of `visit`, which end it.
    pub fn visit_events_after<E: From<RoomError>>(
        &self,
        room: RoomNid,
        pos: StreamPos,
        visit: &mut dyn FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walk(room, (RoomSeq::FIRST, RoomSeq::FIRST_OUTLIER), true, pos, visit)?;
        self.walk(room, (RoomSeq::MIN, RoomSeq::FIRST), false, pos, visit)
    }

    /// From what came last to what came first.
    fn walk<E: From<RoomError>>(
        &self,
        room: RoomNid,
        (mut from, mut until): (RoomSeq, RoomSeq),
        reverse: bool,
        pos: StreamPos,
        visit: &mut dyn FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut limit = FIRST_CHUNK;
        loop {
            let events = self.scan_readable(room, from, until, limit, reverse)?;
            let is_last = events.len() < limit;
            for event in events {
                if event.pos() <= pos {
                    return Ok(());
                }
                if reverse {
                    until = event.seq();
                } else {
                    from = event.seq().next();
                }
                visit(event)?;
            }
            if is_last {
                return Ok(());
            }
            limit = CHUNK;
        }
    }

    /// The timeline events of a room after `after`, history included, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn readable_events_after(&self, room: RoomNid, after: RoomSeq, limit: usize) -> Result<Vec<Event>, RoomError> {
        self.scan_readable(room, after.next(), RoomSeq::FIRST_OUTLIER, limit, false)
    }

    fn scan_readable(
        &self,
        room: RoomNid,
        from: RoomSeq,
        until: RoomSeq,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Event>, RoomError> {
        self.scan_rows(room, (from, until), limit, reverse, &mut |seq, error| {
            tracing::error!(room = room.0, seq = seq.0, %error, "an event cannot be read and is left out");
            ControlFlow::Continue(())
        })
    }

    /// An event of the room by its id, outliers included. Its caller has to know that its viewer may see it.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn find_in_room(&self, room: RoomNid, event_id: &str) -> Result<Option<Event>, RoomError> {
        let place = self.find_event(event_id)?.filter(|place| place.room == room);
        place.map(|place| self.event_at(room, place.seq)).transpose()
    }
}
