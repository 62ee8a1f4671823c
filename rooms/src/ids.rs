//! The numbers that stand for long identifiers inside this server.

use serde::{Deserialize, Serialize};
use storage::{Corrupt, Key, KeyBuf, KeyReader, nid};

nid! {
    /// A user, local or remote, interned: 8 bytes in keys instead of up to 255.
    pub struct UserNid
}
nid! {
    /// A room, interned.
    pub struct RoomNid
}

/// Topic kind: the room's timeline or state changed; id is the [`RoomNid`].
pub const TOPIC_ROOM: u8 = 1;
/// Topic kind: something of the user's changed (account data, profile, keys); id is the [`UserNid`].
pub const TOPIC_USER: u8 = 2;
/// Topic kind: a device's to-device queue or key counts changed; id is the device's number.
pub const TOPIC_DEVICE: u8 = 3;
/// Topic kind: a receipt of the room changed; id is the [`RoomNid`].
pub const TOPIC_EPHEMERAL: u8 = 4;
/// Topic kind: some user's device list changed; the id is always 0.
pub const TOPIC_DEVICE_LISTS: u8 = 5;
/// Topic kind: the user's membership of some room changed; id is the [`UserNid`].
pub const TOPIC_MEMBERSHIP: u8 = 6;
/// Topic kind: the user's pushers changed; id is the [`UserNid`].
pub const TOPIC_PUSHERS: u8 = 7;
/// Topic kind: the room got or lost a local alias; id is the [`RoomNid`].
pub const TOPIC_ALIASES: u8 = 8;
/// Topic kind: some user's profile changed; the id is always 0.
pub const TOPIC_PROFILES: u8 = 9;
/// Topic kind: the account itself changed, or was used; id is the [`UserNid`].
pub const TOPIC_ACCOUNTS: u8 = 12;
/// Topic kind: who administers or moderates the server changed; the id is always 0.
pub const TOPIC_ADMINS: u8 = 10;
/// Topic kind: the room is being deleted, or was; id is the [`RoomNid`].
pub const TOPIC_ROOM_GONE: u8 = 11;

/// The number of an event in its room, dense in order of arrival. Negative for backfilled events;
/// from [`RoomSeq::FIRST_OUTLIER`] on for events that are no part of the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoomSeq(pub i64);

impl RoomSeq {
    /// The room's first event.
    pub const FIRST: RoomSeq = RoomSeq(1);
    /// Before every backfilled event.
    pub const MIN: RoomSeq = RoomSeq(i64::MIN);
    /// Outliers are numbered from here, out of the timeline's way.
    pub const FIRST_OUTLIER: RoomSeq = RoomSeq(1 << 62);

    /// The next event's number.
    #[must_use]
    pub fn next(self) -> RoomSeq {
        RoomSeq(self.0.saturating_add(1))
    }
}

impl Key for RoomSeq {
    fn encode(&self, out: &mut KeyBuf) {
        self.0.encode(out);
    }

    fn decode(input: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        i64::decode(input).map(RoomSeq)
    }
}

/// A room's whole state at some point: the root of a persistent tree (see `snapshot`). Equal ids of
/// one room are equal states; the reverse need not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct SnapshotId(pub u64);
