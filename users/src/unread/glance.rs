//! Whether a room has anything unread that notifies: all that a badge of rooms asks, for each room of a user.
//!
//! Counts need a tally, and there is memory for only so many of those. A glance is a few bytes: how far a room was
//! looked at for a user, and the newest event that notified. It looks from the newest event back and stops at the first
//! one that notifies; asking again looks only at newer ones, also in rooms where nothing notifies.

use std::sync::Arc;

use quick_cache::sync::Cache;
use rooms::{EventFlags, Head, Membership, RoomNid, RoomSeq, UserNid};

use super::{Notable, ReadMarks, judge};
use crate::{UserError, Users, notices::NoticeRoom};

/// How far back the first glance at a room looks, in events.
const MAX_LOOK_BACK: i64 = 1_000;
/// Some 100 bytes each.
const CACHED_GLANCES: usize = 200_000;
const FIRST_PAGE_EVENTS: usize = 16;
const PAGE_EVENTS: usize = 256;

/// What was seen of a room.
#[derive(Clone, Debug)]
struct Glance {
    looked_to: RoomSeq,
    /// The newest event up to there that was unread and notified.
    newest: Option<Notable>,
}

/// Glances by reader and room.
pub(crate) struct Glances(Cache<(UserNid, RoomNid), Glance>);

impl Glances {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CACHED_GLANCES))
    }
}

impl Users {
    /// Whether `room` has anything unread that notifies `user`; `false` unless they are joined. What is older than the
    /// newest thousand events may be missed when the room is looked at for the first time since a start. Costs the
    /// events that arrived since it was last asked, a few microseconds each.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn has_unread(&self, user: UserNid, room: RoomNid) -> Result<bool, UserError> {
        let member = self.rooms().membership(room, user)?;
        let Some(member) = member.filter(|member| member.membership == Membership::Join) else { return Ok(false) };
        let head = self.rooms().head(room)?;
        let marks = self.read_marks_since(room, user, member.seq)?;
        let glances = &self.inner.glances.0;
        let (looked_to, known) = match glances.get(&(user, room)) {
            Some(glance) => (glance.looked_to, glance.newest),
            None => (RoomSeq(0), None),
        };
        let (last, oldest) = (head.last_seq(), head.last_seq().0.saturating_sub(MAX_LOOK_BACK));
        let floor = RoomSeq(oldest).max(marks.everywhere);
        let mut newest = self.newest_unread(user, &head, &marks, floor.max(looked_to), last.next())?;
        if let Some(known) = known.filter(|_| newest.is_none()) {
            // Once it is read or redacted, an older one may still be unread: in a thread, say.
            newest = match self.is_unread(room, &known, &marks)? {
                true => Some(known),
                false => self.newest_unread(user, &head, &marks, floor, known.seq)?,
            };
        }
        let is_unread = newest.is_some();
        glances.insert((user, room), Glance { looked_to: last, newest });
        Ok(is_unread)
    }

    fn is_unread(&self, room: RoomNid, known: &Notable, marks: &ReadMarks) -> Result<bool, UserError> {
        if marks.has_read(known.seq, known.thread.as_deref()) {
            return Ok(false);
        }
        let event = self.rooms().find_event_at(room, known.seq)?;
        Ok(event.is_some_and(|event| !event.flags().has(EventFlags::REDACTED)))
    }

    /// The newest event after `after` and before `until` that is unread and notifies.
    fn newest_unread(
        &self,
        user: UserNid,
        head: &Arc<Head>,
        marks: &ReadMarks,
        after: RoomSeq,
        mut until: RoomSeq,
    ) -> Result<Option<Notable>, UserError> {
        if after.next() >= until {
            return Ok(None);
        }
        let (reader, room) = (self.notice_reader(user)?, NoticeRoom::of_head(Arc::clone(head)));
        let mut limit = FIRST_PAGE_EVENTS;
        loop {
            let events = self.rooms().events_back(head.room(), after.next(), until, limit)?;
            for event in &events {
                let notable = judge(event, &room, &reader)?;
                if let Some(notable) = notable.filter(|it| !marks.has_read(it.seq, it.thread.as_deref())) {
                    return Ok(Some(notable));
                }
            }
            match events.last() {
                Some(oldest) if events.len() == limit => until = oldest.seq(),
                _ => return Ok(None),
            }
            limit = PAGE_EVENTS;
        }
    }
}

#[cfg(test)]
impl Glances {
    /// The number of the newest event that was found.
    pub(super) fn newest(&self, user: UserNid, room: RoomNid) -> Option<RoomSeq> {
        self.0.get(&(user, room))?.newest.map(|notable| notable.seq)
    }
}
