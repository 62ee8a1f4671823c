//! Giving an event its place: its number, its rows, and the states around it.

use std::collections::HashSet;
use std::sync::Arc;

use spec::ids::EventId;
use spec::pdu::Pdu;
use storage::{Read, StreamPos};

use crate::append::Append;
use crate::error::RoomError;
use crate::event::{EventFlags, EventRow, bounded_depth};
use crate::ids::{RoomSeq, SnapshotId, UserNid};
use crate::keyspaces::{
    BACKWARD, EVENT_IDS, EVENTS_BY_TIME, EventPlace, ORDER, PARTIAL_EVENTS, PROMOTED, SLOT_KEYS, STATE_LOG,
    STATE_SLOTS, SlotKey,
};
use crate::snapshot;

/// The most forward extremities of a room: each is a few lines of its head, which is one row.
const MAX_EXTREMITIES: usize = 100;
/// How many of the newest are kept when there are more, whatever their state.
const KEPT_EXTREMITIES: usize = 50;

/// Which part of the room an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The end of the timeline, as everything that happens now.
    Timeline,
    /// History before it, with the number given.
    History(RoomSeq),
    /// Neither: known because others cite it.
    Outlier,
}

/// A stored event as the rules and state resolution need it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub seq: RoomSeq,
    pub pdu: Arc<Pdu>,
    pub flags: EventFlags,
    pub arrival: u64,
    pub after: SnapshotId,
    pub redacted_by: Option<RoomSeq>,
}

/// What the writer knows of an event when it gives it a place.
pub(crate) struct Placing {
    pub part: Part,
    pub sender: UserNid,
    pub before: SnapshotId,
    pub flags: EventFlags,
    pub transaction: Option<(Box<str>, Box<str>)>,
    /// The outlier that the event was until now.
    pub promoted: Option<Stored>,
}

/// Where an event was put.
pub(crate) struct Placed {
    pub seq: RoomSeq,
    /// The state after it.
    pub after: SnapshotId,
    /// The slot of the state that it sets.
    pub slot: Option<u32>,
}

impl Append<'_> {
    /// Stores an event of ours at the end of the room: the head moves onto it.
    pub(crate) fn add_event(
        &mut self,
        pdu: &Arc<Pdu>,
        sender: UserNid,
        transaction: Option<(Box<str>, Box<str>)>,
    ) -> Result<RoomSeq, RoomError> {
        let before = match self.head.row.extremities.len() {
            // Judged again anyhow: see `provisional_state`.
            _ if self.is_replaying() => self.head.row.state,
            cited if cited > pdu.prev_events.len() && cited > 0 => self.state_before(pdu)?,
            _ => self.head.row.state,
        };
        let flags = EventFlags::default();
        let placed = self
            .place_event(pdu, Placing { part: Part::Timeline, sender, before, flags, transaction, promoted: None })?;
        if before == self.head.row.state {
            self.advance_current_state(pdu, &placed)?;
            self.move_extremities(pdu, placed.seq);
        } else {
            self.move_extremities(pdu, placed.seq);
            self.resolve_current_state()?;
        }
        Ok(placed.seq)
    }

    /// The current state is now the one after an event before which it was.
    pub(crate) fn advance_current_state(&mut self, pdu: &Arc<Pdu>, placed: &Placed) -> Result<(), RoomError> {
        let Some(slot) = placed.slot else { return Ok(()) };
        self.batch.put(&STATE_LOG, &(self.head.room, StreamPos::PENDING, slot), &placed.seq);
        self.head.row.state = placed.after;
        self.head.remember_state(pdu);
        self.cancel_overtaken(pdu)
    }

    /// Makes an event a forward extremity instead of those that it follows.
    pub(crate) fn move_extremities(&mut self, pdu: &Pdu, seq: RoomSeq) {
        let row = &mut self.head.row;
        row.extremities.retain(|(id, _)| !follows(pdu, id));
        row.extremities.push((pdu.event_id.as_str().into(), seq));
        row.depth = row.depth.max(bounded_depth(pdu));
    }

    /// Makes room for another forward extremity where there are very many: whoever may send can fork the room with each
    /// event, and every fork costs time with every event. The oldest go whose state others have too, so that the state
    /// of the room stays what it is.
    ///
    /// # Errors
    /// [`RoomError::Refused`] if there are too many all the same and the event would add one. It comes again when
    /// somebody follows it.
    pub(crate) fn expect_place_at_end(&mut self, pdu: &Pdu) -> Result<(), RoomError> {
        let extremities = &self.head.row.extremities;
        if extremities.len() < MAX_EXTREMITIES || extremities.iter().any(|(id, _)| follows(pdu, id)) {
            return Ok(());
        }
        self.drop_extremities()?;
        if self.head.row.extremities.len() >= MAX_EXTREMITIES {
            return Err(RoomError::Refused("the room is forked too often"));
        }
        Ok(())
    }

    /// Drops the oldest of very many forward extremities whose state others have too.
    pub(crate) fn drop_extremities(&mut self) -> Result<(), RoomError> {
        let extremities = &self.head.row.extremities;
        if extremities.len() < MAX_EXTREMITIES {
            return Ok(());
        }
        let (mut states, mut kept) = (HashSet::new(), Vec::with_capacity(extremities.len()));
        for (id, seq) in extremities.iter().rev() {
            if states.insert(self.stored(*seq)?.after) || kept.len() < KEPT_EXTREMITIES {
                kept.push((id.clone(), *seq));
            }
        }
        kept.reverse();
        self.head.row.extremities = kept;
        Ok(())
    }

    /// The rows every event brings: itself with the states around it, its id, its time, its place in the order. An event
    /// that was rejected changes no state.
    pub(crate) fn place_event(&mut self, pdu: &Arc<Pdu>, placing: Placing) -> Result<Placed, RoomError> {
        let room = self.head.room;
        let Placing { part, sender, before, flags, transaction, promoted } = placing;
        let seq = self.next_number(part);
        let (mut after, mut replaces, mut changed) = (before, None, None);
        if let Some(state_key) = pdu.state_key.as_deref().filter(|_| !flags.has(EventFlags::REJECTED)) {
            let slot = self.intern_slot(&pdu.kind, state_key)?;
            if part != Part::Outlier {
                let nodes = self.rooms.nodes(room);
                replaces = snapshot::get(&nodes, &self.nodes, before, slot)?;
                after = snapshot::set(&nodes, &mut self.nodes, before, slot, Some(seq))?;
                changed = Some(slot);
            }
        }
        let id = pdu.event_id.as_str().to_owned();
        let (arrival, mut row_flags, mut row_pdu, mut redacted_by) = match &promoted {
            Some(outlier) => (outlier.arrival, flags, pdu.clone(), None),
            None => (self.next_arrival(), flags, pdu.clone(), None),
        };
        if let Some(outlier) = promoted {
            self.batch.put(&PROMOTED, &(room, seq), &outlier.seq);
            if outlier.flags.has(EventFlags::REDACTED) {
                row_flags = row_flags.with(EventFlags::REDACTED);
                (row_pdu, redacted_by) = (outlier.pdu, outlier.redacted_by);
            }
        } else {
            self.batch.expect_absent(&EVENT_IDS, &id);
        }
        self.batch.put(&EVENT_IDS, &id, &EventPlace { room, seq });
        if part == Part::Timeline && self.head.is_partial() {
            self.batch.put(&PARTIAL_EVENTS, &(room, seq), &());
        }
        if part != Part::Outlier {
            self.batch.put(&EVENTS_BY_TIME, &(room, pdu.origin_server_ts, seq), &());
            if flags.is_visible() {
                self.batch.put(&ORDER, &(room, bounded_depth(pdu), seq), &());
            }
        }
        if part != Part::Outlier && !flags.has(EventFlags::REJECTED) {
            row_flags = self.note_sticky(&row_pdu, sender, seq, row_flags)?;
        }
        let row = EventRow {
            flags: row_flags,
            sender,
            before,
            after,
            arrival,
            replaces,
            redacted_by,
            transaction,
            pdu: row_pdu,
        };
        self.events.insert(seq, row);
        self.ids.insert(pdu.event_id.as_str().into(), seq);
        if &*pdu.kind == "m.room.create" && part == Part::Timeline {
            self.head.room_id = pdu.room_id.clone();
            self.head.row.room_id = pdu.room_id.as_str().into();
        }
        Ok(Placed { seq, after, slot: changed })
    }

    fn next_number(&mut self, part: Part) -> RoomSeq {
        let row = &mut self.head.row;
        let next = match part {
            Part::History(seq) => return seq,
            Part::Timeline => &mut row.next_seq,
            Part::Outlier => &mut row.next_outlier,
        };
        std::mem::replace(next, next.next())
    }

    fn next_arrival(&mut self) -> u64 {
        self.head.row.arrivals += 1;
        self.head.row.arrivals
    }

    pub(crate) fn intern_slot(&mut self, kind: &str, state_key: &str) -> Result<u32, RoomError> {
        let room = self.head.room;
        let key: (Box<str>, Box<str>) = (kind.into(), state_key.into());
        if let Some(&slot) = self.slots.get(&key) {
            return Ok(slot);
        }
        let slot = match self.rooms.state_slot(room, kind, state_key)? {
            Some(slot) => slot,
            None => {
                let slot = self.head.row.next_slot;
                self.head.row.next_slot =
                    slot.checked_add(1).ok_or(RoomError::Refused("the room has too much state"))?;
                let row = SlotKey { kind: kind.into(), state_key: state_key.into() };
                self.batch.put(&STATE_SLOTS, &(room, kind.to_owned(), state_key.to_owned()), &slot);
                self.batch.put(&SLOT_KEYS, &(room, slot), &row);
                slot
            }
        };
        self.slots.insert(key, slot);
        Ok(slot)
    }

    /// The event of a number, stored or of this batch.
    pub(crate) fn stored(&self, seq: RoomSeq) -> Result<Stored, RoomError> {
        let of_row = |row: &EventRow| Stored {
            seq,
            pdu: row.pdu.clone(),
            flags: row.flags,
            arrival: row.arrival,
            after: row.after,
            redacted_by: row.redacted_by,
        };
        if let Some(row) = self.events.get(&seq) {
            return Ok(of_row(row));
        }
        if let Some((_, row)) = self.rewritten.get(&seq) {
            return Ok(of_row(row));
        }
        if let Some(stored) = self.looked_at.borrow().get(&seq) {
            return Ok(stored.clone());
        }
        let event = self.rooms.event_at(self.head.room, seq)?;
        let stored = Stored {
            seq,
            pdu: Arc::new(event.to_pdu()?),
            flags: event.flags(),
            arrival: event.arrival(),
            after: event.state_after(),
            redacted_by: event.redacted_by(),
        };
        self.looked_at.borrow_mut().insert(seq, stored.clone());
        Ok(stored)
    }

    /// An event of this room by its id, outliers included.
    pub(crate) fn stored_by_id(&self, id: &EventId) -> Result<Option<Stored>, RoomError> {
        match self.place_of(id.as_str())? {
            Some(seq) => self.stored(seq).map(Some),
            None => Ok(None),
        }
    }

    /// The number of an event that is part of the timeline or of history, so that the states around it are known.
    pub(crate) fn anchored(&self, id: &EventId) -> Result<Option<RoomSeq>, RoomError> {
        Ok(self.place_of(id.as_str())?.filter(|seq| *seq < RoomSeq::FIRST_OUTLIER))
    }

    /// As [`Append::anchored`], but only if the states around it are known still: a purge takes them from what it leaves.
    /// Those of a stay that ended while the room was partial never were.
    pub(crate) fn anchored_with_states(&self, id: &EventId) -> Result<Option<RoomSeq>, RoomError> {
        let Some(seq) = self.anchored(id)? else { return Ok(None) };
        let is_displaced = self.head.purged.is_some_and(|purged| seq < purged.upto)
            && self.stored(seq)?.flags.has(EventFlags::OUTLIER);
        let is_unknown = is_displaced || self.rooms.is_left_over(&self.head, seq)?;
        Ok(Some(seq).filter(|_| !is_unknown))
    }

    /// The event is here: history does not end at it any more, whatever became of it.
    pub(crate) fn end_backward_extremity(&mut self, pdu: &Pdu) -> Result<(), RoomError> {
        let own = (self.head.room, pdu.event_id.as_str().to_owned());
        // In a partial room the event that cites it may be of this batch.
        if self.head.is_partial() || self.rooms.store.contains(&BACKWARD, &own)? {
            self.batch.delete(&BACKWARD, &own);
        }
        Ok(())
    }

    /// Keeps the backward extremities: the event is one no more, and what it follows and is not here becomes one.
    pub(crate) fn move_backward_extremities(&mut self, pdu: &Pdu) -> Result<(), RoomError> {
        let room = self.head.room;
        self.end_backward_extremity(pdu)?;
        for prev in &pdu.prev_events {
            if self.anchored(prev)?.is_none() {
                self.batch.put(&BACKWARD, &(room, prev.as_str().to_owned()), &bounded_depth(pdu));
            }
        }
        Ok(())
    }
}

fn follows(pdu: &Pdu, id: &str) -> bool {
    pdu.prev_events.iter().any(|prev| prev.as_str() == id)
}
