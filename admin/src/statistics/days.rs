//! Asking for what is kept of each day.

use std::collections::{BTreeMap, BTreeSet};

use media::ServerUsage;
use rooms::UserNid;
use storage::Read;

use super::follow::Statistics;
use super::rows::{ACTIVE, FACTS, Fact};
use super::{Day, MONTH, check_range};
use crate::error::AdminError;

/// How far back it is looked for a number that no day of a range has, in days.
const LOOK_BACK: Day = 366;

/// What is known of a day. Numbers of what there is are those of the last time the server looked, on this day or before;
/// none if it never did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayFigures {
    /// The day.
    pub day: Day,
    /// Accounts that are not closed.
    pub users: Option<u64>,
    /// Accounts that were made on the day.
    pub new_users: u64,
    /// Users who were active on the day.
    pub daily_active: u64,
    /// Users who were active in the 30 days that end with it.
    pub monthly_active: u64,
    /// Rooms that this server knows.
    pub rooms: Option<u64>,
    /// Rooms that were made, or joined as the first of this server.
    pub new_rooms: u64,
    /// Events that came.
    pub events: u64,
    /// Media that were stored on the day, by origin; also those that are gone since.
    pub stored: ServerUsage,
    /// Media of this server: how many, and their bytes.
    pub local_media: Option<(u64, u64)>,
    /// Copies of media of other servers: how many, and their bytes.
    pub remote_media: Option<(u64, u64)>,
    /// The bytes of the database's files.
    pub database_bytes: Option<u64>,
}

/// How many users came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Users who were active in the 30 days before the last 30.
    pub before: u64,
    /// Those of them who were active in the last 30.
    pub stayed: u64,
}

/// The values of one day, and those that are carried over from the days before.
#[derive(Default)]
struct Values(BTreeMap<u8, u64>);

impl Values {
    fn latest(&self, fact: Fact) -> Option<u64> {
        self.0.get(&(fact as u8)).copied()
    }

    fn sum(&self, fact: Fact) -> u64 {
        self.latest(fact).unwrap_or(0)
    }

    fn pair(&self, count: Fact, bytes: Fact) -> Option<(u64, u64)> {
        Some((self.latest(count)?, self.latest(bytes)?))
    }

    /// Only what there is stays so on the next day.
    fn end_day(&mut self) {
        self.0.retain(|fact, _| *fact >= Fact::Users as u8);
    }
}

impl Statistics {
    /// What is known of each day of a range, both ends included. Reads the rows of those days only.
    ///
    /// # Errors
    /// A range that is too long; storage errors.
    pub fn days(&self, range: (Day, Day)) -> Result<Vec<DayFigures>, AdminError> {
        check_range(range)?;
        let (from, until) = range;
        let mut values = self.values_before(from)?;
        let mut rows: BTreeMap<Day, Vec<(u8, u64)>> = BTreeMap::new();
        let scan = self.parts.store.scan(&FACTS, &()).from_prefix(&from).until_prefix(&until.saturating_add(1));
        for row in scan.iter() {
            let ((day, fact), value) = row?;
            rows.entry(day).or_default().push((fact, u64::try_from(value).unwrap_or(0)));
        }
        let stored = self.parts.media.stored_by_day(from, until)?;
        let days = (from..=until).map(|day| {
            values.0.extend(rows.remove(&day).unwrap_or_default());
            let figures = DayFigures {
                day,
                users: values.latest(Fact::Users),
                new_users: values.sum(Fact::NewUsers),
                daily_active: values.sum(Fact::DailyActive),
                monthly_active: values.sum(Fact::MonthlyActive),
                rooms: values.latest(Fact::Rooms),
                new_rooms: values.sum(Fact::NewRooms),
                events: values.sum(Fact::Events),
                stored: stored.get(&day).copied().unwrap_or_default(),
                local_media: values.pair(Fact::LocalMedia, Fact::LocalBytes),
                remote_media: values.pair(Fact::RemoteMedia, Fact::RemoteBytes),
                database_bytes: values.latest(Fact::DatabaseBytes),
            };
            values.end_day();
            figures
        });
        Ok(days.collect())
    }

    /// What there was when a day began, by the last day before it that tells.
    fn values_before(&self, day: Day) -> Result<Values, AdminError> {
        let mut values = Values::default();
        let scan = self.parts.store.scan(&FACTS, &());
        for row in scan.from_prefix(&day.saturating_sub(LOOK_BACK)).until_prefix(&day).reverse().iter() {
            let ((_, fact), value) = row?;
            if fact >= Fact::Users as u8 {
                values.0.entry(fact).or_insert(u64::try_from(value).unwrap_or(0));
            }
            // The lowest of those facts: the day is read, and it tells all of them if it is not an old one.
            if fact == Fact::Users as u8 && values.latest(Fact::DatabaseBytes).is_some() {
                break;
            }
        }
        Ok(values)
    }

    /// How many of the users of the month before last came back.
    ///
    /// # Errors
    /// Storage errors.
    pub fn retention(&self, today: Day) -> Result<Retention, AdminError> {
        let last = self.users_between(today.saturating_sub(MONTH - 1), today)?;
        let before = self.users_between(today.saturating_sub(2 * MONTH - 1), today.saturating_sub(MONTH))?;
        Ok(Retention { before: before.len() as u64, stayed: before.intersection(&last).count() as u64 })
    }

    /// Who was active from one day to another, both included.
    fn users_between(&self, from: Day, until: Day) -> Result<BTreeSet<UserNid>, AdminError> {
        let scan = self.parts.store.scan(&ACTIVE, &()).from_prefix(&from).until_prefix(&until.saturating_add(1));
        Ok(scan.keys().map(|key| key.map(|(_, user)| user)).collect::<Result<_, _>>()?)
    }
}
