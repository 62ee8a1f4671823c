use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::kind::{JobKind, Progress, Step};
use super::row::{JobId, JobState};
use super::runner::start_runners;
use super::table::JobQuery;
use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::fixture::Fixture;

/// Counts. It waits where it is told to, and stumbles where it is told to.
pub(super) struct Count;

#[derive(Serialize, Deserialize)]
pub(super) struct CountArguments {
    to: u64,
    /// Waits at this number for the clock.
    pause_at: Option<u64>,
    /// Fails at this number.
    fail_at: Option<u64>,
}

impl JobKind for Count {
    const NAME: &'static str = "count";
    type Arguments = CountArguments;
    type Cursor = u64;

    fn target(_: &CountArguments) -> Option<String> {
        Some("!a".to_owned())
    }

    async fn step(admin: &Admin, arguments: &CountArguments, cursor: u64) -> Result<Step<u64>, AdminError> {
        if arguments.fail_at == Some(cursor) {
            return Err(AdminError::invalid("it stumbled"));
        }
        if arguments.pause_at == Some(cursor) && admin.clock().now_ms() < 1_700_000_001_000 {
            return Err(AdminError::unavailable("it is not time yet"));
        }
        let next = cursor + 1;
        if next >= arguments.to {
            return Ok(Step::Done(json!({"counted": next})));
        }
        Ok(Step::More(next, Progress::new("counting", next, Some(arguments.to))))
    }
}

async fn start(fixture: &Fixture, arguments: CountArguments) -> JobId {
    fixture.admin.jobs().start::<Count>(&Caller::server(), &arguments).await.unwrap()
}

fn count(to: u64) -> CountArguments {
    CountArguments { to, pause_at: None, fail_at: None }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_step_by_step() {
    let fixture = Fixture::new();
    let id = start(&fixture, count(5)).await;
    assert_eq!(fixture.admin.jobs().get(id).unwrap().state, JobState::Queued);
    start_runners(&fixture.admin);
    let row = fixture.admin.jobs().wait(id).await.unwrap();
    assert_eq!((row.state, row.result.as_deref()), (JobState::Done, Some(r#"{"counted":5}"#)));
    assert_eq!((row.done, row.total), (4, Some(5)));
    let found = |query: JobQuery| fixture.admin.jobs().list(&query, 10).unwrap().jobs.len();
    assert_eq!(found(JobQuery { target: Some("!a".to_owned()), ..JobQuery::default() }), 1);
    assert_eq!(found(JobQuery { target: Some("!b".to_owned()), ..JobQuery::default() }), 0);
    assert_eq!(found(JobQuery { active: true, ..JobQuery::default() }), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_resumes_a_job_where_it_was() {
    let fixture = Fixture::new();
    let id = start(&fixture, CountArguments { pause_at: Some(3), ..count(6) }).await;
    let behind = start(&fixture, count(2)).await;
    start_runners(&fixture.admin);
    until(|| fixture.admin.jobs().get(id).unwrap().done == 3).await;
    let fixture = fixture.restart().await;
    let row = fixture.admin.jobs().get(id).unwrap();
    assert_eq!((row.state, row.cursor.as_deref()), (JobState::Running, Some("3")));
    assert_eq!(fixture.admin.jobs().get(behind).unwrap().state, JobState::Queued);
    fixture.clock.advance(Duration::from_secs(2));
    start_runners(&fixture.admin);
    assert_eq!(fixture.admin.jobs().wait(id).await.unwrap().state, JobState::Done);
    assert_eq!(fixture.admin.jobs().wait(behind).await.unwrap().state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_ends_its_job_only() {
    let fixture = Fixture::new();
    let bad = start(&fixture, CountArguments { fail_at: Some(1), ..count(6) }).await;
    let good = start(&fixture, count(2)).await;
    start_runners(&fixture.admin);
    let row = fixture.admin.jobs().wait(bad).await.unwrap();
    assert_eq!((row.state, row.error.as_deref()), (JobState::Failed, Some("it stumbled")));
    assert_eq!(fixture.admin.jobs().wait(good).await.unwrap().state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_a_while_is_tried_again() {
    let fixture = Fixture::new();
    let id = start(&fixture, CountArguments { pause_at: Some(1), ..count(3) }).await;
    start_runners(&fixture.admin);
    until(|| fixture.admin.jobs().get(id).unwrap().done == 1).await;
    let clock = fixture.clock.clone();
    until(|| {
        clock.advance(Duration::from_secs(1));
        fixture.admin.jobs().get(id).unwrap().state.is_over()
    })
    .await;
    assert_eq!(fixture.admin.jobs().get(id).unwrap().state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_be_stopped() {
    let fixture = Fixture::new();
    let running = start(&fixture, CountArguments { pause_at: Some(2), ..count(6) }).await;
    let queued = start(&fixture, count(2)).await;
    start_runners(&fixture.admin);
    until(|| fixture.admin.jobs().get(running).unwrap().done == 2).await;
    assert_eq!(fixture.admin.jobs().cancel(queued).await.unwrap(), JobState::Cancelled);
    assert_eq!(fixture.admin.jobs().cancel(running).await.unwrap(), JobState::Cancelling);
    let clock = fixture.clock.clone();
    until(|| {
        clock.advance(Duration::from_millis(100));
        fixture.admin.jobs().get(running).unwrap().state.is_over()
    })
    .await;
    assert_eq!(fixture.admin.jobs().get(running).unwrap().state, JobState::Cancelled);
    // What is over stays as it is.
    assert_eq!(fixture.admin.jobs().cancel(queued).await.unwrap(), JobState::Cancelled);
    assert!(fixture.admin.jobs().cancel(JobId(99)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_job_longer_than_they_want() {
    let fixture = Fixture::new();
    let id = start(&fixture, CountArguments { pause_at: Some(1), ..count(3) }).await;
    start_runners(&fixture.admin);
    until(|| fixture.admin.jobs().get(id).unwrap().done == 1).await;
    let (clock, seen) = (fixture.clock.clone(), parking_lot::Mutex::new(None));
    let waiting = async {
        let row = fixture.admin.jobs().wait_within(id, Duration::from_millis(500)).await.unwrap();
        *seen.lock() = Some(row.state);
    };
    // The pause is longer than that.
    let moving = until(|| {
        clock.advance(Duration::from_millis(1));
        seen.lock().is_some()
    });
    tokio::join!(waiting, moving);
    assert_eq!(seen.into_inner(), Some(JobState::Running));
    until(|| {
        clock.advance(Duration::from_secs(1));
        fixture.admin.jobs().get(id).unwrap().state.is_over()
    })
    .await;
    let row = fixture.admin.jobs().wait_within(id, Duration::from_secs(1)).await.unwrap();
    assert_eq!(row.state, JobState::Done);
}
