//! Purging history.

use axum::extract::State;
use rooms::Cursor;
use serde::Deserialize;
use serde_json::json;

use super::{changing, parse_room, reading};
use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, SynapseCaller, answer};
use crate::jobs::{JobId, JobKind, JobState};
use crate::operation::Effect;
use crate::room::{PurgeHistory, cut_before, start_purge};

#[derive(Deserialize)]
pub(crate) struct PurgeBody {
    #[serde(default)]
    delete_local_events: bool,
    purge_up_to_event_id: Option<String>,
    purge_up_to_ts: Option<i64>,
}

/// `POST /_synapse/admin/v1/purge_history/{room_id}`.
pub(crate) async fn purge_history(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    JsonBody(body): JsonBody<PurgeBody>,
) -> Answer {
    purge(&admin, &caller, &room, body).await
}

/// `POST /_synapse/admin/v1/purge_history/{room_id}/{event_id}`.
pub(crate) async fn purge_history_before_event(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((room, event)): Args<(String, String)>,
    JsonBody(body): JsonBody<PurgeBody>,
) -> Answer {
    purge(&admin, &caller, &room, PurgeBody { purge_up_to_event_id: Some(event), ..body }).await
}

async fn purge(admin: &Admin, caller: &Caller, room: &str, body: PurgeBody) -> Answer {
    let room_id = parse_room(room)?;
    let PurgeBody { delete_local_events, purge_up_to_event_id, purge_up_to_ts } = body;
    let recorded = json!({"room": room, "event": purge_up_to_event_id, "before": purge_up_to_ts,
        "local": delete_local_events});
    let starting = async {
        let nid = admin.rooms().known_room(&room_id)?;
        let cut: Cursor = match (purge_up_to_event_id, purge_up_to_ts) {
            (Some(event), _) => cut_before(admin, nid, &event)?,
            (None, Some(time)) => admin
                .rooms()
                .cut_before_time(nid, time)?
                .ok_or_else(|| AdminError::not_found("there is no event to be purged"))?,
            (None, None) => return Err(AdminError::invalid("purge_up_to_event_id or purge_up_to_ts is missing")),
        };
        start_purge(admin, caller, &room_id, cut, delete_local_events).await
    };
    let job = admin.audited(caller, changing("room purge", Effect::Destroys, recorded), starting).await?;
    answer(&json!({"purge_id": job.to_string()}))
}

/// `GET /_synapse/admin/v1/purge_history_status/{purge_id}`.
pub(crate) async fn purge_history_status(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(id): Args<String>,
) -> Answer {
    let unknown = || AdminError::not_found(format!("purge_id {id} is unknown"));
    let finding = async {
        let job: JobId = id.parse().map_err(|_| unknown())?;
        admin.jobs().get(job).ok().filter(|row| row.kind == PurgeHistory::NAME).ok_or_else(unknown)
    };
    let row = admin.audited(&caller, reading("room purge-status", json!({"purge_id": id})), finding).await?;
    match row.state {
        JobState::Done => answer(&json!({"status": "complete"})),
        JobState::Failed | JobState::Cancelled => {
            let error = row.error.unwrap_or_else(|| "cancelled".to_owned());
            answer(&json!({"status": "failed", "error": error}))
        }
        JobState::Queued | JobState::Running | JobState::Cancelling => answer(&json!({"status": "active"})),
    }
}
