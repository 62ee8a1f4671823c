//! Heads: what the writer of a room needs at hand, and what readers ask of a room's present.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spec::ids::RoomId;
use spec::pdu::Pdu;
use spec::policy::{POLICY_EVENT, PolicyServer};
use spec::version::{RoomVersion, RoomVersionRules};
use storage::{Read, stored};

use crate::error::RoomError;
use crate::ids::{RoomNid, RoomSeq, SnapshotId};
use crate::keyspaces::{HEADS, PARTIAL_ROOMS, PURGED, RETENTION};
use crate::partial::PartialRow;
use crate::purge::PurgedRow;
use crate::retention::{Lifetimes, RETENTION_EVENT, wanted_by};
use crate::rooms::Rooms;

/// The types of the state events, with an empty state key, that a head keeps at hand.
pub(crate) const AT_HAND: [&str; 5] =
    ["m.room.create", "m.room.power_levels", "m.room.join_rules", POLICY_EVENT, RETENTION_EVENT];

/// The stored part of a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadRow {
    pub room_id: Box<str>,
    pub version: Box<str>,
    /// Forward extremities: event id and number.
    pub extremities: Vec<(Box<str>, RoomSeq)>,
    /// The current state.
    pub state: SnapshotId,
    pub next_seq: RoomSeq,
    pub next_outlier: RoomSeq,
    /// The number of the oldest backfilled event; 0 if none was backfilled.
    pub first_seq: RoomSeq,
    /// How many events were stored, of whatever kind.
    pub arrivals: u64,
    pub last_node: u64,
    pub next_slot: u32,
    /// The largest depth of the extremities.
    pub depth: i64,
    pub joined: u32,
    pub invited: u32,
}
stored!(HeadRow, 1);

/// A room's present: its extremities, current state and the events that authorise most others.
/// Immutable; a commit replaces it.
#[derive(Clone, Debug)]
pub struct Head {
    pub(crate) room: RoomNid,
    pub(crate) room_id: RoomId,
    pub(crate) version: RoomVersion,
    pub(crate) row: HeadRow,
    pub(crate) create: Option<Arc<Pdu>>,
    pub(crate) power_levels: Option<Arc<Pdu>>,
    pub(crate) join_rules: Option<Arc<Pdu>>,
    /// What the current state names as policy server, whether that is in the room or not.
    pub(crate) policy: Option<Arc<PolicyServer>>,
    /// Set as long as not all of the room's state is here. A row of its own, written with the head.
    pub(crate) partial: Option<Arc<PartialRow>>,
    /// Where history ends because what was before was purged. A row of its own.
    pub(crate) purged: Option<PurgedRow>,
    /// What is said of how long messages are kept; what administrators say has a row of its own.
    pub(crate) lifetimes: Lifetimes,
}

impl Head {
    /// The head of a room that has no event yet.
    pub(crate) fn empty(room: RoomNid, room_id: RoomId, version: RoomVersion) -> Head {
        let row = HeadRow {
            room_id: room_id.as_str().into(),
            version: version.as_str().into(),
            extremities: Vec::new(),
            state: SnapshotId::EMPTY,
            next_seq: RoomSeq::FIRST,
            next_outlier: RoomSeq::FIRST_OUTLIER,
            first_seq: RoomSeq(0),
            arrivals: 0,
            last_node: 0,
            next_slot: 0,
            depth: 0,
            joined: 0,
            invited: 0,
        };
        Head {
            room,
            room_id,
            version,
            row,
            create: None,
            power_levels: None,
            join_rules: None,
            policy: None,
            partial: None,
            purged: None,
            lifetimes: Lifetimes::default(),
        }
    }

    /// The room's number.
    #[must_use]
    pub fn room(&self) -> RoomNid {
        self.room
    }

    /// The room's id.
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// The room's version.
    #[must_use]
    pub fn version(&self) -> RoomVersion {
        self.version
    }

    /// The rules of its version.
    #[must_use]
    pub fn rules(&self) -> &'static RoomVersionRules {
        self.version.rules()
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> SnapshotId {
        self.row.state
    }

    /// The number of the last event of the timeline.
    #[must_use]
    pub fn last_seq(&self) -> RoomSeq {
        RoomSeq(self.row.next_seq.0 - 1)
    }

    /// Whether not all of the room's state is here yet: of its members only some are known (MSC3706).
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// The ids of the forward extremities.
    pub fn extremities(&self) -> impl Iterator<Item = &str> {
        self.row.extremities.iter().map(|(id, _)| &**id)
    }

    /// How many users are joined.
    #[must_use]
    pub fn joined_count(&self) -> u32 {
        self.row.joined
    }

    /// How many users are invited.
    #[must_use]
    pub fn invited_count(&self) -> u32 {
        self.row.invited
    }

    /// The create event.
    #[must_use]
    pub fn create(&self) -> Option<&Arc<Pdu>> {
        self.create.as_ref()
    }

    /// The current power levels event.
    #[must_use]
    pub fn power_levels(&self) -> Option<&Arc<Pdu>> {
        self.power_levels.as_ref()
    }

    /// The current join rules event.
    #[must_use]
    pub fn join_rules(&self) -> Option<&Arc<Pdu>> {
        self.join_rules.as_ref()
    }

    /// Forgets an event kept at hand whose key is no longer in the state.
    pub(crate) fn forget_state(&mut self, kind: &str, state_key: &str) {
        if state_key.is_empty() {
            match kind {
                "m.room.power_levels" => self.power_levels = None,
                "m.room.join_rules" => self.join_rules = None,
                POLICY_EVENT => self.policy = None,
                RETENTION_EVENT => self.lifetimes.wanted_ms = None,
                _ => {}
            }
        }
    }

    /// Keeps the events that authorise most others at hand, what names the policy server, and how long messages are kept.
    pub(crate) fn remember_state(&mut self, pdu: &Arc<Pdu>) {
        if pdu.state_key.as_deref() != Some("") {
            return;
        }
        match &*pdu.kind {
            "m.room.create" => self.create = Some(pdu.clone()),
            "m.room.power_levels" => self.power_levels = Some(pdu.clone()),
            "m.room.join_rules" => self.join_rules = Some(pdu.clone()),
            POLICY_EVENT => self.policy = PolicyServer::read(pdu).map(Arc::new),
            RETENTION_EVENT => self.lifetimes.wanted_ms = wanted_by(pdu),
            _ => {}
        }
    }
}

impl Rooms {
    /// The room's head, at least as new as any visible position.
    ///
    /// # Errors
    /// [`RoomError::Inconsistent`] for a room number that was never given.
    pub fn head(&self, room: RoomNid) -> Result<Arc<Head>, RoomError> {
        self.memory.heads.get_or_load(room, || self.load_head(room))
    }

    fn load_head(&self, room: RoomNid) -> Result<Arc<Head>, RoomError> {
        let row = self.store.get(&HEADS, &room)?.ok_or(RoomError::Inconsistent("room without a head"))?;
        let room_id = RoomId::parse(&row.room_id).map_err(|_| RoomError::Inconsistent("malformed room id"))?;
        let version = row.version.parse().map_err(|_| RoomError::Inconsistent("unknown room version"))?;
        let partial = self.store.get(&PARTIAL_ROOMS, &room)?.map(Arc::new);
        let purged = self.store.get(&PURGED, &room)?.map(|row| row.value);
        let lifetimes = Lifetimes { decided: self.store.get(&RETENTION, &room)?, wanted_ms: None };
        let mut head = Head { row, partial, purged, lifetimes, ..Head::empty(room, room_id, version) };
        for kind in AT_HAND {
            if let Some(event) = self.state_event(room, head.row.state, kind, "")? {
                head.remember_state(&Arc::new(event.to_pdu()?));
            }
        }
        Ok(Arc::new(head))
    }
}
