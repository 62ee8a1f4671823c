//! Lazy loading: which member events a device has been sent already.
//!
//! An entry counts only once the client has shown by its next token that the answer arrived, so a repeated request is
//! answered in full. Forgetting entries costs bytes, nothing else.

use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use rooms::{RoomNid, RoomSeq, UserNid};
use storage::StreamPos;

use crate::feed::NumberMap;

const ROOMS: usize = 10_000;
/// After so many in one room, they are forgotten.
const MEMBERS: usize = 128;

/// (who is told, which room) → member → their event, and the position of the answer that brought it.
type Sent = Arc<Mutex<NumberMap<UserNid, (RoomSeq, StreamPos)>>>;

pub(crate) struct SentMembers(Cache<(u64, RoomNid), Sent>);

impl SentMembers {
    pub fn new() -> SentMembers {
        SentMembers(Cache::new(ROOMS))
    }

    /// Whether a client that stands at `since` has the member event.
    pub fn has(&self, to: u64, room: RoomNid, member: UserNid, event: RoomSeq, since: StreamPos) -> bool {
        let Some(sent) = self.0.get(&(to, room)) else { return false };
        sent.lock().get(&member).is_some_and(|(sent, in_answer)| *sent == event && *in_answer <= since)
    }

    /// Notes what the answer that ends at `until` brings. `afresh`: it brings the room from the start.
    pub fn record(&self, to: u64, room: RoomNid, members: &[(UserNid, RoomSeq)], until: StreamPos, afresh: bool) {
        if members.is_empty() && !afresh {
            return;
        }
        let key = (to, room);
        let sent = self.0.get(&key).unwrap_or_else(|| {
            let sent = Sent::default();
            self.0.insert(key, sent.clone());
            sent
        });
        let mut sent = sent.lock();
        if afresh || sent.len() > MEMBERS {
            sent.clear();
        }
        sent.extend(members.iter().map(|(member, event)| (*member, (*event, until))));
    }
}
