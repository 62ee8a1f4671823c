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
/// How many users were active on, and in the month up to, a day: of days before [`FACTS`] were kept. Read once.
pub(crate) const ACTIVE_DAYS: Keyspace<Day, ActiveDayRow> = Keyspace::new("statistics_active_days", Profile::Points);
/// What is kept of each day: (day, [`Fact`]) → its value. One row each, so that a range of days is read by reading them.
pub(crate) const FACTS: Keyspace<(Day, u8), i64> = Keyspace::new("statistics_facts", Profile::Points);
/// What is known of each account and of each local sender.
pub(crate) const KNOWN: Keyspace<UserNid, KnownUserRow> = Keyspace::new("statistics_users", Profile::Points);
/// How many there are now: [`Total`] → number.
pub(crate) const TOTALS: Keyspace<u8, i64> = Keyspace::new("statistics_totals", Profile::Points);
/// (Day, stretch, upper bound in microseconds) → how often something took longer than the bound below and not longer
/// than this one.
pub(crate) const LATENCY: Keyspace<(Day, u8, u64), i64> = Keyspace::new("statistics_latency", Profile::Points);
/// Positions: [`THE_CURSOR`] and [`BACKFILLED`].
pub(crate) const CURSOR: Keyspace<u8, StreamPos> = Keyspace::new("statistics_cursor", Profile::Points);

/// Every keyspace of statistics.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[
    MESSAGES.info(),
    ACTIVE.info(),
    ACTIVE_DAYS.info(),
    FACTS.info(),
    KNOWN.info(),
    TOTALS.info(),
    LATENCY.info(),
    CURSOR.info(),
];

/// The key in [`CURSOR`] of the position up to which everything committed is counted.
pub(crate) const THE_CURSOR: u8 = 0;
/// The key in [`CURSOR`] that is there once [`FACTS`] hold what was known when they began.
pub(crate) const BACKFILLED: u8 = 1;
/// The room of rows for all rooms.
pub(crate) const ALL_ROOMS: RoomNid = RoomNid(0);
/// The type under which further types of a day are counted.
pub(crate) const OTHER_TYPE: &str = "other";

/// Something that is kept of each day. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Fact {
    /// Users who were active on the day.
    DailyActive = 0,
    /// Users who were active in the 30 days that end with the day.
    MonthlyActive = 1,
    /// Accounts that were made.
    NewUsers = 2,
    /// Rooms that were made, or joined as the first of this server.
    NewRooms = 3,
    /// Events that came.
    Events = 4,
    /// Accounts, without those that are closed; from here on, as it was when the day was last looked at.
    Users = 16,
    /// Rooms that this server knows.
    Rooms = 17,
    /// Media of this server.
    LocalMedia = 18,
    /// Their bytes.
    LocalBytes = 19,
    /// Copies of media of other servers.
    RemoteMedia = 20,
    /// Their bytes.
    RemoteBytes = 21,
    /// The bytes of the database's files.
    DatabaseBytes = 22,
}

impl Fact {
    /// The key of its row.
    pub(crate) fn of(self, day: Day) -> (Day, u8) {
        (day, self as u8)
    }
}

/// Something of which it is kept how many there are now. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Total {
    /// See [`Fact::Users`].
    Users = 0,
}

/// A day of which it is not known any more who was active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActiveDayRow {
    pub(crate) day: u32,
    pub(crate) month: u32,
}
stored!(ActiveDayRow, 1);

/// What is known of a user of this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownUserRow {
    /// Whether there is an account of which the making was counted.
    pub(crate) has_account: bool,
    /// Whether it is counted among all users: it is not closed.
    pub(crate) is_open: bool,
    /// When the user was last active.
    pub(crate) last_active: Option<Day>,
}
stored!(KnownUserRow, 1);
