//! Who is in a room, and what power they have.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::ids::{ServerName, UserId};

use super::{changing, find_room, parse_room, reading};
use crate::admin::Admin;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Query, Refusal, SynapseCaller, answer};
use crate::operation::Effect;
use crate::room::join as join_room;

/// The most servers of a request that are asked.
const MAX_VIA: usize = 20;

/// `GET /_synapse/admin/v1/rooms/{room_id}/members`.
pub(crate) async fn get_members(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
) -> Answer {
    let id = parse_room(&room)?;
    let listing = async {
        let room = admin.rooms().known_room(&id)?;
        let members = admin.rooms().joined_members(room)?;
        let members: Result<Vec<String>, _> =
            members.iter().map(|user| admin.rooms().user_id(*user).map(|user| user.to_string())).collect();
        Ok::<_, AdminError>(members?)
    };
    let members = admin.audited(&caller, reading("room members", json!({"room": room})), listing).await?;
    answer(&json!({"members": members, "total": members.len()}))
}

#[derive(Deserialize)]
pub(crate) struct UserBody {
    user_id: Option<String>,
}

/// A user of this server who has an account.
fn parse_account(admin: &Admin, text: &str) -> Result<UserId, Refusal> {
    let user = UserId::parse(text).map_err(|error| Refusal::invalid_param(format!("user_id: {error}")))?;
    if user.server_name() != admin.rooms().server_name().as_str() {
        return Err(Refusal::invalid_param("this endpoint is for users of this server"));
    }
    let nid = admin.rooms().user_nid(&user).map_err(AdminError::from)?;
    let account = nid.map(|nid| admin.users().account(nid)).transpose().map_err(AdminError::from)?.flatten();
    if account.is_none() {
        return Err(Refusal::not_found("User not found"));
    }
    Ok(user)
}

/// `POST /_synapse/admin/v1/rooms/{room_id_or_alias}/make_room_admin`.
pub(crate) async fn make_admin(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    JsonBody(body): JsonBody<UserBody>,
) -> Answer {
    let user = match (&body.user_id, caller.user()) {
        (Some(user), _) => parse_account(&admin, user)?,
        (None, Some((_, user))) => user.clone(),
        (None, None) => return Err(Refusal::missing_param("user_id")),
    };
    let recorded = json!({"room": room, "user": user.as_str()});
    let making = async {
        let (nid, _) = find_room(&admin, &room)?;
        Ok::<_, AdminError>(admin.rooms().make_room_admin(nid, &user).await?)
    };
    admin.audited(&caller, changing("room make-admin", Effect::Changes, recorded), making).await?;
    answer(&json!({}))
}

/// `POST /_synapse/admin/v1/join/{room_id_or_alias}`.
pub(crate) async fn join(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    query: Query,
    JsonBody(body): JsonBody<UserBody>,
) -> Answer {
    let user = body.user_id.ok_or_else(|| Refusal::missing_param("user_id"))?;
    let user = parse_account(&admin, &user)?;
    let mut via = Vec::new();
    for pair in query.pairs() {
        let (name, value) = pair?;
        if matches!(&*name, "server_name" | "via") && via.len() < MAX_VIA {
            via.extend(ServerName::parse(&*value));
        }
    }
    let recorded = json!({"room": room, "user": user.as_str()});
    let joining = join_room(&admin, &caller, &room, &user, via);
    let joined = admin.audited(&caller, changing("room join", Effect::Changes, recorded), joining).await?;
    answer(&json!({"room_id": joined.as_str()}))
}

/// `GET /_synapse/admin/v1/rooms/{room_id_or_alias}/forward_extremities`.
pub(crate) async fn get_extremities(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
) -> Answer {
    let listing = async {
        let (nid, _) = find_room(&admin, &room)?;
        Ok::<_, AdminError>(admin.rooms().forward_extremities(nid)?)
    };
    let found = admin.audited(&caller, reading("room extremities", json!({"room": room})), listing).await?;
    let results: Vec<Value> = found
        .into_iter()
        .map(|found| {
            json!({"event_id": found.event_id, "state_group": found.state, "depth": found.depth,
                "received_ts": found.sent_at})
        })
        .collect();
    answer(&json!({"count": results.len(), "results": results}))
}

/// `DELETE /_synapse/admin/v1/rooms/{room_id_or_alias}/forward_extremities`.
pub(crate) async fn delete_extremities(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
) -> Answer {
    let dropping = async {
        let (nid, _) = find_room(&admin, &room)?;
        Ok::<_, AdminError>(admin.rooms().drop_forward_extremities(nid).await?)
    };
    let action = changing("room drop-extremities", Effect::Destroys, json!({"room": room}));
    let deleted = admin.audited(&caller, action, dropping).await?;
    answer(&json!({"deleted": deleted}))
}
