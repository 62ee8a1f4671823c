//! What is to be forgotten after a time.

use storage::{Batch, Read};

use crate::error::RoomError;
use crate::keyspaces::{TRANSACTIONS, TRANSACTIONS_BY_TIME};
use crate::rooms::Rooms;

/// How long a transaction id is remembered: longer than any client retries.
const TRANSACTION_LIFE_MS: i64 = 24 * 60 * 60 * 1000;
/// How many rows one commit takes out.
const BATCH: usize = 500;

impl Rooms {
    /// Forgets transaction ids that are a day old. Cancel-safe: what is left is taken out next time.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn forget_transactions(&self) -> Result<usize, RoomError> {
        let before = self.clock.now_ms() as i64 - TRANSACTION_LIFE_MS;
        let mut forgotten = 0;
        loop {
            let mut batch = Batch::new();
            let mut rows = 0;
            for key in self.store.scan(&TRANSACTIONS_BY_TIME, &()).until_prefix(&before).keys().take(BATCH) {
                let key = key?;
                batch.delete(&TRANSACTIONS, &(key.1, key.2.clone(), key.3.clone()));
                batch.delete(&TRANSACTIONS_BY_TIME, &key);
                rows += 1;
            }
            if rows == 0 {
                return Ok(forgotten);
            }
            self.store.commit(batch).await?;
            forgotten += rows;
        }
    }
}
