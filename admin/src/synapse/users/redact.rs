//! Redacting what users sent.

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;

use super::{action, parse_user};
use crate::admin::Admin;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Refusal, SynapseCaller, answer};
use crate::jobs::{JobId, JobState};
use crate::operation::Effect;
use crate::user::{Redact, RedactResult};

#[derive(Deserialize)]
pub(in crate::synapse) struct RedactBody {
    #[serde(default)]
    rooms: Vec<String>,
    reason: Option<String>,
    limit: Option<u64>,
}

/// `POST /_synapse/admin/v1/user/{user_id}/redact`.
pub(in crate::synapse) async fn redact_user(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<RedactBody>,
) -> Answer {
    let user_id = parse_user(&user)?;
    if body.limit == Some(0) {
        return Err(Refusal::invalid_param("limit must be greater than 0"));
    }
    let rooms = body.rooms.iter().map(|room| room.parse().map_err(Refusal::invalid_param)).collect::<Result<_, _>>()?;
    let operation = Redact {
        user: user_id.as_str().parse().map_err(AdminError::Invalid)?,
        rooms,
        reason: body.reason,
        limit: body.limit,
    };
    let outcome = admin.perform_operation(&caller, operation).await?.to_json();
    answer(&json!({"redact_id": outcome["job"].to_string()}))
}

/// `GET /_synapse/admin/v1/user/redact_status/{redact_id}`.
pub(in crate::synapse) async fn get_redact_status(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(id): Args<String>,
) -> Answer {
    let unknown = || AdminError::not_found("redact id not found");
    let work = async {
        let job = id.parse().map(JobId).map_err(|_| unknown())?;
        admin.jobs().get(job).map_err(|_| unknown())
    };
    let row = admin.audited(&caller, action("user redact-status", Effect::Reads, json!({"job": id})), work).await?;
    let status = match row.state {
        JobState::Queued => "scheduled",
        JobState::Running | JobState::Cancelling => "active",
        JobState::Done => "complete",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    };
    let result = row.result.as_deref().and_then(|result| serde_json::from_str::<RedactResult>(result).ok());
    let mut body = json!({"status": status});
    match row.state {
        JobState::Done => body["failed_redactions"] = json!(result.unwrap_or_default().failed),
        JobState::Failed | JobState::Cancelled => body["error"] = row.error.unwrap_or_default().into(),
        JobState::Queued | JobState::Running | JobState::Cancelling => {}
    }
    answer(&body)
}
