//! Work in the background: jobs, in the forms in which tools ask for them.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::admin::{Action, Admin};
use crate::error::AdminError;
use crate::http::{Answer, JsonBody, Query, Refusal, SynapseCaller, answer};
use crate::jobs::{JobPage, JobQuery, JobState};
use crate::operation::{Effect, Needs};

/// How many jobs are told at once.
const MAX_JOBS: usize = 500;

async fn list_jobs(admin: &Admin, caller: &SynapseCaller, query: JobQuery) -> Result<JobPage, Refusal> {
    let action = Action {
        name: "job list".to_owned(),
        needs: Needs::Administrator,
        effect: Effect::Reads,
        arguments: json!({"kind": query.kind, "target": query.target}),
    };
    Ok(admin.audited(&caller.0, action, async { admin.jobs().list(&query, MAX_JOBS) }).await?)
}

fn describe_state(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "scheduled",
        JobState::Running | JobState::Cancelling => "active",
        JobState::Done => "complete",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// `GET /_synapse/admin/v1/scheduled_tasks`.
pub(super) async fn list_scheduled(State(admin): State<Admin>, caller: SynapseCaller, query: Query) -> Answer {
    let text = |name| query.text(name).map(|text| text.map(|text| text.into_owned()));
    let wanted = JobQuery { kind: text("action_name")?, target: text("resource_id")?, ..JobQuery::default() };
    let (status, newest) = (text("job_status")?, query.parsed::<u64>("max_timestamp")?);
    let page = list_jobs(&admin, &caller, wanted).await?;
    let read = |text: &Option<String>| {
        text.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default()
    };
    let jobs = page.jobs.iter().filter(|(_, job)| {
        status.as_ref().is_none_or(|status| status == describe_state(job.state))
            && newest.is_none_or(|newest| job.created_ms <= newest)
    });
    let tasks = jobs.map(|(id, job)| {
        json!({
            "id": id.to_string(),
            "action": job.kind,
            "status": describe_state(job.state),
            "timestamp_ms": job.ended_ms.or(job.started_ms).unwrap_or(job.created_ms),
            "resource_id": job.target,
            "result": read(&job.result),
            "error": job.error,
        })
    });
    answer(&json!({"scheduled_tasks": tasks.collect::<Vec<_>>()}))
}

/// `GET /_synapse/admin/v1/background_updates/status`.
pub(super) async fn get_status(State(admin): State<Admin>, caller: SynapseCaller) -> Answer {
    let page = list_jobs(&admin, &caller, JobQuery { active: true, ..JobQuery::default() }).await?;
    let now_ms = admin.clock().now_ms();
    let mut updates = Map::new();
    for (id, job) in page.jobs {
        let Some(started_ms) = job.started_ms else { continue };
        let took_ms = now_ms.saturating_sub(started_ms);
        let update = json!({
            "name": job.kind,
            "total_item_count": job.done,
            "total_duration_ms": took_ms,
            "average_items_per_ms": job.done as f64 / took_ms.max(1) as f64,
        });
        updates.insert(id.to_string(), update);
    }
    answer(&json!({"enabled": true, "current_updates": updates}))
}

/// `GET /_synapse/admin/v1/background_updates/enabled`: jobs always run.
pub(super) async fn get_enabled(_: SynapseCaller) -> Answer {
    answer(&json!({"enabled": true}))
}

#[derive(Deserialize)]
pub(super) struct EnabledBody {
    enabled: bool,
}

/// `POST /_synapse/admin/v1/background_updates/enabled`: they cannot be switched off as a whole, only cancelled.
pub(super) async fn set_enabled(_: SynapseCaller, JsonBody(body): JsonBody<EnabledBody>) -> Answer {
    if !body.enabled {
        let message = "jobs cannot be paused here; single ones can be cancelled";
        return Err(AdminError::coded(400, "M_UNKNOWN", message).into());
    }
    answer(&json!({"enabled": true}))
}

#[derive(Deserialize)]
pub(super) struct StartBody {
    job_name: String,
}

/// `POST /_synapse/admin/v1/background_updates/start_job`: what those jobs make again is never out of date here.
pub(super) async fn start_job(_: SynapseCaller, JsonBody(body): JsonBody<StartBody>) -> Answer {
    let name: String = body.job_name.chars().take(100).collect();
    Err(AdminError::coded(400, "M_UNKNOWN", format!("this server has no job {name:?} to start")).into())
}
