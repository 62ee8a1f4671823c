//! Doing jobs, a step at a time.

use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::kind::{Kind, Step, kinds};
use super::row::{JobId, JobRow, JobState};
use crate::admin::Admin;
use crate::audit::{Ending, NewRecord};
use crate::caller::Caller;
use crate::error::AdminError;

/// The longest rest between two steps.
const MAX_REST: Duration = Duration::from_secs(1);
/// How often a step is tried that fails for a while.
const MAX_ATTEMPTS: u32 = 20;
/// The wait before the second attempt; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Starts doing jobs: one task a kind.
pub(crate) fn start_runners(admin: &Admin) {
    for kind in kinds() {
        let (admin, shutdown) = (admin.clone(), admin.tasks().shutdown_token());
        admin.clone().tasks().spawn("jobs", async move {
            let running = async {
                while let Some(id) = admin.jobs().next_of(kind.name).await {
                    if let Err(error) = run_job(&admin, kind, id).await {
                        tracing::error!(job = id.0, kind = kind.name, %error, "a job cannot go on");
                        admin.clock().sleep(MAX_WAIT).await;
                    }
                }
            };
            // Dropped between or within steps: the next start resumes.
            shutdown.run_until_cancelled(running).await;
        });
    }
}

/// Does a job to its end.
///
/// # Errors
/// If its row cannot be read or written.
async fn run_job(admin: &Admin, kind: Kind, id: JobId) -> Result<(), AdminError> {
    let started_ms = admin.clock().now_ms();
    let row = admin.jobs().change(id, |row| {
        match row.state {
            JobState::Queued | JobState::Running => row.state = JobState::Running,
            JobState::Cancelling => row.state = JobState::Cancelled,
            JobState::Done | JobState::Failed | JobState::Cancelled => {}
        }
        row.started_ms.get_or_insert(started_ms);
    });
    let mut row = row.await?;
    let mut attempts = 0;
    while !row.state.is_over() {
        let begun = admin.clock().monotonic();
        let outcome = run_step(admin, kind, &row).await;
        let took = admin.clock().monotonic().saturating_sub(begun);
        match outcome {
            Err(error) if error.is_temporary() && attempts < MAX_ATTEMPTS => {
                tracing::warn!(job = id.0, kind = kind.name, %error, "a step of a job is tried again later");
                admin.clock().sleep(FIRST_WAIT.saturating_mul(1 << attempts.min(16)).min(MAX_WAIT)).await;
                attempts += 1;
                row = admin.jobs().change(id, stop_if_cancelled).await?;
            }
            outcome => {
                attempts = 0;
                row = admin.jobs().change(id, |row| apply(row, outcome)).await?;
                admin.clock().sleep(took.min(MAX_REST)).await;
                tokio::task::yield_now().await;
            }
        }
    }
    record_end(admin, id, &row).await
}

/// In a task of its own: a step that panics fails its job, and not all of its kind.
async fn run_step(admin: &Admin, kind: Kind, row: &JobRow) -> Result<Step<String>, AdminError> {
    let work = (kind.step)(admin.clone(), row.arguments.clone(), row.cursor.clone());
    let (answer, answered) = oneshot::channel();
    admin.tasks().spawn("job step", async move {
        // The runner may have been dropped at the shutdown.
        let _ = answer.send(work.await);
    });
    answered.await.unwrap_or_else(|_| Err(AdminError::internal("the step did not end")))
}

fn apply(row: &mut JobRow, outcome: Result<Step<String>, AdminError>) {
    match outcome {
        Ok(Step::More(cursor, progress)) => {
            row.cursor = Some(cursor);
            row.progress = progress.text;
            row.done = progress.done;
            row.total = progress.total;
            stop_if_cancelled(row);
        }
        Ok(Step::Done(result)) => {
            row.result = Some(result.to_string());
            row.state = JobState::Done;
        }
        Err(error) => {
            row.error = Some(error.to_string());
            row.state = JobState::Failed;
        }
    }
}

fn stop_if_cancelled(row: &mut JobRow) {
    if row.state == JobState::Cancelling {
        row.state = JobState::Cancelled;
    }
}

async fn record_end(admin: &Admin, id: JobId, row: &JobRow) -> Result<(), AdminError> {
    tracing::info!(job = id.0, kind = row.kind, state = row.state.name(), "a job is over");
    admin.meters().count_job(row.state);
    let arguments = json!({"job": id, "kind": row.kind, "target": row.target, "state": row.state.name()});
    let ending = if row.state == JobState::Failed { Ending::Failed } else { Ending::Done };
    let caller = Caller::server();
    let record = NewRecord { caller: &caller, operation: "job end", arguments: &arguments };
    admin.audit().note(record, ending, row.error.clone()).await
}
