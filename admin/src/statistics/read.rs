//! Asking for figures.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use rooms::{RoomNid, UserNid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use storage::Read;

use super::Day;
use super::follow::Statistics;
use super::rows::{ACTIVE, ACTIVE_DAYS, ALL_ROOMS, MESSAGES};
use super::tidy::MONTH;
use crate::error::AdminError;

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

/// A number of events, and what they have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageCount {
    /// The day, if days are told apart.
    pub day: Option<Day>,
    /// The room, if rooms are told apart; `None` for old days, of which it is not known any more.
    pub room: Option<RoomNid>,
    /// The type, if types are told apart.
    pub kind: Option<String>,
    /// Whether of users of this server, if that is told apart.
    pub is_local: Option<bool>,
    /// How many.
    pub count: u64,
}

/// How many users were active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveUsers {
    /// The day.
    pub day: Day,
    /// On this day.
    pub daily: u64,
    /// In the 30 days that end with it.
    pub monthly: u64,
}

impl Statistics {
    /// Events from one day to another, both included, by the dimensions that are asked for; of one room if it is given.
    ///
    /// # Errors
    /// A range that is too long; storage errors.
    pub fn messages(
        &self,
        (from, until): (Day, Day),
        room: Option<RoomNid>,
        by: &[Dimension],
    ) -> Result<Vec<MessageCount>, AdminError> {
        check_range(from, until)?;
        let mut sums = BTreeMap::new();
        for row in self.store.scan(&MESSAGES, &()).from_prefix(&from).until_prefix(&until.saturating_add(1)).iter() {
            let ((day, in_room, kind, is_local), count) = row?;
            if room.is_some_and(|room| room != in_room) {
                continue;
            }
            let key = (
                by.contains(&Dimension::Day).then_some(day),
                (by.contains(&Dimension::Room) && in_room != ALL_ROOMS).then_some(in_room),
                by.contains(&Dimension::Type).then_some(kind),
                by.contains(&Dimension::Origin).then_some(is_local),
            );
            let sum: &mut u64 = sums.entry(key).or_default();
            *sum = sum.saturating_add(u64::try_from(count).unwrap_or(0));
        }
        let counts = sums.into_iter();
        Ok(counts
            .map(|((day, room, kind, is_local), count)| MessageCount { day, room, kind, is_local, count })
            .collect())
    }

    /// Daily and monthly active users of each day of a range, both ends included.
    ///
    /// # Errors
    /// A range that is too long; storage errors.
    pub fn active_users(&self, from: Day, until: Day) -> Result<Vec<ActiveUsers>, AdminError> {
        check_range(from, until)?;
        let mut days = Vec::new();
        for day in from..=until {
            days.push(match self.store.get(&ACTIVE_DAYS, &day)? {
                Some(row) => ActiveUsers { day, daily: row.day.into(), monthly: row.month.into() },
                None => ActiveUsers {
                    day,
                    daily: self.users_between(day, day)?.len() as u64,
                    monthly: self.users_between(day.saturating_sub(MONTH - 1), day)?.len() as u64,
                },
            });
        }
        Ok(days)
    }

    /// Of the users who were active in the 30 days before the last 30: how many were active in the last 30 too, and how
    /// many they were.
    ///
    /// # Errors
    /// Storage errors.
    pub fn retention(&self, today: Day) -> Result<(u64, u64), AdminError> {
        let last = self.users_between(today.saturating_sub(MONTH - 1), today)?;
        let before = self.users_between(today.saturating_sub(2 * MONTH - 1), today.saturating_sub(MONTH))?;
        Ok((before.intersection(&last).count() as u64, before.len() as u64))
    }

    /// Who was active from one day to another, both included.
    pub(super) fn users_between(&self, from: Day, until: Day) -> Result<BTreeSet<UserNid>, AdminError> {
        let keys = self.store.scan(&ACTIVE, &()).from_prefix(&from).until_prefix(&until.saturating_add(1)).keys();
        Ok(keys.map(|key| key.map(|(_, user)| user)).collect::<Result<_, _>>()?)
    }
}

fn check_range(from: Day, until: Day) -> Result<(), AdminError> {
    if from > until {
        return Err(AdminError::invalid("the range ends before it begins"));
    }
    if until - from > MAX_DAYS {
        return Err(AdminError::invalid(format!("the range is longer than {MAX_DAYS} days")));
    }
    Ok(())
}
