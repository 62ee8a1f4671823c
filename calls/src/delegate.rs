//! Leave events that clients hand over: delayed events (MSC4140) that are sent when their participant is gone from the
//! media server, and restarted as long as it is there (MSC4195 §Delegating delayed leave events).

mod machine;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rooms::{DelayError, RoomError, UserNid};
use serde::{Deserialize, Serialize};
use spec::ids::UserId;
use storage::{Batch, CommitError, Keyspace, Profile, Read};
use tokio::sync::Notify;

use crate::admit::Entrance;
use crate::calls::Calls;
use crate::error::CallError;
use crate::seat::{LegKey, Seat};
use machine::{Action, Job, Outcome};

/// (Call, participant) → the leave event that was delegated for it.
pub(crate) const LEAVE_JOBS: Keyspace<(String, String), LeaveRow> = Keyspace::new("call_leaves", Profile::Points);

/// How many leave events are looked after.
const MAX_JOBS: usize = 20_000;
/// How many of them may be of one user.
const MAX_JOBS_OF_USER: usize = 32;
/// The longest sleep, in milliseconds: the operator may set the machine's clock.
const MAX_SLEEP_MS: u64 = 60_000;

/// A delegated leave event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaveRow {
    delay_id: String,
    delay_ms: u64,
    user: UserNid,
}
storage::stored!(LeaveRow, 1);

/// The leave events that are looked after.
#[derive(Default)]
pub(crate) struct Leaves {
    jobs: Mutex<BTreeMap<LegKey, Job>>,
    /// The next one may be due earlier.
    wake: Notify,
}

impl Calls {
    /// Looks after the leave event of a participant from now on, instead of the one that was delegated before. The
    /// participant may be in the call already, or come. Cancel-safe.
    ///
    /// # Errors
    /// [`CallError::UnknownDelay`], [`CallError::TooMany`]; [`CallError::NotInRoom`] and others as [`Calls::admit`].
    pub async fn delegate_leave(
        &self,
        user: &UserId,
        seat: &Seat,
        delay_id: &str,
        entrance: Entrance,
    ) -> Result<(), CallError> {
        self.media()?;
        let (key, grant) = self.seat_guest(user, seat, entrance)?;
        let event = self.rooms.delayed_event(delay_id)?.ok_or(CallError::UnknownDelay)?;
        if event.owner != grant.user || event.room != grant.room || event.outcome.is_some() {
            return Err(CallError::UnknownDelay);
        }
        let row = LeaveRow { delay_id: event.id, delay_ms: event.delay_ms, user: grant.user };
        self.expect_place(&key, grant.user)?;
        let mut batch = Batch::new();
        batch.put(&LEAVE_JOBS, &key.row_key(), &row);
        self.store.commit(batch).await?;
        let now = self.clock.now_ms();
        let mut job = Job::new(row.delay_id, row.delay_ms, row.user, now);
        {
            let mut jobs = self.leaves.jobs.lock();
            // Under the lock: who joins later finds the job, and who has gone was taken out of the table before.
            if self.table.contains(&key) {
                job.joined(now);
            }
            jobs.insert(key, job);
        }
        self.leaves.wake.notify_one();
        Ok(())
    }

    fn expect_place(&self, key: &LegKey, user: UserNid) -> Result<(), CallError> {
        let jobs = self.leaves.jobs.lock();
        if jobs.contains_key(key) {
            return Ok(());
        }
        let of_user = jobs.values().filter(|job| job.user == user).count();
        if jobs.len() >= MAX_JOBS || of_user >= MAX_JOBS_OF_USER { Err(CallError::TooMany) } else { Ok(()) }
    }

    /// The participant is in the call.
    pub(crate) fn note_back(&self, key: &LegKey) {
        if let Some(job) = self.leaves.jobs.lock().get_mut(key) {
            job.joined(self.clock.now_ms());
        }
        self.leaves.wake.notify_one();
    }

    /// The participant, who is in the table no more, is gone.
    pub(crate) fn note_gone(&self, key: &LegKey) {
        if let Some(job) = self.leaves.jobs.lock().get_mut(key) {
            job.left(self.clock.now_ms());
        }
        self.leaves.wake.notify_one();
    }

    /// Whether no leave event is looked after, in memory and on the disk.
    #[cfg(test)]
    pub(crate) fn is_watching_nothing(&self) -> bool {
        self.leaves.jobs.lock().is_empty() && self.store.scan(&LEAVE_JOBS, &()).is_empty().unwrap()
    }

    /// Takes up what was delegated before the last end of this server.
    pub(crate) fn load_leaves(&self) -> Result<(), CallError> {
        let now = self.clock.now_ms();
        for row in self.store.scan(&LEAVE_JOBS, &()).iter() {
            let (key, row) = row?;
            let key = LegKey::from(key);
            let mut jobs = self.leaves.jobs.lock();
            if jobs.contains_key(&key) {
                continue;
            }
            let mut job = Job::resumed(row.delay_id, row.delay_ms, row.user, now);
            if self.table.contains(&key) {
                job.joined(now);
            }
            jobs.insert(key, job);
        }
        Ok(())
    }

    /// Restarts and sends what is due, until shutdown.
    pub(crate) async fn watch_leaves(&self) {
        let shutdown = self.tasks.shutdown_token();
        loop {
            let next_ms = self.act_on_due();
            tokio::select! {
                () = self.clock.sleep_until_ms(next_ms) => {}
                () = self.leaves.wake.notified() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Begins what is due; returns when something else is, or when it is to be looked again.
    fn act_on_due(&self) -> u64 {
        let now = self.clock.now_ms();
        let mut jobs = self.leaves.jobs.lock();
        for (key, job) in jobs.iter_mut() {
            let Some(action) = job.begin(now) else { continue };
            let (calls, key) = (self.clone(), key.clone());
            let row = LeaveRow { delay_id: job.delay_id.clone(), delay_ms: job.delay_ms, user: job.user };
            let shutdown = self.tasks.shutdown_token();
            self.tasks.spawn("delegated leave", async move {
                shutdown.run_until_cancelled(calls.act(key, row, action)).await;
            });
        }
        let next = jobs.values().filter_map(Job::due_ms).min();
        next.unwrap_or(u64::MAX).clamp(now.saturating_add(1), now.saturating_add(MAX_SLEEP_MS))
    }

    /// Does one thing with a delayed event.
    async fn act(self, key: LegKey, row: LeaveRow, action: Action) {
        let done = match action {
            Action::Restart => self.rooms.restart_delayed(&row.delay_id).await,
            Action::Send => self.send_leave(&row).await,
        };
        let outcome = judge(done);
        if outcome == Outcome::Failed {
            tracing::warn!(
                user = row.user.0,
                ?action,
                "a delegated leave event could not be handled; it is tried again"
            );
        }
        let is_over = {
            let mut jobs = self.leaves.jobs.lock();
            // Another one may have taken its place meanwhile.
            match jobs.get_mut(&key).filter(|job| job.delay_id == row.delay_id) {
                Some(job) => !job.finish(action, outcome, self.clock.now_ms()) && jobs.remove(&key).is_some(),
                None => false,
            }
        };
        self.leaves.wake.notify_one();
        if is_over && let Err(error) = self.forget_leave(&key, &row).await {
            tracing::warn!(%error, "a delegated leave event that is over was not forgotten");
        }
    }

    async fn send_leave(&self, row: &LeaveRow) -> Result<(), DelayError> {
        let may_send = self.users.may_send(row.user);
        let may_send = may_send.inspect_err(|error| tracing::error!(%error, "an account could not be read"));
        match may_send {
            Ok(true) => self.rooms.send_delayed(&row.delay_id).await.map(drop),
            // Its own time will come, and end it.
            Ok(false) => Err(DelayError::Ended),
            Err(_) => Err(RoomError::Busy.into()),
        }
    }

    async fn forget_leave(&self, key: &LegKey, row: &LeaveRow) -> Result<(), CallError> {
        let mut batch = Batch::new();
        batch.expect_equals(&LEAVE_JOBS, &key.row_key(), row);
        batch.delete(&LEAVE_JOBS, &key.row_key());
        match self.store.commit(batch).await {
            // Another one has taken its place.
            Ok(_) | Err(CommitError::Expectation { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether it is worth trying again.
fn judge(done: Result<(), DelayError>) -> Outcome {
    match done {
        Ok(()) => Outcome::Done,
        Err(DelayError::Room(error)) => match error {
            RoomError::Busy
            | RoomError::RemoteUnavailable(_)
            | RoomError::RemoteRefused { .. }
            | RoomError::NotRecommended { .. }
            | RoomError::Storage(_)
            | RoomError::Commit(_) => Outcome::Failed,
            _ => Outcome::Gone,
        },
        Err(
            DelayError::NotFound
            | DelayError::Ended
            | DelayError::Off
            | DelayError::TooLong { .. }
            | DelayError::TooMany { .. },
        ) => Outcome::Gone,
    }
}
