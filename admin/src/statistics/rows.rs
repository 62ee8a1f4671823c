//! The keyspaces of statistics.

use rooms::{RoomNid, UserNid};
use serde::{Deserialize, Serialize};
use storage::{Keyspace, KeyspaceInfo, Profile, StreamPos, stored};

use super::Day;

/// (Day, room, type, whether of a user of this server) → events. Room 0 is all rooms, of days that were put together.
pub(crate) const MESSAGES: Keyspace<(Day, RoomNid, String, bool), i64> =
    Keyspace::new("statistics_messages", Profile::Points);
/// Which users were active on a day.
pub(crate) const ACTIVE: Keyspace<(Day, UserNid), ()> = Keyspace::new("statistics_active", Profile::Points);
/// How many users were active on, and in the month up to, days whose rows in [`ACTIVE`] are gone.
pub(crate) const ACTIVE_DAYS: Keyspace<Day, ActiveDayRow> = Keyspace::new("statistics_active_days", Profile::Points);
/// One row: everything that was committed up to here is counted.
pub(crate) const CURSOR: Keyspace<u8, StreamPos> = Keyspace::new("statistics_cursor", Profile::Points);

/// Every keyspace of statistics.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[MESSAGES.info(), ACTIVE.info(), ACTIVE_DAYS.info(), CURSOR.info()];

/// The key of the row in [`CURSOR`].
pub(crate) const THE_CURSOR: u8 = 0;
/// The room of rows for all rooms.
pub(crate) const ALL_ROOMS: RoomNid = RoomNid(0);
/// The type under which further types of a day are counted.
pub(crate) const OTHER_TYPE: &str = "other";

/// A day of which it is not known any more who was active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActiveDayRow {
    pub(crate) day: u32,
    pub(crate) month: u32,
}
stored!(ActiveDayRow, 1);
