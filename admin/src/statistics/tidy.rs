//! Putting old days together, so that rows stay few.

use std::collections::{BTreeMap, BTreeSet};

use storage::{Batch, Read};

use super::follow::Statistics;
use super::rows::{ACTIVE, ACTIVE_DAYS, ALL_ROOMS, ActiveDayRow, MESSAGES};
use super::{Day, day_of};
use crate::error::AdminError;

/// For so many days messages are known by room; afterwards of all rooms together.
const DAYS_BY_ROOM: Day = 90;
/// For so many days it is known who was active: as long as retention needs it.
const DAYS_OF_USERS: Day = 64;
/// A month, of monthly active users.
pub(super) const MONTH: Day = 30;
/// After so many days nothing is known.
const DAYS: Day = 3 * 366;
/// How many rows one commit changes.
const CHUNK: usize = 1000;

impl Statistics {
    /// Puts days together that are old enough. Each commit is whole, so that it may end at any time.
    pub(super) async fn tidy(&self) -> Result<(), AdminError> {
        let today = day_of(self.clock.now_ms());
        self.merge_rooms(today.saturating_sub(DAYS_BY_ROOM)).await?;
        self.count_old_days(today.saturating_sub(DAYS_OF_USERS)).await?;
        self.forget(today.saturating_sub(DAYS)).await
    }

    /// Of days before this one: adds the rooms up.
    async fn merge_rooms(&self, before: Day) -> Result<(), AdminError> {
        loop {
            let mut batch = Batch::new();
            let mut rows = 0;
            for row in self.store.scan(&MESSAGES, &()).until_prefix(&before).iter() {
                let ((day, room, kind, is_local), count) = row?;
                if room == ALL_ROOMS {
                    continue;
                }
                batch.add(&MESSAGES, &(day, ALL_ROOMS, kind.clone(), is_local), count);
                batch.delete(&MESSAGES, &(day, room, kind, is_local));
                rows += 1;
                if rows >= CHUNK {
                    break;
                }
            }
            if rows == 0 {
                return Ok(());
            }
            self.store.commit(batch).await?;
        }
    }

    /// Of days before this one: keeps how many users were active, and no longer who.
    async fn count_old_days(&self, before: Day) -> Result<(), AdminError> {
        let mut old: BTreeMap<Day, Vec<_>> = BTreeMap::new();
        for key in self.store.scan(&ACTIVE, &()).until_prefix(&before).keys() {
            let (day, user) = key?;
            old.entry(day).or_default().push(user);
        }
        for (day, users) in old {
            if self.store.get(&ACTIVE_DAYS, &day)?.is_none() {
                let month = u32::try_from(self.users_between(day.saturating_sub(MONTH - 1), day)?.len());
                let row = ActiveDayRow {
                    day: u32::try_from(users.len()).unwrap_or(u32::MAX),
                    month: month.unwrap_or(u32::MAX),
                };
                let mut batch = Batch::new();
                batch.put(&ACTIVE_DAYS, &day, &row);
                self.store.commit(batch).await?;
            }
        }
        // Who was active in the month before the oldest day that is known is needed for that day: a month stays.
        let gone = before.saturating_sub(MONTH);
        let keys: Vec<_> = self.store.scan(&ACTIVE, &()).until_prefix(&gone).keys().collect::<Result<_, _>>()?;
        for chunk in keys.chunks(CHUNK) {
            let mut batch = Batch::new();
            chunk.iter().for_each(|key| _ = batch.delete(&ACTIVE, key));
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    async fn forget(&self, before: Day) -> Result<(), AdminError> {
        let messages: Vec<_> =
            self.store.scan(&MESSAGES, &()).until_prefix(&before).keys().collect::<Result<_, _>>()?;
        let days: BTreeSet<Day> = self.store.scan(&ACTIVE_DAYS, &()).until(&before).keys().collect::<Result<_, _>>()?;
        for chunk in messages.chunks(CHUNK) {
            let mut batch = Batch::new();
            chunk.iter().for_each(|key| _ = batch.delete(&MESSAGES, key));
            self.store.commit(batch).await?;
        }
        if !days.is_empty() {
            let mut batch = Batch::new();
            days.iter().for_each(|day| _ = batch.delete(&ACTIVE_DAYS, day));
            self.store.commit(batch).await?;
        }
        Ok(())
    }
}
