//! Paging through a room's timeline.

use std::fmt;
use std::str::FromStr;

use spec::ids::EventId;
use storage::{Read, StreamPos};

use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::EVENTS_BY_TIME;
use crate::rooms::Rooms;
use crate::view::RoomView;

/// How many events one page looks at before it answers with what it found.
const MAX_SCANNED: usize = 2000;
const CHUNK: usize = 128;

/// Which way time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To older events.
    Backward,
    /// To newer events.
    Forward,
}

/// A place between two events of a room: after all events up to and including this number.
/// As text it is opaque to clients, and versioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub RoomSeq);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c1_{}", self.0.0)
    }
}

impl FromStr for Cursor {
    type Err = RoomError;

    fn from_str(text: &str) -> Result<Self, RoomError> {
        let seq = text.strip_prefix("c1_").and_then(|seq| seq.parse().ok());
        let cursor = seq.map(|seq| Cursor(RoomSeq(seq)));
        // One text a place: no leading zeros or signs.
        cursor.filter(|cursor| cursor.to_string() == text).ok_or(RoomError::Invalid("malformed pagination token"))
    }
}

/// Some events in the order asked for.
#[derive(Debug)]
pub struct Page {
    /// What the viewer may see and the filter lets through.
    pub events: Vec<Event>,
    /// Where the next page begins; `None` if there is nothing beyond.
    pub end: Option<Cursor>,
}

impl RoomView {
    /// The place after the newest event.
    #[must_use]
    pub fn newest(&self) -> Cursor {
        Cursor(self.ends_at().unwrap_or(self.head().last_seq()))
    }

    /// The place before the oldest event.
    #[must_use]
    pub fn oldest(&self) -> Cursor {
        Cursor(RoomSeq(0))
    }

    /// The place after everything that had come by a position.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn cursor_at(&self, pos: StreamPos) -> Result<Cursor, RoomError> {
        self.rooms.seq_at(self.room(), pos).map(Cursor)
    }

    /// A page of at most `limit` events from a place, up to another. Events that the viewer may not
    /// see, or that `wanted` refuses, are left out; a page may so come short, even empty, and still have an end.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn page(
        &self,
        from: Cursor,
        to: Option<Cursor>,
        direction: Direction,
        limit: usize,
        wanted: &dyn Fn(&Event) -> bool,
    ) -> Result<Page, RoomError> {
        let mut lens = self.lens();
        let mut events = Vec::new();
        let (mut at, mut scanned) = (from.0, 0);
        let last = self.newest().0;
        loop {
            let backward = direction == Direction::Backward;
            let (low, high) = match (direction, to) {
                (Direction::Backward, to) => {
                    (to.map_or(RoomSeq::MIN, |to| to.0.next()), RoomSeq(at.0.min(last.0)).next())
                }
                (Direction::Forward, to) => (at.next(), to.map_or(last, |to| to.0.min(last)).next()),
            };
            if low >= high {
                return Ok(Page { events, end: None });
            }
            let wish = (limit - events.len()).clamp(1, CHUNK);
            let chunk = self.rooms.scan_events(self.room(), low, high, wish, backward)?;
            if chunk.is_empty() {
                return Ok(Page { events, end: None });
            }
            scanned += chunk.len();
            for event in chunk {
                at = if backward { RoomSeq(event.seq().0 - 1) } else { event.seq() };
                if wanted(&event) && lens.can_see(&event)? {
                    events.push(event);
                }
            }
            if events.len() >= limit || scanned >= MAX_SCANNED {
                return Ok(Page { events, end: Some(Cursor(at)) });
            }
        }
    }

    /// The event closest in time to `timestamp`, not before it (forward) or not after it (backward)
    /// (Client-Server API `GET /rooms/{roomId}/timestamp_to_event`).
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] if the viewer may see none.
    pub fn event_near(&self, timestamp: i64, direction: Direction) -> Result<Event, RoomError> {
        let (rooms, room) = (&self.rooms, self.room());
        let scan = rooms.store.scan(&EVENTS_BY_TIME, &room);
        let scan = match direction {
            Direction::Forward => scan.from(&(room, timestamp, RoomSeq::MIN)),
            Direction::Backward => scan.until(&(room, timestamp.saturating_add(1), RoomSeq::MIN)).reverse(),
        };
        let mut lens = self.lens();
        for row in scan.keys().take(MAX_SCANNED) {
            let event = rooms.event_at(room, row?.2)?;
            if lens.can_see(&event)? {
                return Ok(event);
            }
        }
        Err(RoomError::EventNotFound)
    }

    /// Whether the viewer may see the event.
    #[must_use]
    pub fn can_see(&self, id: &EventId) -> bool {
        self.event(id).is_ok()
    }
}

impl Rooms {
    /// The number of the last event that had come by a position.
    pub(crate) fn seq_at(&self, room: RoomNid, pos: StreamPos) -> Result<RoomSeq, RoomError> {
        let mut high = self.head(room)?.last_seq();
        loop {
            let chunk = self.scan_events(room, RoomSeq::MIN, high.next(), CHUNK, true)?;
            let Some(oldest) = chunk.last() else { return Ok(RoomSeq(0)) };
            if let Some(event) = chunk.iter().find(|event| event.pos() <= pos) {
                return Ok(event.seq());
            }
            high = RoomSeq(oldest.seq().0 - 1);
        }
    }
}
