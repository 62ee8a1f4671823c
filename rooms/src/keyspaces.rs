//! The keyspaces of this crate: what is stored about rooms, and under which keys.

use serde::{Deserialize, Serialize};
use storage::{Keyspace, KeyspaceInfo, Profile, Stamped, StreamPos, stored};

use crate::block::BlockedRow;
use crate::delayed::DelayedRow;
use crate::delete::DeletingRow;
use crate::departures::DepartureRow;
use crate::early_invites::EarlyInvite;
use crate::event::EventRow;
use crate::head::HeadRow;
use crate::ids::{RoomNid, RoomSeq, UserNid};
use crate::membership::Membership;
use crate::partial::PartialRow;
use crate::purge::PurgedRow;
use crate::retention::RetentionRow;
use crate::servers::ServerStay;
use crate::snapshot::Node;
use crate::sticky::{DELAYED_STICKY, STICKY, STICKY_DUE};

/// User id → number.
pub(crate) const USER_NIDS: Keyspace<String, UserNid> = Keyspace::new("user_nids", Profile::Points);
/// Number → user id.
pub(crate) const USER_IDS: Keyspace<UserNid, String> = Keyspace::new("user_ids", Profile::Points);
/// Room id → number.
pub(crate) const ROOM_NIDS: Keyspace<String, RoomNid> = Keyspace::new("room_nids", Profile::Points);
/// Room → what the writer needs to go on.
pub(crate) const HEADS: Keyspace<RoomNid, HeadRow> = Keyspace::new("room_heads", Profile::Points);
/// The events, in order of arrival.
pub(crate) const TIMELINE: Keyspace<(RoomNid, RoomSeq), Stamped<EventRow>> = Keyspace::new("timeline", Profile::Log);
/// Event id → where it is.
pub(crate) const EVENT_IDS: Keyspace<String, EventPlace> = Keyspace::new("event_ids", Profile::Points);
/// (type, state key) → slot of the room's snapshots.
pub(crate) const STATE_SLOTS: Keyspace<(RoomNid, String, String), u32> = Keyspace::new("state_slots", Profile::Points);
/// Slot → (type, state key).
pub(crate) const SLOT_KEYS: Keyspace<(RoomNid, u32), SlotKey> = Keyspace::new("state_slot_keys", Profile::Points);
/// The nodes of the room's snapshots.
pub(crate) const STATE_NODES: Keyspace<(RoomNid, u64), Node> = Keyspace::new("state_nodes", Profile::Log);
/// Which slots changed when.
pub(crate) const STATE_LOG: Keyspace<(RoomNid, StreamPos, u32), RoomSeq> = Keyspace::new("state_log", Profile::Log);
/// A user's rooms.
pub(crate) const USER_ROOMS: Keyspace<(UserNid, RoomNid), Stamped<MembershipRow>> =
    Keyspace::new("user_rooms", Profile::Log);
/// A room's members.
pub(crate) const ROOM_MEMBERS: Keyspace<(RoomNid, UserNid), MembershipRow> =
    Keyspace::new("room_members", Profile::Log);
/// The servers that are, or were, in a room.
pub(crate) const ROOM_SERVERS: Keyspace<(RoomNid, String), ServerStay> = Keyspace::new("room_servers", Profile::Log);
/// The rooms that a server is in.
pub(crate) const SERVER_ROOMS: Keyspace<(String, RoomNid), ()> = Keyspace::new("server_rooms", Profile::Log);
/// The users of a server who have, or had, a membership of a room.
pub(crate) const SERVER_MEMBERS: Keyspace<(RoomNid, String, UserNid), ()> =
    Keyspace::new("server_members", Profile::Log);
/// What an invited or knocking user was told of a room that this server is not in: a JSON array of stripped state.
pub(crate) const STRIPPED: Keyspace<(RoomNid, UserNid), Vec<u8>> = Keyspace::new("stripped_state", Profile::Points);
/// Invitations of users who seem joined.
pub(crate) const EARLY_INVITES: Keyspace<(RoomNid, UserNid), EarlyInvite> =
    Keyspace::new("early_invites", Profile::Log);
/// (parent, child) of events that relate to others.
pub(crate) const RELATIONS: Keyspace<(RoomNid, RoomSeq, RoomSeq), RelationRow> =
    Keyspace::new("relations", Profile::Log);
/// Threads of a room: root → its latest event.
pub(crate) const THREADS: Keyspace<(RoomNid, RoomSeq), RoomSeq> = Keyspace::new("threads", Profile::Points);
/// Threads of a room by their latest event.
pub(crate) const THREADS_BY_LATEST: Keyspace<(RoomNid, RoomSeq), RoomSeq> =
    Keyspace::new("threads_by_latest", Profile::Log);
/// Events by time, for timestamp_to_event.
pub(crate) const EVENTS_BY_TIME: Keyspace<(RoomNid, i64, RoomSeq), ()> = Keyspace::new("events_by_time", Profile::Log);
/// The timeline in topological order: by depth, then by number.
pub(crate) const ORDER: Keyspace<(RoomNid, i64, RoomSeq), ()> = Keyspace::new("timeline_order", Profile::Log);
/// Events of the timeline that were outliers before → the number they have as such.
pub(crate) const PROMOTED: Keyspace<(RoomNid, RoomSeq), RoomSeq> = Keyspace::new("promoted", Profile::Points);
/// Backward extremities: previous events that are not part of the timeline → the depth of the event that cites them.
pub(crate) const BACKWARD: Keyspace<(RoomNid, String), i64> = Keyspace::new("backward_extremities", Profile::Log);
/// Redactions that came before what they redact: (room, redacted event id, redaction).
pub(crate) const EARLY_REDACTIONS: Keyspace<(RoomNid, String, RoomSeq), ()> =
    Keyspace::new("early_redactions", Profile::Log);
/// (user, device, transaction id with its scope) → the event it made.
pub(crate) const TRANSACTIONS: Keyspace<(UserNid, String, String), TransactionRow> =
    Keyspace::new("event_transactions", Profile::Points);
/// Transactions by the time they were made, to forget them.
pub(crate) const TRANSACTIONS_BY_TIME: Keyspace<(i64, UserNid, String, String), ()> =
    Keyspace::new("event_transactions_by_time", Profile::Log);
/// The latest receipts of a room: (room, user, kind, thread).
pub(crate) const RECEIPTS: Keyspace<(RoomNid, UserNid, u8, String), Stamped<ReceiptRow>> =
    Keyspace::new("receipts", Profile::Log);
/// Receipts by position; a replaced receipt's row is taken out.
pub(crate) const RECEIPT_LOG: Keyspace<(RoomNid, StreamPos, UserNid, u8, String), ()> =
    Keyspace::new("receipt_log", Profile::Log);
/// Alias → room.
pub(crate) const ALIASES: Keyspace<String, AliasRow> = Keyspace::new("aliases", Profile::Points);
/// Room → its aliases.
pub(crate) const ROOM_ALIASES: Keyspace<(RoomNid, String), ()> = Keyspace::new("room_aliases", Profile::Points);
/// The public room list.
pub(crate) const PUBLIC_ROOMS: Keyspace<RoomNid, ()> = Keyspace::new("public_rooms", Profile::Points);

/// Delayed events, by their ids.
pub(crate) const DELAYED: Keyspace<String, Stamped<DelayedRow>> = Keyspace::new("delayed_events", Profile::Points);
/// When something has to be done with a delayed event: (time, position of its row, id).
pub(crate) const DELAYED_DUE: Keyspace<(u64, StreamPos, String), ()> =
    Keyspace::new("delayed_events_due", Profile::Log);
/// A user's delayed events: (user, whether it has ended, when it is due or has ended, id).
pub(crate) const DELAYED_OF_USER: Keyspace<(UserNid, bool, u64, String), ()> =
    Keyspace::new("delayed_events_of_user", Profile::Log);
/// Scheduled state events: (room, type, state key, id).
pub(crate) const DELAYED_OF_STATE: Keyspace<(RoomNid, String, String, String), ()> =
    Keyspace::new("delayed_events_of_state", Profile::Log);

/// The room lists of third-party networks, by what the network is called.
pub(crate) const NETWORK_ROOMS: Keyspace<(String, RoomNid), ()> = Keyspace::new("network_rooms", Profile::Points);

/// The rooms that were entered before all of their state was here. A room without a row has its full state.
pub(crate) const PARTIAL_ROOMS: Keyspace<RoomNid, PartialRow> = Keyspace::new("partial_rooms", Profile::Points);
/// The servers that are said to be in a partial room.
pub(crate) const PARTIAL_SERVERS: Keyspace<(RoomNid, String), ()> = Keyspace::new("partial_servers", Profile::Log);
/// Marked events: the states around them, and what was made of them, are provisional.
pub(crate) const PARTIAL_EVENTS: Keyspace<(RoomNid, RoomSeq), ()> = Keyspace::new("partial_events", Profile::Log);
/// Servers in a room that were not known to be, and since when they are.
pub(crate) const MISSED_SERVERS: Keyspace<(RoomNid, String), StreamPos> = Keyspace::new("missed_servers", Profile::Log);
/// When a room's state became full the last time.
pub(crate) const RESYNCED_ROOMS: Keyspace<RoomNid, Stamped<()>> = Keyspace::new("resynced_rooms", Profile::Points);

/// Room ids that are blocked here.
pub(crate) const BLOCKED: Keyspace<String, BlockedRow> = Keyspace::new("blocked_rooms", Profile::Points);

/// Where the history of a room ends because what was before it was purged.
pub(crate) const PURGED: Keyspace<RoomNid, Stamped<PurgedRow>> = Keyspace::new("purged_rooms", Profile::Points);

/// What administrators decided on how long messages of a room are kept.
pub(crate) const RETENTION: Keyspace<RoomNid, RetentionRow> = Keyspace::new("room_retention", Profile::Points);

/// The rooms whose rows are being taken out.
pub(crate) const DELETING: Keyspace<RoomNid, DeletingRow> = Keyspace::new("deleting_rooms", Profile::Points);

/// (user, when their membership ended, the number it had) → what they are told of a room that was deleted.
pub(crate) const DEPARTURES: Keyspace<(UserNid, StreamPos, RoomNid), DepartureRow> =
    Keyspace::new("departures", Profile::Log);

/// Every keyspace of this crate.
pub const KEYSPACES: &[KeyspaceInfo] = &[
    USER_NIDS.info(),
    USER_IDS.info(),
    ROOM_NIDS.info(),
    HEADS.info(),
    TIMELINE.info(),
    EVENT_IDS.info(),
    STATE_SLOTS.info(),
    SLOT_KEYS.info(),
    STATE_NODES.info(),
    STATE_LOG.info(),
    USER_ROOMS.info(),
    ROOM_MEMBERS.info(),
    ROOM_SERVERS.info(),
    SERVER_ROOMS.info(),
    SERVER_MEMBERS.info(),
    STRIPPED.info(),
    EARLY_INVITES.info(),
    RELATIONS.info(),
    THREADS.info(),
    THREADS_BY_LATEST.info(),
    EVENTS_BY_TIME.info(),
    ORDER.info(),
    PROMOTED.info(),
    BACKWARD.info(),
    EARLY_REDACTIONS.info(),
    TRANSACTIONS.info(),
    TRANSACTIONS_BY_TIME.info(),
    RECEIPTS.info(),
    RECEIPT_LOG.info(),
    ALIASES.info(),
    ROOM_ALIASES.info(),
    PUBLIC_ROOMS.info(),
    NETWORK_ROOMS.info(),
    DELAYED.info(),
    DELAYED_DUE.info(),
    DELAYED_OF_USER.info(),
    DELAYED_OF_STATE.info(),
    DELAYED_STICKY.info(),
    STICKY.info(),
    STICKY_DUE.info(),
    PARTIAL_ROOMS.info(),
    PARTIAL_SERVERS.info(),
    PARTIAL_EVENTS.info(),
    MISSED_SERVERS.info(),
    RESYNCED_ROOMS.info(),
    BLOCKED.info(),
    RETENTION.info(),
    PURGED.info(),
    DELETING.info(),
    DEPARTURES.info(),
];

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventPlace {
    pub room: RoomNid,
    pub seq: RoomSeq,
}
stored!(EventPlace, 1);

/// The type and state key of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotKey {
    pub kind: Box<str>,
    pub state_key: Box<str>,
}
stored!(SlotKey, 1);

/// A user's membership of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipRow {
    pub membership: Membership,
    /// The member event.
    pub seq: RoomSeq,
    /// Whether the user wants to see the room no more.
    pub forgotten: bool,
    /// The member event that last ended their being joined.
    pub left_at: Option<RoomSeq>,
}
stored!(MembershipRow, 1);

/// How one event relates to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelationRow {
    pub rel_type: Box<str>,
    pub kind: Box<str>,
    pub sender: UserNid,
}
stored!(RelationRow, 1);

/// What a transaction id made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransactionRow {
    pub event_id: Box<str>,
    pub at: i64,
}
stored!(TransactionRow, 1);

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReceiptRow {
    pub event_id: Box<str>,
    pub seq: RoomSeq,
    pub at: i64,
}
stored!(ReceiptRow, 1);

/// A local alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AliasRow {
    pub room: RoomNid,
    pub creator: UserNid,
}
stored!(AliasRow, 1);

impl storage::Value for RoomSeq {
    fn encode(&self, out: &mut storage::ValueBuf) {
        storage::Value::encode(&self.0, out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, storage::Corrupt> {
        <i64 as storage::Value>::decode(bytes).map(RoomSeq)
    }
}
