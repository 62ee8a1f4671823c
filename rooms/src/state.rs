//! Reading state: any snapshot of a room, by key, whole, or as a difference.

use std::sync::Arc;

use storage::{Read, StreamPos};

use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq, SnapshotId};
use crate::keyspaces::{STATE_LOG, STATE_NODES, STATE_SLOTS};
use crate::rooms::Rooms;
use crate::snapshot::{self, NewNodes, Node, Nodes, WithNew};

/// The stored nodes of one room.
pub(crate) struct RoomNodes<'a> {
    pub rooms: &'a Rooms,
    pub room: RoomNid,
}

impl Nodes for RoomNodes<'_> {
    type Error = RoomError;

    fn node(&self, id: u64) -> Result<Arc<Node>, RoomError> {
        let key = (self.room, id);
        if let Some(node) = self.rooms.memory.nodes.get(&key) {
            return Ok(node);
        }
        let node = self.rooms.store.get(&STATE_NODES, &key)?.ok_or(RoomError::Inconsistent("missing state node"))?;
        let node = Arc::new(node);
        self.rooms.memory.nodes.insert(key, node.clone());
        Ok(node)
    }
}

impl<'a> RoomNodes<'a> {
    /// These, and over them the nodes that a change has made.
    pub fn with(self, new: &'a NewNodes) -> WithNew<'a, RoomNodes<'a>> {
        WithNew { nodes: self, new }
    }
}

impl Rooms {
    pub(crate) fn nodes(&self, room: RoomNid) -> RoomNodes<'_> {
        RoomNodes { rooms: self, room }
    }

    /// The slot of a (type, state key) of the room.
    pub(crate) fn state_slot(&self, room: RoomNid, kind: &str, state_key: &str) -> Result<Option<u32>, RoomError> {
        Ok(self.store.get(&STATE_SLOTS, &(room, kind.to_owned(), state_key.to_owned()))?)
    }

    /// The number of the event of a snapshot with this type and state key.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn state_seq(
        &self,
        room: RoomNid,
        snapshot: SnapshotId,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<RoomSeq>, RoomError> {
        match self.state_slot(room, kind, state_key)? {
            Some(slot) => snapshot::get(&self.nodes(room), &NewNodes::default(), snapshot, slot),
            None => Ok(None),
        }
    }

    /// The event of a snapshot with this type and state key.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn state_event(
        &self,
        room: RoomNid,
        snapshot: SnapshotId,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<Event>, RoomError> {
        match self.state_seq(room, snapshot, kind, state_key)? {
            Some(seq) => self.event_at(room, seq).map(Some),
            None => Ok(None),
        }
    }

    /// The numbers of all events of a snapshot, in the order in which their keys first appeared.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn state_seqs(&self, room: RoomNid, snapshot: SnapshotId) -> Result<Vec<RoomSeq>, RoomError> {
        Ok(snapshot::full(&self.nodes(room), snapshot)?.into_iter().map(|(_, seq)| seq).collect())
    }

    /// As [`Rooms::state_seqs`], without the member events. Costs what there is of other keys, not of members.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn plain_state_seqs(&self, room: RoomNid, snapshot: SnapshotId) -> Result<Vec<RoomSeq>, RoomError> {
        let first_member = (room, "m.room.member".to_owned(), String::new());
        // The least key above all of members.
        let after_members = (room, "m.room.member\0".to_owned(), String::new());
        let before = self.store.scan(&STATE_SLOTS, &room).until(&first_member);
        let after = self.store.scan(&STATE_SLOTS, &room).from(&after_members);
        let (nodes, new) = (self.nodes(room), NewNodes::default());
        let mut seqs = Vec::new();
        for row in before.iter().chain(after.iter()) {
            let (_, slot) = row?;
            seqs.extend(snapshot::get(&nodes, &new, snapshot, slot)?);
        }
        Ok(seqs)
    }

    /// The events of `to` that are not in `from`. Costs what differs.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn state_added(&self, room: RoomNid, from: SnapshotId, to: SnapshotId) -> Result<Vec<RoomSeq>, RoomError> {
        let differences = snapshot::diff(&self.nodes(room), from, to)?;
        Ok(differences.into_iter().filter_map(|(_, _, new)| new).collect())
    }

    /// The state events of the room that came after `since` and up to `until`, the last of each key.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn state_changes(&self, room: RoomNid, since: StreamPos, until: StreamPos) -> Result<Vec<RoomSeq>, RoomError> {
        let mut last = std::collections::BTreeMap::new();
        let from = (room, StreamPos(since.0.saturating_add(1)), 0u32);
        for row in self.store.scan(&STATE_LOG, &room).from(&from).iter() {
            let ((_, pos, slot), seq) = row?;
            if pos > until {
                break;
            }
            last.insert(slot, seq);
        }
        Ok(last.into_values().collect())
    }
}
