//! How much of the database a room takes.

use storage::Read;

use crate::keyspaces::{
    EVENTS_BY_TIME, HEADS, ORDER, RECEIPT_LOG, RECEIPTS, RELATIONS, ROOM_MEMBERS, SLOT_KEYS, STATE_LOG, STATE_NODES,
    STATE_SLOTS, TIMELINE,
};
use crate::{RoomError, RoomNid, Rooms};

impl Rooms {
    /// About how many bytes of the database belong to a room alone. See [`storage::Store::approximate_bytes`] for how
    /// exact that is. Cheap: reads no events.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn approximate_bytes(&self, room: RoomNid) -> Result<u64, RoomError> {
        let store = &self.store;
        let parts = [
            store.approximate_bytes(&TIMELINE, &room)?,
            store.approximate_bytes(&STATE_NODES, &room)?,
            store.approximate_bytes(&STATE_LOG, &room)?,
            store.approximate_bytes(&STATE_SLOTS, &room)?,
            store.approximate_bytes(&SLOT_KEYS, &room)?,
            store.approximate_bytes(&ROOM_MEMBERS, &room)?,
            store.approximate_bytes(&RELATIONS, &room)?,
            store.approximate_bytes(&EVENTS_BY_TIME, &room)?,
            store.approximate_bytes(&ORDER, &room)?,
            store.approximate_bytes(&RECEIPTS, &room)?,
            store.approximate_bytes(&RECEIPT_LOG, &room)?,
        ];
        Ok(parts.into_iter().fold(0, u64::saturating_add))
    }

    /// The rooms that take most of the database, largest first, with [`Rooms::approximate_bytes`]. Asks for every room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn largest_rooms(&self, limit: usize) -> Result<Vec<(RoomNid, u64)>, RoomError> {
        let mut sizes = Vec::new();
        for room in self.store.scan(&HEADS, &()).keys() {
            let room = room?;
            sizes.push((room, self.approximate_bytes(room)?));
        }
        sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        sizes.truncate(limit);
        Ok(sizes)
    }
}
