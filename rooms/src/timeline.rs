//! Paging through a room's timeline.

use std::fmt;
use std::str::FromStr;

use spec::ids::EventId;
use storage::{Read, StreamPos};

use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::{EVENTS_BY_TIME, ORDER};
use crate::rooms::Rooms;
use crate::view::RoomView;

/// How many events one page looks at before it answers with what it found.
const MAX_SCANNED: usize = 2000;

/// Which way time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To older events.
    Backward,
    /// To newer events.
    Forward,
}

/// A place between two events of a room, in topological order: after all events of a lesser depth, and of this depth
/// those numbered up to and including this one. As text it is opaque to clients, and versioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The depth.
    pub depth: i64,
    /// The number, among events of that depth.
    pub seq: RoomSeq,
}

impl Cursor {
    /// Before everything.
    pub const START: Cursor = Cursor { depth: -1, seq: RoomSeq(0) };

    /// The place after an event.
    #[must_use]
    pub fn after(event: &Event) -> Cursor {
        Cursor { depth: event.depth(), seq: event.seq() }
    }

    /// The place before the event that this one is after.
    #[must_use]
    pub fn before(self) -> Cursor {
        Cursor { seq: RoomSeq(self.seq.0.saturating_sub(1)), ..self }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c2_{}_{}", self.depth, self.seq.0)
    }
}

impl FromStr for Cursor {
    type Err = RoomError;

    fn from_str(text: &str) -> Result<Self, RoomError> {
        let parts = text.strip_prefix("c2_").and_then(|parts| parts.split_once('_'));
        let cursor =
            parts.and_then(|(depth, seq)| Some(Cursor { depth: depth.parse().ok()?, seq: RoomSeq(seq.parse().ok()?) }));
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
    /// The place after the newest event that the viewer may see by membership.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn newest(&self) -> Result<Cursor, RoomError> {
        match self.ends_at() {
            Some(end) => Ok(Cursor::after(&self.rooms.event_at(self.room(), end)?)),
            None => Ok(Cursor { depth: self.head().row.depth, seq: self.head().last_seq() }),
        }
    }

    /// The place after everything that had come by a position.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn cursor_at(&self, pos: StreamPos) -> Result<Cursor, RoomError> {
        match self.rooms.seq_at(self.room(), pos)? {
            seq if seq < RoomSeq::FIRST => Ok(Cursor::START),
            seq => Ok(Cursor::after(&self.rooms.event_at(self.room(), seq)?)),
        }
    }

    /// A page of at most `limit` events from a place, up to another, in topological order. Events that the viewer may
    /// not see, or that `wanted` refuses, are left out; a page may so come short, even empty, and still have an end.
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
        let (room, last) = (self.room(), self.newest()?);
        let key = |cursor: Cursor| (room, cursor.depth, cursor.seq.next());
        let backward = direction == Direction::Backward;
        let (low, high) = match direction {
            Direction::Backward => (to.unwrap_or(Cursor::START), from.min(last)),
            Direction::Forward => (from, to.map_or(last, |to| to.min(last))),
        };
        let (mut lens, mut events, mut scanned) = (self.lens(), Vec::new(), 0);
        if low >= high {
            return Ok(Page { events, end: None });
        }
        let scan = self.rooms.store.scan(&ORDER, &room).from(&key(low)).until(&key(high));
        let scan = if backward { scan.reverse() } else { scan };
        for found in scan.keys() {
            let (_, depth, seq) = found?;
            let event = self.rooms.event_at(room, seq)?;
            if wanted(&event) && lens.can_see(&event)? {
                events.push(event);
            }
            scanned += 1;
            if events.len() >= limit || scanned >= MAX_SCANNED {
                let at = Cursor { depth, seq };
                return Ok(Page { events, end: Some(if backward { at.before() } else { at }) });
            }
        }
        Ok(Page { events, end: None })
    }

    /// The first event after a place, whoever may see it.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn first_after(&self, place: Cursor) -> Result<Option<Event>, RoomError> {
        let from = (self.room(), place.depth, place.seq.next());
        let first = self.rooms.store.scan(&ORDER, &self.room()).from(&from).keys().next().transpose()?;
        first.map(|(room, _, seq)| self.rooms.event_at(room, seq)).transpose()
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
    /// The number of the last event of the timeline that had come by a position; 0 if none had.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn seq_at(&self, room: RoomNid, pos: StreamPos) -> Result<RoomSeq, RoomError> {
        // Numbers are given in the order of commits.
        let (mut low, mut high) = (RoomSeq(0), self.head(room)?.last_seq());
        while low < high {
            let middle = RoomSeq(low.0 + (high.0 - low.0 + 1) / 2);
            match self.scan_events(room, middle, high.next(), 1, false)?.first() {
                Some(event) if event.pos() <= pos => low = event.seq(),
                _ => high = RoomSeq(middle.0 - 1),
            }
        }
        Ok(low)
    }
}
