//! The newest events of several rooms together, by the time that their senders gave them.

use std::collections::{BinaryHeap, HashMap};

use spec::ids::EventId;
use storage::Read;

use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::EVENTS_BY_TIME;
use crate::rooms::Rooms;

/// How many events of a room are looked up at first, and then at a time.
const FIRST_CHUNK: usize = 4;
const CHUNK: usize = 64;

/// Where an event stands: by time, then in an order without meaning.
type Place = (i64, RoomNid, RoomSeq);

/// The timeline events of several rooms, newest first; history from before this server came is left out. Their caller
/// has to know what their viewer may see. Costs a look into each room at first, and then what is taken.
pub struct RecentEvents<'a> {
    rooms: &'a Rooms,
    /// The next event of each room that has one.
    next: BinaryHeap<Place>,
    /// What was looked up of a room and comes after its next one, oldest first.
    ahead: HashMap<RoomNid, Vec<Place>>,
}

impl Rooms {
    /// The newest events of these rooms, or those older than the event `before`.
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] if `before` is no event of the rooms.
    pub fn recent_events(&self, rooms: &[RoomNid], before: Option<&EventId>) -> Result<RecentEvents<'_>, RoomError> {
        let before = match before {
            Some(id) => {
                let place = self.find_event(id.as_str())?.filter(|place| rooms.contains(&place.room));
                let place = place.ok_or(RoomError::EventNotFound)?;
                let event = self.event_at(place.room, place.seq)?;
                (event.origin_server_ts(), place.room, place.seq)
            }
            None => (i64::MAX, RoomNid(u64::MAX), RoomSeq(i64::MAX)),
        };
        let mut recent = RecentEvents { rooms: self, next: BinaryHeap::new(), ahead: HashMap::new() };
        for room in rooms {
            recent.look_up(*room, before, FIRST_CHUNK)?;
        }
        Ok(recent)
    }
}

impl RecentEvents<'_> {
    /// Notes the newest events of the room before a place.
    fn look_up(&mut self, room: RoomNid, before: Place, limit: usize) -> Result<(), RoomError> {
        let (time, first_room, seq) = before;
        // Events of the same time are ordered by room.
        let end = match room.cmp(&first_room) {
            std::cmp::Ordering::Less => (room, time.saturating_add(1), RoomSeq::MIN),
            std::cmp::Ordering::Equal => (room, time, seq),
            std::cmp::Ordering::Greater => (room, time, RoomSeq::MIN),
        };
        let mut found = Vec::new();
        for key in self.rooms.store.scan(&EVENTS_BY_TIME, &room).until(&end).reverse().keys() {
            let (room, time, seq) = key?;
            if seq >= RoomSeq::FIRST && seq < RoomSeq::FIRST_OUTLIER {
                found.push((time, room, seq));
            }
            if found.len() >= limit {
                break;
            }
        }
        found.reverse();
        if let Some(newest) = found.pop() {
            self.next.push(newest);
            self.ahead.insert(room, found);
        }
        Ok(())
    }

    fn take_next(&mut self) -> Result<Option<Event>, RoomError> {
        let Some(place) = self.next.pop() else { return Ok(None) };
        let (_, room, seq) = place;
        match self.ahead.get_mut(&room).and_then(Vec::pop) {
            Some(following) => self.next.push(following),
            None => self.look_up(room, place, CHUNK)?,
        }
        self.rooms.event_at(room, seq).map(Some)
    }
}

impl Iterator for RecentEvents<'_> {
    type Item = Result<Event, RoomError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take_next().transpose()
    }
}
