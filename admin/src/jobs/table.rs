//! The rows of jobs: starting, finding, stopping.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::Clock;
use storage::{Batch, Read, Store};
use tokio::sync::{Notify, broadcast};

use super::kind::{JobKind, kinds};
use super::row::{JOBS, JobId, JobRow, JobState};
use crate::caller::Caller;
use crate::error::AdminError;

/// How many jobs can be waiting or running.
const MAX_ACTIVE: usize = 10_000;
/// How many jobs that are over are kept.
const MAX_OVER: usize = 2_000;
/// The longest arguments and results, in bytes of JSON.
const MAX_JSON: usize = 32 * 1024;
/// How many ends of jobs are kept for a listener that is slow.
const ENDS: usize = 256;

/// All jobs: cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    /// Held while a row is changed.
    writing: tokio::sync::Mutex<u64>,
    /// What is not over, with its kind.
    active: Mutex<BTreeMap<JobId, String>>,
    wakers: HashMap<&'static str, Notify>,
    ends: broadcast::Sender<JobId>,
}

/// Which jobs are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct JobQuery {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those that are done to this.
    pub target: Option<String>,
    /// Only those that are not over.
    pub active: bool,
    /// Only those before this one.
    pub before: Option<JobId>,
}

/// Jobs, the newest first.
#[derive(Clone, Debug, Default)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<(JobId, JobRow)>,
    /// There may be more before this one.
    pub next: Option<JobId>,
}

impl Jobs {
    /// Reads all rows.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) fn open(store: Store, clock: Clock) -> Result<Jobs, AdminError> {
        let mut active = BTreeMap::new();
        let mut last = 0;
        for row in store.scan(&JOBS, &()).iter() {
            let (id, row) = row?;
            last = id;
            if !row.state.is_over() {
                active.insert(JobId(id), row.kind);
            }
        }
        Ok(Jobs(Arc::new(Inner {
            store,
            clock,
            writing: tokio::sync::Mutex::new(last),
            active: Mutex::new(active),
            wakers: kinds().into_iter().map(|kind| (kind.name, Notify::new())).collect(),
            ends: broadcast::Sender::new(ENDS),
        })))
    }

    /// Starts a job, or lets it wait for others of its kind. Once this returns, the job is done, also if the server is
    /// restarted. An operation answers with the number: `Outcome::from(job)`. Cancel-safe: it is started or not.
    ///
    /// # Errors
    /// `Unavailable` if too many wait; if the row cannot be written.
    pub async fn start<K: JobKind>(&self, caller: &Caller, arguments: &K::Arguments) -> Result<JobId, AdminError> {
        let target = K::target(arguments);
        let arguments = serde_json::to_string(arguments).map_err(AdminError::internal)?;
        if arguments.len() > MAX_JSON {
            return Err(AdminError::TooLarge(format!("the arguments are larger than {MAX_JSON} bytes")));
        }
        let row = JobRow {
            kind: K::NAME.to_owned(),
            target,
            arguments,
            cursor: None,
            state: JobState::Queued,
            progress: String::new(),
            done: 0,
            total: None,
            result: None,
            error: None,
            who: caller.who.to_string(),
            face: caller.face,
            created_ms: self.0.clock.now_ms(),
            started_ms: None,
            ended_ms: None,
        };
        let mut last = self.0.writing.lock().await;
        if self.0.active.lock().len() >= MAX_ACTIVE {
            return Err(AdminError::unavailable("too many jobs are waiting"));
        }
        let id = last.saturating_add(1);
        let mut batch = Batch::new();
        batch.expect_absent(&JOBS, &id).put(&JOBS, &id, &row);
        self.forget_old(&mut batch)?;
        self.0.store.commit(batch).await?;
        *last = id;
        self.0.active.lock().insert(JobId(id), row.kind);
        if let Some(waker) = self.0.wakers.get(K::NAME) {
            waker.notify_one();
        }
        Ok(JobId(id))
    }

    /// Takes out the oldest jobs that are over, beyond those that are kept.
    fn forget_old(&self, batch: &mut Batch) -> Result<(), AdminError> {
        let active = self.0.active.lock().clone();
        let over = |key: &Result<u64, _>| key.as_ref().map_or(true, |id| !active.contains_key(&JobId(*id)));
        for id in self.0.store.scan(&JOBS, &()).reverse().keys().filter(over).skip(MAX_OVER) {
            batch.delete(&JOBS, &id?);
        }
        Ok(())
    }

    /// A job.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn get(&self, id: JobId) -> Result<JobRow, AdminError> {
        let row = self.0.store.get(&JOBS, &id.0)?;
        row.ok_or_else(|| AdminError::not_found(format!("there is no job {id}, or it was over long ago")))
    }

    /// Finds jobs.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn list(&self, query: &JobQuery, limit: usize) -> Result<JobPage, AdminError> {
        let mut scan = self.0.store.scan(&JOBS, &()).reverse();
        if let Some(before) = query.before {
            scan = scan.until(&before.0);
        }
        let mut page = JobPage::default();
        for row in scan.iter() {
            let (id, row) = row?;
            if !query.fits(&row) {
                continue;
            }
            page.jobs.push((JobId(id), row));
            if page.jobs.len() >= limit {
                page.next = Some(JobId(id));
                break;
            }
        }
        Ok(page)
    }

    /// Stops a job after its present step. What it has done stays done. Returns the state it is in now.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn cancel(&self, id: JobId) -> Result<JobState, AdminError> {
        let row = self.change(id, |row| match row.state {
            JobState::Queued => row.state = JobState::Cancelled,
            JobState::Running => row.state = JobState::Cancelling,
            JobState::Cancelling | JobState::Done | JobState::Failed | JobState::Cancelled => {}
        });
        Ok(row.await?.state)
    }

    /// Waits until a job is over; returns it. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn wait(&self, id: JobId) -> Result<JobRow, AdminError> {
        let mut ends = self.0.ends.subscribe();
        loop {
            let row = self.get(id)?;
            if row.state.is_over() {
                return Ok(row);
            }
            match ends.recv().await {
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(AdminError::unavailable("the server is shutting down"));
                }
            }
        }
    }

    /// As [`Jobs::wait`], but not longer than `limit`: then the job is returned as it is. Cancel-safe.
    ///
    /// # Errors
    /// As [`Jobs::wait`].
    pub async fn wait_within(&self, id: JobId, limit: Duration) -> Result<JobRow, AdminError> {
        tokio::select! {
            row = self.wait(id) => row,
            () = self.0.clock.sleep(limit) => self.get(id),
        }
    }

    /// How many jobs wait or run.
    pub(crate) fn count_active(&self) -> usize {
        self.0.active.lock().len()
    }

    /// Hears of every job that is over from now on.
    #[must_use]
    pub fn ends(&self) -> broadcast::Receiver<JobId> {
        self.0.ends.subscribe()
    }

    /// Changes a row. When it is over then, whoever waits hears of it.
    pub(super) async fn change(&self, id: JobId, change: impl FnOnce(&mut JobRow)) -> Result<JobRow, AdminError> {
        let _writing = self.0.writing.lock().await;
        let before = self.get(id)?;
        let mut row = before.clone();
        change(&mut row);
        if row == before {
            return Ok(row);
        }
        if row.state.is_over() {
            row.ended_ms = Some(self.0.clock.now_ms());
        }
        let mut batch = Batch::new();
        batch.put(&JOBS, &id.0, &row);
        self.0.store.commit(batch).await?;
        if row.state.is_over() {
            self.0.active.lock().remove(&id);
            // Nobody need be listening.
            let _ = self.0.ends.send(id);
        }
        Ok(row)
    }

    /// The job of a kind that is next, once there is one. Cancel-safe.
    pub(super) async fn next_of(&self, kind: &'static str) -> Option<JobId> {
        let waker = self.0.wakers.get(kind)?;
        loop {
            let next = self.0.active.lock().iter().find(|(_, other)| *other == kind).map(|(id, _)| *id);
            match next {
                Some(id) => return Some(id),
                None => waker.notified().await,
            }
        }
    }
}

impl JobQuery {
    fn fits(&self, row: &JobRow) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == row.kind)
            && self.target.as_ref().is_none_or(|target| row.target.as_ref() == Some(target))
            && !(self.active && row.state.is_over())
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}
