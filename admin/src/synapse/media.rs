//! Media: one at a time here, many at once in `bulk`, lists in `list`.

mod bulk;
mod list;

pub(super) use bulk::{
    delete_by_date, delete_by_date_of_server, delete_of_user, purge_cache, quarantine_room, quarantine_user,
};
pub(super) use list::{list_of_room, list_of_user};

use ::media::{MediaRecord, Mxc};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use spec::ids::UserId;

use crate::admin::{Action, Admin};
use crate::arguments::MediaArg;
use crate::error::AdminError;
use crate::http::{Answer, Args, Query, Refusal, SynapseCaller, answer};
use crate::media::{Delete, Protect, Quarantine, Show, Unprotect, Unquarantine};

/// How many changes of quarantines are told at once.
const CHANGES: usize = 100;

fn read_mxc(server: &str, media_id: &str) -> Result<Mxc, Refusal> {
    Mxc::new(server, media_id).map_err(|_| Refusal::invalid_param("the server name or the media id is malformed"))
}

fn argument(mxc: &Mxc) -> Result<MediaArg, Refusal> {
    mxc.to_string().parse().map_err(Refusal::invalid_param)
}

/// A user of this server who has an account, by the id in the path.
fn find_local_user(admin: &Admin, user: &str) -> Result<UserId, Refusal> {
    let user = UserId::parse(user).map_err(|_| Refusal::invalid_param("this is not a user id"))?;
    if user.server_name() != admin.rooms().server_name().as_str() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "only users of this server can be looked up"));
    }
    let account = admin.users().account_by_id(&user).map_err(AdminError::from)?;
    account.map(|account| account.user_id).ok_or_else(|| Refusal::not_found("there is no such user"))
}

/// What lists and single answers have in common.
fn describe(record: &MediaRecord) -> Value {
    let content = record.content.as_ref();
    json!({
        "created_ts": record.created_ms,
        "last_access_ts": record.last_access_ms,
        "media_id": record.mxc.media_id(),
        "media_length": content.map(|content| content.length),
        "media_type": content.and_then(|content| content.content_type.as_deref()),
        "quarantined_by": record.quarantined_by,
        "safe_from_quarantine": record.is_protected,
        "upload_name": content.and_then(|content| content.file_name.as_deref()),
    })
}

/// `GET /_synapse/admin/v1/media/{server_name}/{media_id}`.
pub(super) async fn get_media(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((server, media_id)): Args<(String, String)>,
) -> Answer {
    let mxc = read_mxc(&server, &media_id)?;
    let action = Action::of(&Show { media: argument(&mxc)? });
    let record = admin.audited(&caller, action, async { Ok(admin.media().describe(&mxc)?) }).await?;
    let is_local = admin.media().is_local(&mxc);
    let mut info = describe(&record);
    info["media_origin"] = if is_local { Value::Null } else { mxc.server().as_str().into() };
    info["user_id"] = record.uploader.clone().into();
    info["filesystem_id"] = record.content.as_ref().map(|content| content.sha256.clone()).into();
    info["sha256"] = info["filesystem_id"].clone();
    info["url_cache"] = Value::Null;
    info["authenticated"] = (!admin.media().config().unauthenticated_downloads).into();
    if !is_local {
        // Only media of this server can be protected.
        info["safe_from_quarantine"] = Value::Null;
    }
    answer(&json!({"media_info": info}))
}

/// `DELETE /_synapse/admin/v1/media/{server_name}/{media_id}`.
pub(super) async fn delete_media(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((server, media_id)): Args<(String, String)>,
) -> Answer {
    let mxc = read_mxc(&server, &media_id)?;
    if !admin.media().is_local(&mxc) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "only media of this server can be deleted"));
    }
    admin.perform_operation(&caller, Delete { media: argument(&mxc)? }).await?;
    answer(&json!({"deleted_media": [mxc.media_id()], "total": 1}))
}

/// `POST /_synapse/admin/v1/media/quarantine/{server_name}/{media_id}`.
pub(super) async fn quarantine(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((server, media_id)): Args<(String, String)>,
) -> Answer {
    let media = argument(&read_mxc(&server, &media_id)?)?;
    admin.perform_operation(&caller, Quarantine { media }).await?;
    answer(&json!({}))
}

/// `POST /_synapse/admin/v1/media/unquarantine/{server_name}/{media_id}`.
pub(super) async fn unquarantine(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((server, media_id)): Args<(String, String)>,
) -> Answer {
    let media = argument(&read_mxc(&server, &media_id)?)?;
    admin.perform_operation(&caller, Unquarantine { media }).await?;
    answer(&json!({}))
}

/// `POST /_synapse/admin/v1/media/protect/{media_id}`.
pub(super) async fn protect(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(media_id): Args<String>,
) -> Answer {
    let media = argument(&read_mxc(admin.rooms().server_name().as_str(), &media_id)?)?;
    admin.perform_operation(&caller, Protect { media }).await?;
    answer(&json!({}))
}

/// `POST /_synapse/admin/v1/media/unprotect/{media_id}`.
pub(super) async fn unprotect(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(media_id): Args<String>,
) -> Answer {
    let media = argument(&read_mxc(admin.rooms().server_name().as_str(), &media_id)?)?;
    admin.perform_operation(&caller, Unprotect { media }).await?;
    answer(&json!({}))
}

/// `GET /_synapse/admin/v1/media/quarantine_changes`.
pub(super) async fn quarantine_changes(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    query: Query,
) -> Answer {
    let from = query.parsed::<u64>("from")?.unwrap_or(0);
    let action = super::reading("media quarantine-changes", json!({"from": from}));
    let work = async {
        if from > admin.media().last_quarantine_change()? {
            return Err(AdminError::invalid("from is beyond the last change"));
        }
        Ok(admin.media().quarantine_changes(from, CHANGES)?)
    };
    let found = admin.audited(&caller, action, work).await?;
    let next = found.last().map_or(from, |change| change.id);
    let changes: Vec<Value> = found
        .into_iter()
        .map(|it| json!({"origin": it.server, "media_id": it.media_id, "quarantined": it.quarantined}))
        .collect();
    answer(&json!({"next_batch": next, "changes": changes}))
}
