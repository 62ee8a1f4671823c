//! Many media at once: as jobs, which go on whatever becomes of the request.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use spec::ids::RoomId;
use tokio::sync::oneshot;

use super::{find_local_user, list};
use crate::admin::{Action, Admin};
use crate::arguments::{RoomArg, Size, UserArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::http::{Answer, Args, Query, Refusal, SynapseCaller, answer};
use crate::jobs::JobState;
use crate::media::{
    Deed, DeleteBefore, DeleteByUser, PurgeRemote, QuarantineRoom, QuarantineUser, Source, Sweep, SweepCursor,
    SweepMedia,
};

/// Times before this are seconds taken for milliseconds: it is the end of 1970.
const LEAST_TIME_MS: u64 = 30_000_000_000;
/// How long an answer waits for the end of a job: proxies and tools give up after 30 seconds or later.
const WAIT: Duration = Duration::from_secs(25);

fn read_before(query: &Query) -> Result<u64, Refusal> {
    let before = query.parsed::<u64>("before_ts")?.ok_or_else(|| Refusal::missing_param("before_ts"))?;
    if before < LEAST_TIME_MS {
        return Err(Refusal::invalid_param("before_ts is in the year 1970: it is in milliseconds"));
    }
    Ok(before)
}

/// What a job has done: all of it, or what it did until [`WAIT`] was over.
struct Swept {
    done: u64,
    named: Vec<String>,
}

/// Starts the job and waits for it, within limits. It is on record as the operation that starts it.
async fn sweep(admin: &Admin, caller: &Caller, action: Action, source: Source, deed: Deed) -> Result<Swept, Refusal> {
    let names = deed == Deed::Delete;
    let sweep = Sweep { source, deed, by: caller.who.to_string(), names };
    let job = admin.audited(caller, action, admin.jobs().start::<SweepMedia>(caller, &sweep)).await?;
    let row = admin.jobs().wait_within(job, WAIT).await?;
    if matches!(row.state, JobState::Failed | JobState::Cancelled) {
        let why = row.error.unwrap_or_else(|| format!("the job {job} was cancelled"));
        return Err(AdminError::unavailable(why).into());
    }
    if let Some(result) = row.result {
        let result: Value = serde_json::from_str(&result).map_err(AdminError::internal)?;
        let named = result["media"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        return Ok(Swept { done: result[deed.word()].as_u64().unwrap_or(0), named: named.collect() });
    }
    let cursor = row.cursor.as_deref().and_then(|cursor| serde_json::from_str::<SweepCursor>(cursor).ok());
    let SweepCursor { done, named, .. } = cursor.unwrap_or_default();
    Ok(Swept { done, named })
}

impl Swept {
    fn name_deleted(&self) -> Value {
        json!({"deleted_media": self.named, "total": self.done})
    }
}

/// `POST /_synapse/admin/v1/media/delete`.
pub(crate) async fn delete_by_date(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    query: Query,
) -> Answer {
    let before_ms = read_before(&query)?;
    let larger_than = query.parsed::<u64>("size_gt")?.unwrap_or(0);
    let with_pictures = !query.flag("keep_profiles")?.unwrap_or(true);
    let action =
        Action::of(&DeleteBefore { before: When::At(before_ms), larger_than: Some(Size(larger_than)), with_pictures });
    let source = Source::Unused { local: true, before_ms, larger_than, with_pictures };
    answer(&sweep(&admin, &caller, action, source, Deed::Delete).await?.name_deleted())
}

/// `POST /_synapse/admin/v1/media/{server_name}/delete`: the older form of it.
pub(crate) async fn delete_by_date_of_server(
    admin: State<Admin>,
    caller: SynapseCaller,
    Args(server): Args<String>,
    query: Query,
) -> Answer {
    if server != admin.rooms().server_name().as_str() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "only media of this server can be deleted"));
    }
    delete_by_date(admin, caller, query).await
}

/// `POST /_synapse/admin/v1/purge_media_cache`.
pub(crate) async fn purge_cache(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    query: Query,
) -> Answer {
    let before_ms = read_before(&query)?;
    let action = Action::of(&PurgeRemote { before: When::At(before_ms) });
    let source = Source::Unused { local: false, before_ms, larger_than: 0, with_pictures: true };
    let swept = sweep(&admin, &caller, action, source, Deed::Delete).await?;
    answer(&json!({"deleted": swept.done}))
}

/// `POST /_synapse/admin/v1/room/{room_id}/media/quarantine`, and the older
/// `POST /_synapse/admin/v1/quarantine_media/{room_id}`.
pub(crate) async fn quarantine_room(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
) -> Answer {
    let room_id = RoomId::parse(&room).map_err(|_| Refusal::invalid_param("this is not a room id"))?;
    admin.rooms().known_room(&room_id).map_err(AdminError::from)?;
    let room: RoomArg = room.parse().map_err(Refusal::invalid_param)?;
    let action = Action::of(&QuarantineRoom { room });
    let swept = sweep(&admin, &caller, action, Source::Room(room_id), Deed::Quarantine).await?;
    answer(&json!({"num_quarantined": swept.done}))
}

fn user_argument(user: &str) -> Result<UserArg, Refusal> {
    user.parse().map_err(Refusal::invalid_param)
}

/// `POST /_synapse/admin/v1/user/{user_id}/media/quarantine`.
pub(crate) async fn quarantine_user(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let user = find_local_user(&admin, &user)?;
    let action = Action::of(&QuarantineUser { user: user_argument(user.as_str())? });
    let swept = sweep(&admin, &caller, action, Source::User(user), Deed::Quarantine).await?;
    answer(&json!({"num_quarantined": swept.done}))
}

/// `DELETE /_synapse/admin/v1/users/{user_id}/media`: those that the list of the same arguments has.
pub(crate) async fn delete_of_user(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    query: Query,
) -> Answer {
    let user = find_local_user(&admin, &user)?;
    let part = list::Part::read(&query)?;
    let action = Action::of(&DeleteByUser { user: user_argument(user.as_str())? });
    // At most a page: it is done as a whole, also when nobody waits for the answer any more.
    let (tell, told) = oneshot::channel();
    let apart = admin.clone();
    admin.tasks().spawn("media deletion", async move {
        let work = async {
            let mut deleted = Vec::new();
            for record in part.find(&apart, &user)?.items {
                if apart.media().delete(&record.mxc).await? {
                    deleted.push(record.mxc.media_id().to_owned());
                }
            }
            Ok::<_, AdminError>(deleted)
        };
        // Whoever asked may be gone.
        let _ = tell.send(apart.audited(&caller, action, work).await);
    });
    let named = told.await.unwrap_or_else(|_| Err(AdminError::unavailable("the deletion was interrupted")))?;
    answer(&Swept { done: u64::try_from(named.len()).unwrap_or(u64::MAX), named }.name_deleted())
}
