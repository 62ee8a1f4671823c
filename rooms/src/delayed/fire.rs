//! The one task that sends delayed events when their time has come, and forgets those that ended long ago.

use storage::{Batch, Read, StreamPos};

use super::{DELAYED, DELAYED_DUE, DELAYED_OF_USER, DelayError, DelayedRow, delete_row};
use crate::error::RoomError;
use crate::ids::UserNid;
use crate::rooms::Rooms;

/// The longest sleep, in milliseconds: the operator may set the machine's clock.
const MAX_SLEEP_MS: u64 = 60_000;
/// How long an event waits whose room cannot be written to right now, and the task itself after a failure, in
/// milliseconds.
const PAUSE_MS: u64 = 5_000;
/// How long after its time an event is given up that cannot be sent for want of somebody else's answer.
const GIVE_UP_MS: u64 = 60 * 60 * 1000;

impl Rooms {
    /// Sends delayed events when they are due, in the order of their times; those first that became due while the
    /// server was down. `may_send` says of a user of this server whether their account may send at all. Runs until it
    /// is dropped, which is safe at any await.
    pub async fn run_delayed_events(&self, may_send: impl Fn(UserNid) -> bool + Send) {
        loop {
            let latest_ms = self.clock.now_ms().saturating_add(MAX_SLEEP_MS);
            let next_ms = match self.work_off_due(&may_send).await {
                Ok(next_ms) => next_ms.map_or(latest_ms, |next_ms| next_ms.min(latest_ms)),
                Err(error) => {
                    tracing::error!(%error, "delayed events were not sent");
                    self.clock.now_ms().saturating_add(PAUSE_MS)
                }
            };
            tokio::select! {
                () = self.clock.sleep_until_ms(next_ms) => {}
                () = self.delays.wake.notified() => {}
            }
        }
    }

    /// Does what is due; returns when something else is.
    async fn work_off_due(&self, may_send: &(impl Fn(UserNid) -> bool + Send)) -> Result<Option<u64>, DelayError> {
        loop {
            let next = self.store.scan(&DELAYED_DUE, &()).keys().next().transpose()?;
            let Some((due_ms, pos, id)) = next else { return Ok(None) };
            if due_ms > self.clock.now_ms() {
                return Ok(Some(due_ms));
            }
            let row = self.delayed_row(&id)?;
            match row {
                Some(row) if row.pos == pos && row.value.outcome.is_none() => {
                    self.fire(&id, &row.value, may_send).await?;
                }
                Some(row) if row.pos == pos => {
                    let mut batch = Batch::new();
                    delete_row(&mut batch, &id, &row);
                    self.store.commit(batch).await?;
                }
                row => self.delete_stale((due_ms, pos, id), row.map(|row| row.value.owner)).await?,
            }
        }
    }

    /// Sends one event, or says why that is impossible, or puts it off for a moment. Nobody waits here for a policy
    /// server.
    async fn fire(
        &self,
        id: &str,
        row: &DelayedRow,
        may_send: &(impl Fn(UserNid) -> bool + Send),
    ) -> Result<(), DelayError> {
        let may_send = may_send(row.owner);
        if may_send && self.policy_server(row.room)?.is_some() {
            return self.fire_aside(id, row).await;
        }
        self.fire_now(id, row, may_send).await
    }

    pub(super) async fn fire_now(&self, id: &str, row: &DelayedRow, may_send: bool) -> Result<(), DelayError> {
        let failed = if may_send {
            match self.send_scheduled(id, Some(row.since_ms)).await {
                Ok(_) | Err(DelayError::Ended | DelayError::NotFound) => return Ok(()),
                Err(DelayError::Room(error)) => error,
                Err(error) => return Err(error),
            }
        } else {
            RoomError::Refused("the account may not send")
        };
        let is_late = self.clock.now_ms() > row.since_ms.saturating_add(row.delay_ms).saturating_add(GIVE_UP_MS);
        let changed = match judge(&failed) {
            Judgement::Later { .. } if !is_late => self.put_off(id, row, PAUSE_MS).await,
            Judgement::Later { forbidden } | Judgement::Never { forbidden } => {
                tracing::debug!(room = row.room.0, error = %failed, "a delayed event could not be sent");
                self.fail_delayed(id, forbidden, failed.to_string()).await
            }
        };
        match changed {
            Err(DelayError::Ended | DelayError::NotFound) => Ok(()),
            other => other,
        }
    }

    /// Lets an event be due again in a while, unless it was restarted.
    pub(super) async fn put_off(&self, id: &str, row: &DelayedRow, pause_ms: u64) -> Result<(), DelayError> {
        let due_ms = self.clock.now_ms().saturating_add(pause_ms);
        let since_ms = row.since_ms;
        let later = |row: &DelayedRow| DelayedRow { due_ms: due_ms.max(row.due_ms), ..row.clone() };
        self.change_scheduled(id, |row| if row.since_ms == since_ms { later(row) } else { row.clone() }).await
    }

    /// Takes out entries of a row that has moved on.
    async fn delete_stale(&self, due: (u64, StreamPos, String), owner: Option<UserNid>) -> Result<(), DelayError> {
        let mut batch = Batch::new();
        if let Some(owner) = owner {
            let (due_ms, _, id) = &due;
            // Only if no newer entry of the row has the same time: then it is not stale.
            if self
                .store
                .get(&DELAYED, id)?
                .is_none_or(|row| row.value.outcome.is_some() || row.value.due_ms != *due_ms)
            {
                batch.delete(&DELAYED_OF_USER, &(owner, false, *due_ms, id.clone()));
            }
        }
        batch.delete(&DELAYED_DUE, &due);
        self.store.commit(batch).await?;
        Ok(())
    }
}

/// What follows from a failure to send.
enum Judgement {
    /// It may work in a moment.
    Later { forbidden: bool },
    /// It will never.
    Never { forbidden: bool },
}

fn judge(error: &RoomError) -> Judgement {
    match error {
        RoomError::Busy | RoomError::Storage(_) | RoomError::Commit(_) | RoomError::RemoteUnavailable(_) => {
            Judgement::Later { forbidden: false }
        }
        RoomError::NotRecommended { status, .. } if *status == 429 || *status >= 500 => {
            Judgement::Later { forbidden: true }
        }
        RoomError::NotInRoom
        | RoomError::NotResident
        | RoomError::Forbidden(_)
        | RoomError::NotRecommended { .. }
        | RoomError::Refused(_) => Judgement::Never { forbidden: true },
        _ => Judgement::Never { forbidden: false },
    }
}
