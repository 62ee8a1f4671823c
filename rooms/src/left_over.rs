//! What is left of a stay that ended while the room was partial: events whose states lack members, and whose verdicts
//! were never looked at again.

use spec::ids::EventId;
use storage::Read;

use crate::append::Append;
use crate::error::RoomError;
use crate::event::EventFlags;
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::PARTIAL_EVENTS;
use crate::rooms::Rooms;

/// The most events that are acquitted in one commit.
const MAX_PART: usize = 64;

impl Rooms {
    /// Which of these events do not tell the state after them: they are no part of the room here, or of a stay that ended
    /// before its states were known.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn events_without_states(&self, room: RoomNid, ids: &[EventId]) -> Result<Vec<EventId>, RoomError> {
        let head = self.head(room)?;
        let mut without = Vec::new();
        for id in ids {
            let place = self.find_event(id.as_str())?.filter(|place| place.room == room);
            match place.map(|place| place.seq).filter(|seq| *seq < RoomSeq::FIRST_OUTLIER) {
                Some(seq) if !self.is_left_over(&head, seq)? => {}
                _ => without.push(id.clone()),
            }
        }
        Ok(without)
    }

    /// Whether an event is of a stay that ended before its states were known: those that are stored lack members for
    /// ever, and nothing can be judged by them.
    pub(crate) fn is_left_over(&self, head: &Head, seq: RoomSeq) -> Result<bool, RoomError> {
        let is_of_now = head.partial.as_ref().is_some_and(|partial| seq >= partial.join);
        Ok(!is_of_now && self.store.contains(&PARTIAL_EVENTS, &(head.room, seq))?)
    }

    /// To be called before a room is entered anew: events that were rejected in a stay that is over, by states that lacked
    /// members, are rejected no more if their auth events allow them. They stay hidden, but a join may cite them, as it
    /// does an invitation that overtook a kick. Cancel-safe; can be repeated.
    ///
    /// # Errors
    /// [`RoomError::Busy`], storage errors.
    pub async fn acquit_left_over(&self, room: RoomNid) -> Result<(), RoomError> {
        let mut rejected = Vec::new();
        for key in self.store.scan(&PARTIAL_EVENTS, &room).keys() {
            let (_, seq) = key?;
            if self.event_at(room, seq)?.flags().has(EventFlags::REJECTED) {
                rejected.push(seq);
            }
        }
        for few in rejected.chunks(MAX_PART) {
            let few = few.to_vec();
            self.submit_job(room, move |append| append.acquit(&few)).await?;
        }
        Ok(())
    }
}

impl Append<'_> {
    fn acquit(&mut self, rejected: &[RoomSeq]) -> Result<(), RoomError> {
        let room = self.head.room;
        for seq in rejected {
            // Whoever has come in meanwhile judges by more than this.
            if self.rooms.is_resident(room)? || !self.rooms.store.contains(&PARTIAL_EVENTS, &(room, *seq))? {
                continue;
            }
            let event = self.stored(*seq)?;
            let (auth_events, missing) = self.cited_auth_events(&event.pdu)?;
            let is_allowed = missing.is_empty() && self.judge_by_auth_events(&event.pdu, &auth_events)?.is_none();
            if is_allowed && event.flags.has(EventFlags::REJECTED) {
                self.move_backward_extremities(&event.pdu)?;
                self.change_row(*seq, |row| {
                    row.flags = row.flags.without(EventFlags::REJECTED).with(EventFlags::SOFT_FAILED);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}
