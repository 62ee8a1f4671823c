//! Forgetting what has expired.

use storage::{Batch, Read};

use crate::{
    UserError, Users,
    openid::OPENID_TOKENS,
    transactions::{HOUR_MS, LIFETIME_HOURS, TRANSACTIONS, TRANSACTIONS_BY_HOUR},
};

const PAGE_ROWS: usize = 1_000;

impl Users {
    /// Deletes expired transaction IDs and OpenID tokens, and ends sessions in which the time of acting for a user is over. To be called about once an hour by a supervised task; costs
    /// what expired, plus one pass over the OpenID tokens. Cancelling leaves the rest for the next call.
    pub async fn delete_expired(&self) -> Result<(), UserError> {
        let now = self.now_ms();
        self.inner.sessions.settle_old_doubts(now);
        self.end_acting_sessions(now).await?;
        self.forget_spam_refusals(now).await?;
        let horizon = (now / HOUR_MS).saturating_sub(LIFETIME_HOURS);
        loop {
            let mut batch = Batch::new();
            let mut rows = 0;
            for row in self.store().scan(&TRANSACTIONS_BY_HOUR, &()).iter().take(PAGE_ROWS) {
                let (key, ()) = row?;
                if key.0 >= horizon {
                    break;
                }
                batch.delete(&TRANSACTIONS_BY_HOUR, &key);
                batch.delete(&TRANSACTIONS, &key.1);
                rows += 1;
            }
            if rows > 0 {
                self.store().commit(batch).await?;
            }
            if rows < PAGE_ROWS {
                break;
            }
        }
        let mut batch = Batch::new();
        for row in self.store().scan(&OPENID_TOKENS, &()).iter() {
            let (hash, row) = row?;
            if row.expires_at_ms <= now && batch.size() < 1_000_000 {
                batch.delete(&OPENID_TOKENS, &hash);
            }
        }
        if !batch.is_empty() {
            self.store().commit(batch).await?;
        }
        Ok(())
    }
}
