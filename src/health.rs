//! Whether the server is well: for reverse proxies, container engines and people.
//!
//! `/health` says `OK` to whoever only asks whether somebody is there. `/health/live` tells that the process answers, so
//! restarting it would help nobody; `/health/ready` whether requests should be sent to it, and if not, why.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use runtime::Tasks;
use rustix::fs::statvfs;
use serde::Serialize;
use storage::Store;

/// With less room on the disk than this the server is not ready: the database needs some to merge its files.
const LEAST_FREE_BYTES: u64 = 100 * 1024 * 1024;

/// What health is judged by.
#[derive(Clone)]
pub(crate) struct Health(Arc<Parts>);

struct Parts {
    store: Store,
    tasks: Tasks,
    data_dir: Arc<Path>,
}

/// What is wrong, for people and for programs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// `ready` or `not_ready`.
    status: &'static str,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Problem {
    /// What it is about: `store`, `disk` or `shutdown`.
    part: &'static str,
    reason: String,
}

impl Health {
    pub(crate) fn new(store: Store, tasks: Tasks, data_dir: Arc<Path>) -> Health {
        Health(Arc::new(Parts { store, tasks, data_dir }))
    }

    /// The endpoints. They need no token: they tell nothing but this.
    pub(crate) fn router(&self) -> Router {
        let health = self.clone();
        Router::new()
            .route("/health", get(async || ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "OK")))
            .route("/health/live", get(async || write_json(StatusCode::OK, &serde_json::json!({ "status": "live" }))))
            .route("/health/ready", get(async move || health.answer()))
    }

    fn answer(&self) -> Response {
        let report = self.report();
        let status = if report.problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        write_json(status, &report)
    }

    /// Looks at everything once.
    pub(crate) fn report(&self) -> Report {
        let parts = &*self.0;
        let mut problems = Vec::new();
        if parts.tasks.is_shutting_down() {
            problems.push(Problem { part: "shutdown", reason: "the server stops".to_owned() });
        }
        if parts.store.failure().is_some() {
            // The text of the error names paths, which are for the log.
            let reason = "the database takes no more changes until the next start; see the log".to_owned();
            problems.push(Problem { part: "store", reason });
        }
        problems.extend(check_disk(&parts.data_dir, LEAST_FREE_BYTES));
        Report { status: if problems.is_empty() { "ready" } else { "not_ready" }, problems }
    }
}

/// Whether there is room for more; a folder that cannot be asked is no problem by itself.
fn check_disk(data_dir: &Path, least: u64) -> Option<Problem> {
    let disk = statvfs(data_dir).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let mib = |bytes: u64| bytes / (1024 * 1024);
    (free < least).then(|| Problem {
        part: "disk",
        reason: format!("{} MiB are free where data is kept, at least {} MiB are needed", mib(free), mib(least)),
    })
}

fn write_json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let body = serde_json::to_string(value).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::Metrics;
    use storage::{Backend, Batch, FailAction, FailPoints, FailStep, Keyspace, Options, Profile};

    use super::*;

    const ROWS: Keyspace<u64, u64> = Keyspace::new("rows", Profile::Points);

    fn start(fail_points: Option<FailPoints>) -> (Health, Store, Tasks, tempfile::TempDir) {
        let mut options = Options::new(Backend::Memory, vec![ROWS.info()]);
        options.fail_points = fail_points;
        let store = Store::open(options).unwrap();
        let (tasks, dir) = (Tasks::new(&Metrics::new()), tempfile::tempdir().unwrap());
        (Health::new(store.clone(), tasks.clone(), dir.path().into()), store, tasks, dir)
    }

    #[tokio::test]
    async fn a_server_that_stops_is_not_ready() {
        let (health, _store, tasks, _dir) = start(None);
        assert_eq!(health.report(), Report { status: "ready", problems: Vec::new() });
        assert!(tasks.drain(Duration::from_secs(10)).await);
        assert_eq!(health.report().status, "not_ready");
        assert_eq!(health.report().problems[0].part, "shutdown");
        assert_eq!(health.answer().status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_store_that_takes_no_more_is_a_problem() {
        let points = FailPoints::new(|step| match step {
            FailStep::BeforeWrite => FailAction::FailWrite,
            _ => FailAction::Continue,
        });
        let (health, store, _tasks, _dir) = start(Some(points));
        let mut batch = Batch::new();
        batch.put(&ROWS, &1, &1);
        assert!(store.commit(batch).await.is_err());
        assert_eq!(health.report().problems[0].part, "store");
    }

    #[test]
    fn a_disk_without_room_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check_disk(dir.path(), 0), None);
        assert_eq!(check_disk(dir.path(), u64::MAX).map(|problem| problem.part), Some("disk"));
        assert_eq!(check_disk(&dir.path().join("missing"), u64::MAX), None);
    }
}
