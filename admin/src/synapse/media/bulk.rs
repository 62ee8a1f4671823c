//! Many media at once.

use ::media::Mxc;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use spec::ids::RoomId;

use super::{find_local_user, list};
use crate::admin::{Action, Admin};
use crate::arguments::{RoomArg, Size, UserArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::http::{Answer, Args, Query, Refusal, SynapseCaller, answer};
use crate::media::{
    Deed, DeleteBefore, DeleteByUser, PurgeRemote, QuarantineRoom, QuarantineUser, Source, Sweep, run_to_end,
};

/// Times before this are seconds taken for milliseconds: it is the end of 1970.
const LEAST_TIME_MS: u64 = 30_000_000_000;
/// How many deleted media an answer names; all are counted.
const MAX_NAMED: usize = 100_000;

fn read_before(query: &Query) -> Result<u64, Refusal> {
    let before = query.parsed::<u64>("before_ts")?.ok_or_else(|| Refusal::missing_param("before_ts"))?;
    if before < LEAST_TIME_MS {
        return Err(Refusal::invalid_param("before_ts is in the year 1970: it is in milliseconds"));
    }
    Ok(before)
}

async fn sweep(
    admin: &Admin,
    caller: &Caller,
    action: Action,
    source: Source,
    deed: Deed,
) -> Result<(u64, Vec<Mxc>), Refusal> {
    let sweep = Sweep { source, deed, by: caller.who.to_string() };
    let (cursor, named) = admin.audited(caller, action, run_to_end(admin, caller, &sweep, MAX_NAMED)).await?;
    Ok((cursor.done, named))
}

fn name_deleted(media: &[Mxc], total: u64) -> Value {
    let ids: Vec<&str> = media.iter().map(Mxc::media_id).collect();
    json!({"deleted_media": ids, "total": total})
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
    let (total, media) = sweep(&admin, &caller, action, source, Deed::Delete).await?;
    answer(&name_deleted(&media, total))
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
    let (total, _) = sweep(&admin, &caller, action, source, Deed::Delete).await?;
    answer(&json!({"deleted": total}))
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
    let (total, _) = sweep(&admin, &caller, action, Source::Room(room_id), Deed::Quarantine).await?;
    answer(&json!({"num_quarantined": total}))
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
    let (total, _) = sweep(&admin, &caller, action, Source::User(user), Deed::Quarantine).await?;
    answer(&json!({"num_quarantined": total}))
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
    let work = async {
        let mut deleted = Vec::new();
        for record in part.find(&admin, &user)?.items {
            if admin.media().delete(&record.mxc).await? {
                deleted.push(record.mxc);
            }
        }
        Ok::<_, AdminError>(deleted)
    };
    let deleted = admin.audited(&caller, action, work).await?;
    answer(&name_deleted(&deleted, u64::try_from(deleted.len()).unwrap_or(u64::MAX)))
}
