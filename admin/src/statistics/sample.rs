//! Noting how much there is, and how long things took: each minute, under the day.

use storage::{Batch, Read};

use super::day_of;
use super::follow::Statistics;
use super::rows::{FACTS, Fact, TOTALS, Total};
use crate::error::AdminError;

impl Statistics {
    /// Notes how much there is now, and how long things took since the last time.
    pub(super) async fn sample(&self) -> Result<(), AdminError> {
        let mut writing = self.writing.lock().await;
        let parts = &self.parts;
        let day = day_of(parts.clock.now_ms());
        let mut batch = Batch::new();
        let do_rooms_differ = std::mem::take(&mut self.arrivals.lock().do_rooms_differ);
        // Otherwise they are as many as before.
        let rooms = do_rooms_differ.then(|| parts.rooms.number_of_rooms()).transpose()?;
        let users = parts.store.get(&TOTALS, &(Total::Users as u8))?.unwrap_or(0);
        let media = parts.media.server_usage()?;
        let figures = parts.store.figures();
        // What is in memory is in the log on the disk, too.
        let database = figures.levels.iter().sum::<u64>().saturating_add(figures.write_buffers);
        let facts = [
            (Fact::Users, users),
            (Fact::LocalMedia, amount(media.local.count)),
            (Fact::LocalBytes, amount(media.local.bytes)),
            (Fact::RemoteMedia, amount(media.remote.count)),
            (Fact::RemoteBytes, amount(media.remote.bytes)),
            (Fact::DatabaseBytes, amount(database)),
        ];
        for (fact, value) in facts.into_iter().chain(rooms.map(|rooms| (Fact::Rooms, amount(rooms)))) {
            if parts.store.get(&FACTS, &fact.of(day))? != Some(value) {
                batch.put(&FACTS, &fact.of(day), &value);
            }
        }
        let measured = writing.measured.add_news(&mut batch, day, &self.read_buckets()?);
        let written = match batch.is_empty() {
            true => Ok(()),
            false => parts.store.commit(batch).await.map(drop),
        };
        match written {
            Ok(()) => writing.measured = measured,
            Err(_) => self.arrivals.lock().do_rooms_differ |= do_rooms_differ,
        }
        Ok(written?)
    }
}

fn amount(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
