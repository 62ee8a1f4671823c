//! What is known of the time before figures were kept by day, read once.
//!
//! - Accounts: the day on which each was made. Which were closed since then, and when, is not known: they count as closed
//!   from the beginning.
//! - Rooms: the day that the event says which made them. Rooms that were deleted are not known.
//! - Active users: as far as it was kept who was active, or how many were.
//! - Events: as far as they were counted.
//! - Media: see `Media::stored_by_day`. How much there was on a day is not known, nor how large the database was, nor how
//!   long things took.

use std::collections::BTreeMap;

use rooms::{RoomSeq, UserNid};
use storage::{Batch, Read, StreamPos};

use super::count::months_gained;
use super::follow::Statistics;
use super::rows::{ACTIVE, ACTIVE_DAYS, BACKFILLED, CURSOR, FACTS, Fact, KNOWN, KnownUserRow, MESSAGES, TOTALS, Total};
use super::tidy::DAYS;
use super::{Day, day_of};
use crate::error::AdminError;
use crate::every_account::visit_accounts;

/// How many rows one commit has.
const CHUNK: usize = 1000;

#[derive(Default)]
struct Past {
    facts: BTreeMap<(Day, u8), i64>,
    users: BTreeMap<UserNid, KnownUserRow>,
}

impl Past {
    fn add(&mut self, fact: Fact, day: Day, count: i64) {
        *self.facts.entry(fact.of(day)).or_default() += count;
    }

    /// From how many came on each day: how many there were.
    fn add_up(&mut self, created: &BTreeMap<Day, i64>, fact: Fact) -> i64 {
        let mut total = 0;
        for (day, count) in created {
            total += count;
            self.facts.insert(fact.of(*day), total);
        }
        total
    }
}

impl Statistics {
    /// Writes what is known of the time before, unless that was done. Up to `cursor` everything is counted. Nothing else
    /// may count meanwhile; if it is interrupted, it begins again.
    pub(super) async fn backfill(&self, cursor: StreamPos) -> Result<(), AdminError> {
        let store = &self.parts.store;
        if store.contains(&CURSOR, &BACKFILLED)? {
            return Ok(());
        }
        let mut past = Past::default();
        self.recall_activity(&mut past)?;
        let users = self.recall_accounts(&mut past)?;
        self.recall_rooms(&mut past, cursor)?;
        for row in store.scan(&MESSAGES, &()).iter() {
            let ((day, ..), count) = row?;
            past.add(Fact::Events, day, count);
        }
        let mut batch = Batch::new();
        let mut rows = 0;
        let Past { facts, users: known } = past;
        for (user, row) in &known {
            batch.put(&KNOWN, user, row);
            rows += 1;
            if rows % CHUNK == 0 {
                store.commit(std::mem::take(&mut batch)).await?;
            }
        }
        for (key, value) in &facts {
            batch.put(&FACTS, key, value);
            rows += 1;
            if rows % CHUNK == 0 {
                store.commit(std::mem::take(&mut batch)).await?;
            }
        }
        batch.put(&TOTALS, &(Total::Users as u8), &users).put(&CURSOR, &BACKFILLED, &cursor);
        store.commit(batch).await?;
        Ok(())
    }

    fn recall_activity(&self, past: &mut Past) -> Result<(), AdminError> {
        for key in self.parts.store.scan(&ACTIVE, &()).keys() {
            let (day, user) = key?;
            let last = past.users.entry(user).or_default().last_active.replace(day);
            past.add(Fact::DailyActive, day, 1);
            for day in months_gained(last, day) {
                past.add(Fact::MonthlyActive, day, 1);
            }
        }
        for row in self.parts.store.scan(&ACTIVE_DAYS, &()).iter() {
            let (day, row) = row?;
            past.facts.insert(Fact::DailyActive.of(day), row.day.into());
            past.facts.insert(Fact::MonthlyActive.of(day), row.month.into());
        }
        Ok(())
    }

    /// Returns how many accounts there are.
    fn recall_accounts(&self, past: &mut Past) -> Result<i64, AdminError> {
        let (mut made, mut open) = (BTreeMap::new(), BTreeMap::new());
        visit_accounts(&self.parts.users, &mut |account| {
            if !self.is_somebody(&account.user_id) {
                return Ok(());
            }
            let day = self.within_memory(account.created_ms);
            *made.entry(day).or_default() += 1;
            *open.entry(day).or_default() += i64::from(!account.is_deactivated);
            let row = past.users.entry(account.user).or_default();
            (row.has_account, row.is_open) = (true, !account.is_deactivated);
            Ok(())
        })?;
        made.into_iter().for_each(|(day, count)| past.add(Fact::NewUsers, day, count));
        Ok(past.add_up(&open, Fact::Users))
    }

    /// The rooms that there were at the position: those that came later are counted as they came.
    fn recall_rooms(&self, past: &mut Past, cursor: StreamPos) -> Result<(), AdminError> {
        let mut made = BTreeMap::new();
        for room in self.parts.rooms.rooms_changed_after(StreamPos(0))? {
            let first = self.parts.rooms.events_back(room, RoomSeq::FIRST, RoomSeq::FIRST.next(), 1)?;
            if first.first().is_some_and(|event| event.pos() > cursor) {
                continue;
            }
            let ms = first.first().map_or(0, rooms::Event::origin_server_ts);
            *made.entry(self.within_memory(u64::try_from(ms).unwrap_or(0))).or_default() += 1;
        }
        made.iter().for_each(|(day, count)| past.add(Fact::NewRooms, *day, *count));
        past.add_up(&made, Fact::Rooms);
        Ok(())
    }

    /// The day of a moment; what is older than anything that is kept counts to the first day, and what lies in the
    /// future to today.
    fn within_memory(&self, ms: u64) -> Day {
        let today = day_of(self.parts.clock.now_ms());
        day_of(ms).clamp(today.saturating_sub(DAYS - 1), today)
    }
}
