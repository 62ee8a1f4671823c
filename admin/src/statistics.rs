//! Figures by day: messages, and which users were active. Counted from what is committed, never by scanning what is
//! stored, and kept in rows, so that a restart neither loses nor repeats anything. Numbers only: no contents.
//!
//! A day is one of UTC, and an event belongs to the day on which it came. What came before this was counted for the
//! first time is not in it.

mod follow;
pub mod operations;
mod read;
mod rows;
#[cfg(test)]
mod tests;
mod tidy;

pub use follow::Statistics;
pub use read::{ActiveUsers, Dimension, MessageCount};
pub(crate) use rows::KEYSPACES;

/// A day of UTC: how many lie between it and 1970-01-01.
pub type Day = u32;

const DAY_MS: u64 = 86_400_000;

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
