//! The writer: one queue a room, made when something is to be written and gone when it is empty.
//!
//! Everything that adds events to a room goes through [`Rooms::append`]. Commands of one event that
//! wait together are committed together, up to [`GROUP`]; a command of several events is a commit of
//! its own, so that it happens whole or not at all. A writer runs as a task of its own: a request
//! that is dropped leaves nothing half done.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use spec::ids::EventId;
use storage::CommitError;
use tokio::sync::oneshot;

use crate::append::{Append, Change};
use crate::checked::CheckedPdu;
use crate::draft::{Draft, Transaction};
use crate::error::RoomError;
use crate::ids::{RoomNid, UserNid};
use crate::memory::Pending;
use crate::policy::Drafted;
use crate::receive::{Received, Verdict};
use crate::rooms::Rooms;

/// The most commands of one commit.
const GROUP: usize = 32;
/// The most commands that wait for one room before more are refused.
const MAX_WAITING: usize = 1024;
/// Longer commands are logged.
const SLOW: Duration = Duration::from_millis(50);

/// The queues of rooms with something to write: an entry is here exactly as long as its writer runs.
#[derive(Default)]
pub(crate) struct Queues(Mutex<HashMap<RoomNid, VecDeque<Command>>>);

impl Queues {
    /// How many rooms have something to write.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }
}

enum Command {
    /// Events of ours.
    Append(Drafted),
    /// Whatever concerns events of other servers: worked on off the async workers, a commit of its own.
    Job(Job),
}

/// Changes a room, says whether to commit that, and how to answer once it is committed.
type Job = Box<dyn FnOnce(&mut Append<'_>) -> (bool, JobAnswer) + Send>;
type JobAnswer = Box<dyn FnOnce(Result<(), RoomError>) + Send>;

impl Command {
    /// Whether it is of one event of ours: those are committed together.
    fn may_share(&self) -> bool {
        matches!(self, Command::Append(drafted) if drafted.drafts.len() == 1)
    }
}

impl Rooms {
    /// Appends events to a room: builds, signs, authorises and commits them, all or none. Returns
    /// their ids, once they are as durable as configured. With a transaction that was used before,
    /// returns what it made then. Where the room uses a policy server, that has to recommend the events first, and this
    /// waits for it. Cancel-safe: once submitted, the command is carried out.
    ///
    /// # Errors
    /// What forbids the first event that cannot be appended; those of [`Rooms::recommend`]; [`RoomError::NotResident`]
    /// for a room that other servers are in and this one is not; [`RoomError::Busy`] if too much waits, or it has
    /// waited too long for its turn with the policy server.
    pub async fn append(
        &self,
        room: RoomNid,
        drafts: Vec<Draft>,
        transaction: Option<(UserNid, Transaction)>,
    ) -> Result<Vec<EventId>, RoomError> {
        self.expect_resident(room)?;
        let (reply, answer) = oneshot::channel();
        let at = self.clock.monotonic();
        self.submit(room, Command::Append(Drafted { drafts, transaction, reply, at }))?;
        let outcome = answer.await.unwrap_or(Err(RoomError::Busy));
        match &outcome {
            Ok(_) => self.meters.append.observe_duration(self.clock.monotonic().saturating_sub(at)),
            Err(_) => self.meters.refused.add(1),
        }
        outcome
    }

    /// Hands received events to the room's writer.
    pub(crate) async fn submit_received(
        &self,
        room: RoomNid,
        received: Vec<Received>,
    ) -> Result<Vec<Result<Verdict, RoomError>>, RoomError> {
        let verdicts = self.submit_job(room, move |append| append.receive_group(received)).await?;
        self.meters.count_verdicts(&verdicts);
        Ok(verdicts)
    }

    /// Hands events outside of the timeline to the room's writer.
    pub(crate) async fn submit_outliers(
        &self,
        room: RoomNid,
        pdus: Vec<CheckedPdu>,
    ) -> Result<Vec<Result<Verdict, RoomError>>, RoomError> {
        self.submit_job(room, move |append| append.receive_outliers(pdus)).await
    }

    /// Hands history to the room's writer.
    pub(crate) async fn submit_backfill(&self, room: RoomNid, received: Vec<Received>) -> Result<usize, RoomError> {
        self.submit_job(room, move |append| append.backfill(received)).await
    }

    /// Hands the join of a room of other servers to the room's writer.
    pub(crate) async fn submit_enter(
        &self,
        room: RoomNid,
        join: CheckedPdu,
        state: Vec<EventId>,
    ) -> Result<(), RoomError> {
        self.submit_job(room, move |append| append.enter(&join, &state)).await
    }

    /// Has the room's writer change the room by `work`, and commits that unless it fails. Cancel-safe: once submitted,
    /// it is carried out.
    pub(crate) async fn submit_job<T: Send + 'static>(
        &self,
        room: RoomNid,
        work: impl FnOnce(&mut Append<'_>) -> Result<T, RoomError> + Send + 'static,
    ) -> Result<T, RoomError> {
        self.run_job(room, true, work).await
    }

    /// As [`Rooms::submit_job`] for work that nobody waits for, named `what`.
    pub(crate) fn submit_unwatched(
        &self,
        room: RoomNid,
        what: &'static str,
        work: impl FnOnce(&mut Append<'_>) -> Result<(), RoomError> + Send + 'static,
    ) -> Result<(), RoomError> {
        let report = move |outcome: Result<(), RoomError>| {
            if let Err(error) = outcome {
                tracing::error!(room = room.0, %error, "{what} failed");
            }
        };
        let job: Job = Box::new(move |append| {
            let outcome = work(append);
            let is_kept = outcome.is_ok();
            (is_kept, Box::new(move |committed| report(outcome.and(committed))))
        });
        self.submit(room, Command::Job(job))
    }

    /// As [`Rooms::submit_job`], without committing anything: what `work` would change.
    pub(crate) async fn try_job<T: Send + 'static>(
        &self,
        room: RoomNid,
        work: impl FnOnce(&mut Append<'_>) -> Result<T, RoomError> + Send + 'static,
    ) -> Result<T, RoomError> {
        self.run_job(room, false, work).await
    }

    async fn run_job<T: Send + 'static>(
        &self,
        room: RoomNid,
        commits: bool,
        work: impl FnOnce(&mut Append<'_>) -> Result<T, RoomError> + Send + 'static,
    ) -> Result<T, RoomError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |append| {
            let outcome = work(append);
            let is_kept = commits && outcome.is_ok();
            // Whoever asked may have gone; what is committed stays.
            let answer = move |committed: Result<(), RoomError>| {
                drop(reply.send(outcome.and_then(|value| committed.map(|()| value))));
            };
            (is_kept, Box::new(answer))
        });
        self.submit(room, Command::Job(job))?;
        answer.await.unwrap_or(Err(RoomError::Busy))
    }

    fn submit(&self, room: RoomNid, command: Command) -> Result<(), RoomError> {
        if self.memory.gone.read().contains(&room) {
            return Err(RoomError::RoomNotFound);
        }
        let is_first = {
            let mut queues = self.queues.0.lock();
            match queues.get_mut(&room) {
                Some(queue) if queue.len() >= MAX_WAITING => return Err(RoomError::Busy),
                Some(queue) => {
                    queue.push_back(command);
                    false
                }
                None => {
                    queues.insert(room, VecDeque::from([command]));
                    true
                }
            }
        };
        if is_first {
            let rooms = self.clone();
            self.tasks.spawn("room writer", async move { rooms.drain(room).await });
        }
        Ok(())
    }

    async fn drain(&self, room: RoomNid) {
        let mut guard = QueueGuard { rooms: self, room, has_ended: false };
        loop {
            let group = {
                let mut queues = self.queues.0.lock();
                let group = queues.get_mut(&room).map(take_group).unwrap_or_default();
                if group.is_empty() {
                    queues.remove(&room);
                    guard.has_ended = true;
                    return;
                }
                group
            };
            let started = self.clock.monotonic();
            let commands = group.len();
            if self.memory.gone.read().contains(&room) {
                // What came before it was deleted: those who wait learn that nothing was written.
                continue;
            }
            self.write_group(room, group).await;
            let elapsed = self.clock.monotonic().saturating_sub(started);
            if elapsed > SLOW {
                tracing::debug!(room = room.0, commands, ?elapsed, "slow room write");
            }
        }
    }

    async fn write_group(&self, room: RoomNid, group: Vec<Command>) {
        let mut drafted = Vec::with_capacity(group.len());
        for command in group {
            match command {
                Command::Append(command) => drafted.push(command),
                // Groups hold one kind or the other.
                Command::Job(job) => return self.write_job(room, job).await,
            }
        }
        let head = match self.head(room) {
            Ok(head) => head,
            Err(error) => return report_unreadable(room, &error),
        };
        let mut append = Append::new(self, (*head).clone());
        let mut answers = Vec::with_capacity(drafted.len());
        let mut sent_at = None;
        for command in drafted {
            match append.needs_policy_server(&command.drafts) {
                Ok(false) => {}
                Ok(true) => {
                    self.set_aside(room, command);
                    continue;
                }
                Err(error) => {
                    drop(command.reply.send(Err(error)));
                    continue;
                }
            }
            let Drafted { drafts, transaction, reply, at } = command;
            sent_at.get_or_insert(at);
            let before = append.added();
            match append.add_command(drafts, transaction) {
                Ok(ids) => answers.push((reply, ids)),
                Err(error) => {
                    drop(reply.send(Err(error)));
                    if append.added() != before {
                        // Half of it is among the rows: nothing of the group is committed.
                        return answers.into_iter().for_each(|(reply, _)| drop(reply.send(Err(RoomError::Busy))));
                    }
                }
            }
        }
        let added = append.added();
        let committed = match append.finish() {
            Some(change) => self.commit_change(room, change, sent_at).await,
            None => Ok(()),
        };
        if committed.is_ok() {
            self.meters.sent.add(added as u64);
        }
        for (reply, ids) in answers {
            drop(reply.send(committed.as_ref().map(|()| ids).map_err(|error| error.clone().into())));
        }
    }

    async fn write_job(&self, room: RoomNid, job: Job) {
        let rooms = self.clone();
        let work = move || {
            let head = rooms.head(room)?;
            let mut append = Append::new(&rooms, (*head).clone());
            let (succeeded, answer) = job(&mut append);
            Ok((append.finish().filter(|_| succeeded), answer))
        };
        // Without an outcome the job was dropped, and whoever waits for it learns that.
        let Ok(outcome) = self.tasks.compute("room write", work).await else { return };
        match outcome {
            Ok((Some(change), answer)) => answer(self.commit_change(room, change, None).await.map_err(RoomError::from)),
            Ok((None, answer)) => answer(Ok(())),
            Err(error) => report_unreadable(room, &error),
        }
    }

    /// `sent_at` is when the first of its events was asked for, if they are ours.
    async fn commit_change(&self, room: RoomNid, change: Change, sent_at: Option<Duration>) -> Result<(), CommitError> {
        for batch in change.before {
            self.store.commit(batch).await?;
        }
        if change.is_quiet {
            return self.store.commit(change.batch).await.map(drop);
        }
        let pending = Pending { head: change.head, members_changed: change.members_changed, sent_at };
        self.memory.pending.lock().insert(room, pending);
        let committed = self.store.commit(change.batch).await;
        if committed.is_err() {
            self.memory.pending.lock().remove(&room);
            return committed.map(drop);
        }
        if change.ends_partial {
            self.full_state.notify_waiters();
        }
        if change.members_changed
            && let Err(error) = self.show_early_invites(room)
        {
            tracing::warn!(room = room.0, %error, "kept invitations are not looked at before the next change of members");
        }
        committed.map(drop)
    }
}

/// Takes the queue away however its writer ends: with a queue and no writer the room could be written to no more.
struct QueueGuard<'a> {
    rooms: &'a Rooms,
    room: RoomNid,
    has_ended: bool,
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.rooms.queues.0.lock().remove(&self.room);
        }
    }
}

/// The next commands to commit together: several of one event each, or one of several.
fn take_group(queue: &mut VecDeque<Command>) -> Vec<Command> {
    let single = queue.iter().take(GROUP).take_while(|command| command.may_share()).count();
    queue.drain(..single.max(1).min(queue.len())).collect()
}

/// Those who wait learn that nothing was written when their answers are dropped.
fn report_unreadable(room: RoomNid, error: &RoomError) {
    tracing::error!(room = room.0, %error, "a room's head cannot be read");
}
