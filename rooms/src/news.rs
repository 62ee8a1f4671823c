//! What followers of the timeline look at: the visible events that came to a room between two positions.

use std::vec::IntoIter;

use storage::StreamPos;

use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq};
use crate::rooms::Rooms;

/// How many events of a room are read at a time.
const PAGE: usize = 200;

/// The visible events of a room that were committed after one position and up to another, oldest first. They are read a
/// page at a time.
pub struct NewEvents<'a> {
    rooms: &'a Rooms,
    room: RoomNid,
    done: StreamPos,
    upto: StreamPos,
    after: RoomSeq,
    page: IntoIter<Event>,
    is_last: bool,
}

impl Rooms {
    /// What came to the room after `done` and up to `upto`. `seen` is an event up to which the follower has looked
    /// already, if it remembers one; otherwise the place is searched for.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn new_events(
        &self,
        room: RoomNid,
        seen: Option<RoomSeq>,
        done: StreamPos,
        upto: StreamPos,
    ) -> Result<NewEvents<'_>, RoomError> {
        let after = seen.map_or_else(|| self.seq_at(room, done), Ok)?;
        Ok(NewEvents { rooms: self, room, done, upto, after, page: Vec::new().into_iter(), is_last: false })
    }
}

impl NewEvents<'_> {
    /// The last event that was looked at: what a follower remembers for the next time.
    #[must_use]
    pub fn seen(&self) -> RoomSeq {
        self.after
    }

    fn read_on(&mut self) -> Result<Option<Event>, RoomError> {
        loop {
            let Some(event) = self.page.next() else {
                if self.is_last {
                    return Ok(None);
                }
                let page = self.rooms.events_after(self.room, self.after, PAGE)?;
                self.is_last = page.len() < PAGE;
                self.page = page.into_iter();
                continue;
            };
            if event.pos() > self.upto {
                (self.is_last, self.page) = (true, Vec::new().into_iter());
                return Ok(None);
            }
            self.after = event.seq();
            if event.pos() > self.done && event.flags().is_visible() {
                return Ok(Some(event));
            }
        }
    }
}

impl Iterator for NewEvents<'_> {
    type Item = Result<Event, RoomError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_on().transpose()
    }
}
