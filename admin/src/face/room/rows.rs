//! What is stored of the admin room.

use rooms::{RoomNid, RoomSeq, UserNid};
use serde::{Deserialize, Serialize};
use storage::{Keyspace, KeyspaceInfo, Profile, stored};

/// The admin room.
pub(crate) const ADMIN_ROOM: Keyspace<(), AdminRoomRow> = Keyspace::new("admin_room", Profile::Points);
/// Administrators who were invited into it: one who leaves it is not asked again.
pub(crate) const ADMIN_ROOM_INVITED: Keyspace<UserNid, ()> = Keyspace::new("admin_room_invited", Profile::Points);
/// Commands that were read and have no answer yet, by their message.
pub(crate) const ADMIN_ROOM_RUNNING: Keyspace<RoomSeq, RunningRow> =
    Keyspace::new("admin_room_running", Profile::Points);
/// Answers that are to be removed: when, in milliseconds since 1970, and which.
pub(crate) const ADMIN_ROOM_PASSING: Keyspace<(u64, RoomSeq), PassingRow> =
    Keyspace::new("admin_room_passing", Profile::Points);
/// The version that this server had when it was started last.
pub(crate) const ADMIN_VERSION: Keyspace<(), VersionRow> = Keyspace::new("admin_version", Profile::Points);

/// Every keyspace of the admin room.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[
    ADMIN_ROOM.info(),
    ADMIN_ROOM_INVITED.info(),
    ADMIN_ROOM_PASSING.info(),
    ADMIN_ROOM_RUNNING.info(),
    ADMIN_VERSION.info(),
];

/// Which room it is, and up to where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdminRoomRow {
    pub room: RoomNid,
    /// The last message that was read: it is never read again, so that its command runs at most once.
    pub seen: RoomSeq,
}
stored!(AdminRoomRow, 1);

/// A command without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunningRow {
    /// Its message.
    pub event_id: String,
}
stored!(RunningRow, 1);

/// An answer that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassingRow {
    /// Its event.
    pub event_id: String,
    /// The address of its file, if it is one.
    pub media: Option<String>,
}
stored!(PassingRow, 1);

/// See [`ADMIN_VERSION`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub version: String,
}
stored!(VersionRow, 1);
