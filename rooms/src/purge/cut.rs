//! Where a purge cuts.

use spec::ids::EventId;

use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq};
use crate::rooms::Rooms;
use crate::timeline::Cursor;

/// How many neighbours are asked what time it is: a sender may claim any.
const WITNESSES: usize = 9;
/// How many events after the place are looked at for one that is no older than the time.
const MAX_LOOKED_AT: usize = 256;

impl Rooms {
    /// The place before an event of the room's timeline.
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] if the timeline has no such event.
    pub fn cut_before_event(&self, room: RoomNid, id: &EventId) -> Result<Cursor, RoomError> {
        let event = self.find_in_room(room, id.as_str())?.filter(|event| event.flags().is_visible());
        Ok(Cursor::after(&event.ok_or(RoomError::EventNotFound)?).before())
    }

    /// The place before the first event that is not older than a time, in milliseconds since the Unix epoch; before the
    /// newest event where all are older, and `None` where none is. Senders say what time it is, so it is the time of most
    /// events around a place that counts.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn cut_before_time(&self, room: RoomNid, time_ms: i64) -> Result<Option<Cursor>, RoomError> {
        let Some(first) = self.scan_events(room, RoomSeq::MIN, RoomSeq::FIRST_OUTLIER, 1, false)?.pop() else {
            return Ok(None);
        };
        // Numbers are given in the order of arrival, so that times grow with them, by and large.
        let (mut low, mut high) = (first.seq(), self.head(room)?.last_seq());
        while low < high {
            let middle = RoomSeq(low.0 + (high.0 - low.0) / 2);
            if self.time_at(room, middle)?.is_some_and(|at| at < time_ms) {
                low = middle.next();
            } else {
                high = middle;
            }
        }
        let newest = self.scan_events(room, RoomSeq::MIN, RoomSeq::FIRST_OUTLIER, MAX_LOOKED_AT, true)?;
        let newest = newest.into_iter().find(|event| event.flags().is_visible());
        let next = self.scan_events(room, low, RoomSeq::FIRST_OUTLIER, MAX_LOOKED_AT, false)?;
        let is_first = |event: &Event| event.flags().is_visible() && event.origin_server_ts() >= time_ms;
        let cut = next.into_iter().find(is_first).or(newest).map(|event| Cursor::after(&event).before());
        // Nothing in the order of the timeline lies before it: nothing is old.
        match cut {
            Some(cut) if self.has_visible_before(room, cut)? => Ok(Some(cut)),
            _ => Ok(None),
        }
    }

    /// The time at a place: that of most of the events from there on.
    fn time_at(&self, room: RoomNid, seq: RoomSeq) -> Result<Option<i64>, RoomError> {
        let witnesses = self.scan_events(room, seq, RoomSeq::FIRST_OUTLIER, WITNESSES, false)?;
        let mut times: Vec<i64> = witnesses.iter().map(Event::origin_server_ts).collect();
        times.sort_unstable();
        Ok(times.get(times.len() / 2).copied())
    }

    fn has_visible_before(&self, room: RoomNid, cut: Cursor) -> Result<bool, RoomError> {
        use storage::Read;
        let scan = self.store.scan(&crate::keyspaces::ORDER, &room).through(&(room, cut.depth, cut.seq));
        Ok(!scan.is_empty()?)
    }
}
