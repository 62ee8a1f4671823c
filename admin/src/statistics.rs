//! Figures by day: events, users, rooms, media, storage, and how long things took. Counted from what is committed, never
//! by scanning what is stored, and kept in rows by day, so that a restart neither loses nor repeats anything and a range
//! of days is answered by reading those rows. Numbers only: no contents.
//!
//! A day is one of UTC, and an event belongs to the day on which it came. What came before this was counted for the
//! first time is known as far as `backfill.rs` says.

mod backfill;
mod count;
mod days;
mod follow;
mod latency;
mod messages;
pub mod operations;
mod rows;
mod sample;
#[cfg(test)]
mod tests;
mod tidy;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use days::{DayFigures, Retention};
pub use follow::{Statistics, StatisticsParts};
pub use latency::{Stretch, StretchFigures};
pub use messages::MessageCount;
pub(crate) use rows::KEYSPACES;

use crate::error::AdminError;

/// A day of UTC: how many lie between it and 1970-01-01.
pub type Day = u32;

const DAY_MS: u64 = 86_400_000;
/// A month, of monthly active users.
const MONTH: Day = 30;
/// The longest range that is looked at, in days.
const MAX_DAYS: Day = 1100;

/// What messages are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// Each day.
    Day,
    /// Each room.
    Room,
    /// Each type of events.
    Type,
    /// Events of users of this server, and of others.
    Origin,
}

/// The day of a moment in milliseconds since 1970.
#[must_use]
pub fn day_of(ms: u64) -> Day {
    u32::try_from(ms / DAY_MS).unwrap_or(Day::MAX)
}

/// When a day begins, in milliseconds since 1970.
#[must_use]
pub fn begin_of(day: Day) -> u64 {
    u64::from(day) * DAY_MS
}

fn check_range((from, until): (Day, Day)) -> Result<(), AdminError> {
    if from > until {
        return Err(AdminError::invalid("the range ends before it begins"));
    }
    if until - from > MAX_DAYS {
        return Err(AdminError::invalid(format!("the range is longer than {MAX_DAYS} days")));
    }
    Ok(())
}
