//! Operations on jobs.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobId, JobQuery, JobRow};
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many jobs a page holds unless more are asked for.
const PAGE: usize = 50;
/// The most jobs of a page.
const MAX_PAGE: usize = 500;

/// List jobs, the newest first
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only those that wait or run
    #[arg(long)]
    #[serde(default)]
    pub active: bool,
    /// Only those of this kind
    #[arg(long)]
    pub kind: Option<String>,
    /// Only those that are done to this, such as a room id
    #[arg(long)]
    pub target: Option<String>,
    /// Where the page begins: what the page before named as next
    #[arg(long)]
    pub from: Option<JobId>,
    /// How many at most [default: 50]
    #[arg(long)]
    pub limit: Option<usize>,
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("job", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let query = JobQuery { kind: self.kind, target: self.target, active: self.active, before: self.from };
        let page = admin.jobs().list(&query, self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE))?;
        let row = |(id, job): &(JobId, JobRow)| {
            vec![
                Cell::number(id.0),
                Cell::text(&job.kind),
                Cell::or_none(job.target.as_ref(), Cell::text),
                job.state.name().into(),
                describe_progress(job),
                Cell::text(&job.who),
                Cell::Time(job.created_ms),
            ]
        };
        let columns = ["job", "kind", "target", "state", "progress", "by", "asked"];
        Ok(Outcome::table(&columns, page.jobs.iter().map(row).collect()).next(page.next))
    }
}

/// Show a job: how far it is, and what came of it
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The number of the job
    pub job: JobId,
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("job", "show");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{job}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let job = admin.jobs().get(self.job)?;
        Ok(Outcome::record(vec![
            ("job", Cell::number(self.job.0)),
            ("kind", Cell::text(&job.kind)),
            ("target", Cell::or_none(job.target.as_ref(), Cell::text)),
            ("arguments", Cell::text(&job.arguments)),
            ("state", job.state.name().into()),
            ("progress", describe_progress(&job)),
            ("result", Cell::or_none(job.result.as_ref(), Cell::text)),
            ("error", Cell::or_none(job.error.as_ref(), Cell::text)),
            ("by", Cell::text(&job.who)),
            ("through", job.face.name().into()),
            ("asked", Cell::Time(job.created_ms)),
            ("started", Cell::or_none(job.started_ms, Cell::Time)),
            ("ended", Cell::or_none(job.ended_ms, Cell::Time)),
        ]))
    }
}

/// Stop a job after its present step; what it has done stays done
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The number of the job
    pub job: JobId,
}

impl Operation for Cancel {
    const NAME: (&'static str, &'static str) = ("job", "cancel");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{job}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let state = admin.jobs().cancel(self.job).await?;
        Ok(Outcome::line(format!("job {}: {}", self.job, state.name())))
    }
}

/// `deleting events: 300 of 900`.
fn describe_progress(job: &JobRow) -> Cell {
    match (job.progress.as_str(), job.done, job.total) {
        // Over with its first step, or not begun.
        ("", 0, None) => Cell::None,
        (text, 0, None) => Cell::text(text),
        (text, done, None) => Cell::Text(format!("{text}: {done}")),
        (text, done, Some(total)) => Cell::Text(format!("{text}: {done} of {total}")),
    }
}
