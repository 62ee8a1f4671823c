//! What was stored on each day, for statistics: kept with every new media, so that reading it is cheap.

use std::collections::BTreeMap;

use storage::{Batch, Read};

use super::{BYTES, CHUNK, COUNT, ServerUsage, Usage};
use crate::error::MediaError;
use crate::media::{Inner, Media};
use crate::rows::{DAYS, DAYS_COUNTED, MEDIA, MediaState};

const DAY_MS: u64 = 24 * 3600 * 1000;

fn day_of(ms: u64) -> u32 {
    u32::try_from(ms / DAY_MS).unwrap_or(u32::MAX)
}

/// Adds a media that is stored.
pub(super) fn count(batch: &mut Batch, created_ms: u64, is_local: bool, length: u64) {
    let day = day_of(created_ms);
    batch.add(&DAYS, &(day, is_local, COUNT), 1);
    batch.add(&DAYS, &(day, is_local, BYTES), i64::try_from(length).unwrap_or(i64::MAX));
}

impl Media {
    /// What was stored on each day from one to another, both included; days are numbered from 1970-01-01 (UTC). Media
    /// that are gone since are in it, but for those that went before this was counted.
    ///
    /// # Errors
    /// `Storage`.
    pub fn stored_by_day(&self, from: u32, until: u32) -> Result<BTreeMap<u32, ServerUsage>, MediaError> {
        let mut days: BTreeMap<u32, ServerUsage> = BTreeMap::new();
        let scan = self.0.store.scan(&DAYS, &()).from_prefix(&from);
        for row in scan.iter() {
            let ((day, is_local, what), amount) = row?;
            if day > until {
                break;
            }
            let stored = days.entry(day).or_default();
            let usage = if is_local { &mut stored.local } else { &mut stored.remote };
            let amount = u64::try_from(amount).unwrap_or(0);
            match what {
                COUNT => usage.count = amount,
                _ => usage.bytes = amount,
            }
        }
        Ok(days)
    }
}

impl Inner {
    /// Counts what a release without these sums has left, by when it was stored. Called before anything else changes
    /// media; begun again from the start if it was interrupted. Blocks.
    pub(crate) fn count_days_once(&self) -> Result<(), MediaError> {
        if self.store.contains(&DAYS_COUNTED, &())? {
            return Ok(());
        }
        let mut sums: BTreeMap<(u32, bool), Usage> = BTreeMap::new();
        for row in self.store.scan(&MEDIA, &()).iter() {
            let ((server, _), row) = row?;
            if let MediaState::Complete { length, .. } = row.state {
                let is_local = server == self.server_name.as_str();
                sums.entry((day_of(row.created_ms), is_local)).or_default().add(length);
            }
        }
        let sums: Vec<_> = sums.into_iter().collect();
        for chunk in sums.chunks(CHUNK) {
            let mut batch = Batch::new();
            for ((day, is_local), Usage { count, bytes }) in chunk {
                for (what, amount) in [(COUNT, *count), (BYTES, *bytes)] {
                    batch.put(&DAYS, &(*day, *is_local, what), &i64::try_from(amount).unwrap_or(i64::MAX));
                }
            }
            self.store.commit_blocking(batch)?;
        }
        let mut batch = Batch::new();
        batch.put(&DAYS_COUNTED, &(), &self.clock.now_ms());
        self.store.commit_blocking(batch)?;
        Ok(())
    }
}
