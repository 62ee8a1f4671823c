//! How much an account reached out to others: invitations sent and rooms joined, by the hour. Whoever looks for
//! spammers looks at these first.
//!
//! They are counted beside the events, not with them: a crash in between loses a count. Counting began with the
//! version that has this keyspace.

use rooms::UserNid;
use storage::{Batch, Keyspace, Profile, Read};

use crate::{UserError, Users};

/// Account, [`Signal`], hour since 1970 → how often.
pub(crate) const SIGNALS: Keyspace<(UserNid, bool, u64), i64> = Keyspace::new("account_signals", Profile::Points);

const HOUR_MS: u64 = 3_600_000;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Invitations sent.
    Invitations,
    /// Rooms joined.
    Joins,
}

impl Users {
    /// Counts `times` more of what an account did. A failure is logged: what was done is done. Cancel-safe.
    pub async fn count_signal(&self, user: UserNid, signal: Signal, times: usize) {
        let Ok(times) = i64::try_from(times) else { return };
        if times == 0 {
            return;
        }
        let mut batch = Batch::new();
        batch.add(&SIGNALS, &(user, signal == Signal::Joins, self.now_ms() / HOUR_MS), times);
        if let Err(error) = self.store().commit(batch).await {
            tracing::warn!(%error, "what a user did was not counted");
        }
    }

    /// How often an account did something since a time, in milliseconds since 1970, taken to begin with its hour.
    pub fn signals_since(&self, user: UserNid, signal: Signal, since_ms: u64) -> Result<u64, UserError> {
        let prefix = (user, signal == Signal::Joins);
        let from = (user, prefix.1, since_ms / HOUR_MS);
        let mut count = 0_u64;
        for row in self.store().scan(&SIGNALS, &prefix).from(&from).iter() {
            count = count.saturating_add(u64::try_from(row?.1).unwrap_or(0));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
