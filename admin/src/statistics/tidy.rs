//! Putting old days together, so that rows stay few.

use storage::{Batch, Keyspace, Read, RowKey, Scan};

use super::follow::Statistics;
use super::rows::{ACTIVE, ACTIVE_DAYS, ALL_ROOMS, FACTS, LATENCY, MESSAGES};
use super::{Day, day_of};
use crate::error::AdminError;

/// For so many days messages are known by room; afterwards of all rooms together.
const DAYS_BY_ROOM: Day = 90;
/// For so many days it is known who was active: as long as retention needs it.
const DAYS_OF_USERS: Day = 64;
/// After so many days nothing is known.
pub(super) const DAYS: Day = 3 * 366;
/// How many rows one commit changes.
const CHUNK: usize = 1000;

impl Statistics {
    /// Puts days together that are old enough. Each commit is whole, so that it may end at any time.
    pub(super) async fn tidy(&self) -> Result<(), AdminError> {
        let today = day_of(self.parts.clock.now_ms());
        let store = &self.parts.store;
        self.merge_rooms(today.saturating_sub(DAYS_BY_ROOM)).await?;
        // How many were active stays in the facts of the day.
        let unknown = today.saturating_sub(DAYS_OF_USERS);
        self.forget(&ACTIVE, store.scan(&ACTIVE, &()).until_prefix(&unknown)).await?;
        // All of it was taken over into the facts when they began.
        self.forget(&ACTIVE_DAYS, store.scan(&ACTIVE_DAYS, &())).await?;
        let oldest = today.saturating_sub(DAYS);
        self.forget(&MESSAGES, store.scan(&MESSAGES, &()).until_prefix(&oldest)).await?;
        self.forget(&FACTS, store.scan(&FACTS, &()).until_prefix(&oldest)).await?;
        self.forget(&LATENCY, store.scan(&LATENCY, &()).until_prefix(&oldest)).await
    }

    async fn forget<K: RowKey, V>(&self, keyspace: &Keyspace<K, V>, old: Scan<'_, K, V>) -> Result<(), AdminError> {
        let keys: Vec<K> = old.keys().collect::<Result<_, _>>()?;
        for chunk in keys.chunks(CHUNK) {
            let mut batch = Batch::new();
            chunk.iter().for_each(|key| _ = batch.delete(keyspace, key));
            self.parts.store.commit(batch).await?;
        }
        Ok(())
    }

    /// Of days before this one: adds the rooms up.
    async fn merge_rooms(&self, before: Day) -> Result<(), AdminError> {
        loop {
            let mut batch = Batch::new();
            let mut rows = 0;
            for row in self.parts.store.scan(&MESSAGES, &()).until_prefix(&before).iter() {
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
            self.parts.store.commit(batch).await?;
        }
    }
}
