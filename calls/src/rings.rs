//! Calls that ring: who was called, and whether they answered, declined, or missed it. Kept for administration; callees
//! themselves are told by the event that rings, which stays in the room and counts as unread (docs/calls.md).
//!
//! Rings are found in the timelines of rooms: `m.rtc.notification` (MSC4075) and `m.rtc.decline` (MSC4310), and calls
//! between two (Client-Server API §Voice over IP). What is encrypted is not seen.

mod book;
mod follow;
mod reading;

use std::collections::BTreeSet;

use parking_lot::Mutex;
use rooms::{RoomNid, TOPIC_ROOM, UserNid};
use serde::{Deserialize, Serialize};
use spec::ids::{RoomId, UserId};
use storage::{Committed, Keyspace, Profile, Read, StreamPos};
use tokio::sync::Notify;

use crate::calls::Calls;
use crate::error::CallError;
use book::{Book, Ring};

/// (End of the ringing in milliseconds, position of its commit) → what came of it.
pub(crate) const CALL_RINGS: Keyspace<(u64, StreamPos), RingRow> = Keyspace::new("call_rings", Profile::Log);

/// What a call was for somebody it rang for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingOutcome {
    /// They joined while it rang.
    Answered,
    /// They refused.
    Declined,
    /// Neither: the time was over, or the caller gave up.
    Missed,
}

/// See [`PastRing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RingRow {
    pub room: RoomNid,
    pub caller: UserNid,
    pub event_id: String,
    pub rang_ms: u64,
    pub callees: Vec<(UserNid, RingOutcome)>,
}
storage::stored!(RingRow, 1);

/// A call that rang. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRing {
    /// The Matrix room.
    pub room: RoomId,
    /// Who called.
    pub caller: UserId,
    /// The event that rang.
    pub event_id: String,
    /// Since when.
    pub rang_ms: u64,
    /// Until when.
    pub ended_ms: u64,
    /// The users of this server that it rang for, and what it was for them.
    pub callees: Vec<(UserId, RingOutcome)>,
}

/// Rooms that were written to and not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct GrownRooms {
    rooms: Mutex<BTreeSet<RoomNid>>,
    news: Notify,
}

impl GrownRooms {
    /// Called with each group of commits.
    pub fn observe(&self, group: &[Committed]) {
        let topics = group.iter().flat_map(|committed| &committed.topics);
        let mut grown = topics.filter(|topic| topic.kind() == TOPIC_ROOM).map(|topic| RoomNid(topic.id())).peekable();
        if grown.peek().is_some() {
            self.rooms.lock().extend(grown);
            self.news.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<RoomNid> {
        std::mem::take(&mut *self.rooms.lock())
    }
}

impl Calls {
    /// Calls that rang and do so no more, the last first, at most `limit`; of one room or for one user if they are given,
    /// and only those that ended before `before_ms`.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn rings(
        &self,
        room: Option<RoomNid>,
        callee: Option<UserNid>,
        before_ms: u64,
        limit: usize,
    ) -> Result<Vec<PastRing>, CallError> {
        let mut rings = Vec::new();
        for row in self.store.scan(&CALL_RINGS, &()).until_prefix(&before_ms).reverse().iter() {
            if rings.len() >= limit {
                break;
            }
            let ((ended_ms, _), row) = row?;
            let is_theirs = |callee: UserNid| row.callees.iter().any(|(user, _)| *user == callee);
            if room.is_some_and(|room| room != row.room) || callee.is_some_and(|callee| !is_theirs(callee)) {
                continue;
            }
            let Some(room_id) = self.room_of(row.room)? else { continue };
            let callees = row.callees.into_iter();
            let callees = callees.map(|(user, outcome)| Ok((self.rooms.user_id(user)?, outcome)));
            rings.push(PastRing {
                room: room_id,
                caller: self.rooms.user_id(row.caller)?,
                event_id: row.event_id,
                rang_ms: row.rang_ms,
                ended_ms,
                callees: callees.collect::<Result<_, CallError>>()?,
            });
        }
        Ok(rings)
    }
}
