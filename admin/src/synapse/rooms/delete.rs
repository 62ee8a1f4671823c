//! Deleting rooms, and how far that is.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::ids::{RoomId, UserId};

use super::{changing, parse_room, reading};
use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Refusal, SynapseCaller, answer};
use crate::jobs::{JobId, JobKind, JobQuery, JobRow, JobState};
use crate::operation::Effect;
use crate::room::{DeleteArguments, DeleteCursor, DeleteRoom, MESSAGE, NewRoom, ROOM_NAME};

/// How many deletions of a room are told of.
const MAX_JOBS: usize = 100;

#[derive(Deserialize)]
pub(crate) struct DeleteBody {
    new_room_user_id: Option<String>,
    room_name: Option<String>,
    message: Option<String>,
    #[serde(default)]
    block: bool,
    #[serde(default = "yes")]
    purge: bool,
    #[serde(default)]
    force_purge: bool,
}

fn yes() -> bool {
    true
}

/// What a request asks for.
fn arguments_of(admin: &Admin, caller: &Caller, room: RoomId, body: DeleteBody) -> Result<DeleteArguments, Refusal> {
    let new_room = match body.new_room_user_id {
        Some(user) => {
            let id =
                UserId::parse(&user).map_err(|error| Refusal::invalid_param(format!("new_room_user_id: {error}")))?;
            if id.server_name() != admin.rooms().server_name().as_str() {
                return Err(Refusal::invalid_param("new_room_user_id must be a user of this server"));
            }
            let (name, message) = (body.room_name, body.message);
            Some(NewRoom {
                user,
                name: name.unwrap_or_else(|| ROOM_NAME.to_owned()),
                message: message.unwrap_or_else(|| MESSAGE.to_owned()),
            })
        }
        None => None,
    };
    let DeleteBody { block, purge, force_purge, .. } = body;
    Ok(DeleteArguments { block, purge, force_purge, new_room, ..DeleteArguments::of(room, caller) })
}

async fn start(admin: &Admin, caller: &Caller, room: &str, body: DeleteBody) -> Result<JobId, Refusal> {
    let id = parse_room(room)?;
    let arguments = arguments_of(admin, caller, id.clone(), body)?;
    let recorded = json!({"room": room, "block": arguments.block, "purge": arguments.purge});
    let starting = async {
        // An unknown room can be blocked.
        if !arguments.block {
            admin.rooms().known_room(&id)?;
        }
        admin.jobs().start::<DeleteRoom>(caller, &arguments).await
    };
    Ok(admin.audited(caller, changing("room delete", Effect::Destroys, recorded), starting).await?)
}

/// `DELETE /_synapse/admin/v2/rooms/{room_id}`.
pub(crate) async fn delete_soon(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Answer {
    let job = start(&admin, &caller, &room, body).await?;
    answer(&json!({"delete_id": job.to_string()}))
}

/// `DELETE /_synapse/admin/v1/rooms/{room_id}`: answers when it is done.
pub(crate) async fn delete_now(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Answer {
    let job = start(&admin, &caller, &room, body).await?;
    let row = admin.jobs().wait(job).await?;
    if row.state != JobState::Done {
        let why = row.error.unwrap_or_else(|| "the deletion was cancelled".to_owned());
        return Err(AdminError::conflict(why).into());
    }
    answer(&shutdown_of(&row))
}

/// What was done to users and aliases so far.
fn shutdown_of(row: &JobRow) -> Value {
    let result = row.result.as_deref().and_then(|result| serde_json::from_str(result).ok());
    let cursor = || row.cursor.as_deref().and_then(|cursor| serde_json::from_str::<DeleteCursor>(cursor).ok());
    result.unwrap_or_else(|| cursor().unwrap_or_default().shutdown())
}

fn describe(id: JobId, row: &JobRow) -> Value {
    let cursor = row.cursor.as_deref().and_then(|cursor| serde_json::from_str::<DeleteCursor>(cursor).ok());
    let status = match row.state {
        JobState::Done => "complete",
        JobState::Failed | JobState::Cancelled => "failed",
        JobState::Queued | JobState::Running | JobState::Cancelling => {
            if cursor.is_some_and(|cursor| cursor.is_purging()) { "purging" } else { "shutting_down" }
        }
    };
    let mut told = json!({
        "delete_id": id.to_string(),
        "room_id": row.target,
        "status": status,
        "shutdown_room": shutdown_of(row),
    });
    if status == "failed" {
        told["error"] = row.error.clone().unwrap_or_else(|| "cancelled".to_owned()).into();
    }
    told
}

/// `GET /_synapse/admin/v2/rooms/{room_id}/delete_status`.
pub(crate) async fn delete_status_of_room(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
) -> Answer {
    parse_room(&room)?;
    let finding = async {
        let query = JobQuery {
            kind: Some(DeleteRoom::NAME.to_owned()),
            target: Some(room.clone()),
            active: false,
            before: None,
        };
        admin.jobs().list(&query, MAX_JOBS)
    };
    let page = admin.audited(&caller, reading("room delete-status", json!({"room": room})), finding).await?;
    if page.jobs.is_empty() {
        return Err(Refusal::not_found(format!("no deletion of {room} is known")));
    }
    let results: Vec<Value> = page.jobs.iter().map(|(id, row)| describe(*id, row)).collect();
    answer(&json!({"results": results}))
}

/// `GET /_synapse/admin/v2/rooms/delete_status/{delete_id}`.
pub(crate) async fn delete_status(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(id): Args<String>,
) -> Answer {
    let unknown = || AdminError::not_found(format!("delete_id {id} is unknown"));
    let finding = async {
        let job: JobId = id.parse().map_err(|_| unknown())?;
        let row = admin.jobs().get(job).ok().filter(|row| row.kind == DeleteRoom::NAME).ok_or_else(unknown)?;
        Ok::<_, AdminError>(describe(job, &row))
    };
    let told = admin.audited(&caller, reading("room delete-status", json!({"delete_id": id})), finding).await?;
    answer(&told)
}
