//! Client-Server API §"Creation" of rooms.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use rooms::{CreateRoom, Preset, RoomError, Rooms};
use runtime::Tasks;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId, UserId};
use users::{Right, Signal, SpamRule, Users};

use crate::error::{ApiError, unsupported_version};
use crate::extract::User;
use crate::json::{Answer, JsonBody, answer};
use crate::membership::{Everywhere, check_invitable, check_may_invite, is_remote, refuse_third_party};
use crate::profile::member_content;
use crate::public_rooms::RoomVisibility;

const CREATE_BODY: usize = 1024 * 1024;
/// Users that can be invited at once.
const MAX_INVITES: usize = 100;
/// How long the creator of a room waits for servers whose users are invited.
const INVITE_WAIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct StateEvent {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    state_key: String,
    content: Map<String, Value>,
}

#[derive(Deserialize)]
pub(crate) struct CreateBody {
    visibility: Option<RoomVisibility>,
    room_alias_name: Option<String>,
    name: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    invite: Vec<UserId>,
    #[serde(default)]
    invite_3pid: Vec<Value>,
    room_version: Option<String>,
    #[serde(default)]
    creation_content: Map<String, Value>,
    #[serde(default)]
    initial_state: Vec<StateEvent>,
    preset: Option<Preset>,
    #[serde(default)]
    is_direct: bool,
    #[serde(default)]
    power_level_content_override: Map<String, Value>,
}

/// `POST /createRoom`.
pub(crate) async fn create_room(
    user: User,
    State(everywhere): State<Everywhere>,
    State(users): State<Users>,
    State(tasks): State<Tasks>,
    JsonBody(body): JsonBody<CreateBody, CREATE_BODY>,
) -> Answer {
    let rooms = &everywhere.rooms;
    user.check_may(Right::CreateRooms)?;
    check_may_invite(&user, &body.invite, rooms)?;
    let mut body = body;
    if !user.rights.allow(Right::Federate) {
        body.creation_content.insert("m.federate".into(), false.into());
    }
    if user.is_shadow_banned {
        body.invite.clear();
    }
    everywhere.newcomers.check(&user, SpamRule::Rooms).await?;
    everywhere.newcomers.check_invitations(&user, body.invite.iter().take(MAX_INVITES)).await?;
    users.count_signal(user.user, Signal::Invitations, body.invite.len().min(MAX_INVITES)).await;
    for target in body.invite.iter().take(MAX_INVITES) {
        users.find_or_ask_for_user(&*everywhere.services, target).await?;
    }
    let request = read_request(&user, rooms, &users, body)?;
    let is_direct = request.is_direct;
    let elsewhere: Vec<UserId> =
        request.invites.iter().map(|(target, _)| target).filter(|target| is_remote(rooms, target)).cloned().collect();
    match rooms.create_room(request).await {
        Ok(room) => {
            invite_elsewhere(&everywhere, &tasks, &user.user_id, &room, elsewhere, is_direct).await;
            answer(&json!({"room_id": room}))
        }
        Err(RoomError::AliasTaken) => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "M_ROOM_IN_USE", "the alias is taken"))
        }
        Err(error @ (RoomError::Forbidden(_) | RoomError::Invalid(_) | RoomError::Refused(_))) => {
            Err(invalid_state(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Invites users of other servers, whose servers have to sign. The room is there whatever comes of it; who is
/// invited late is invited all the same.
async fn invite_elsewhere(
    everywhere: &Everywhere,
    tasks: &Tasks,
    sender: &UserId,
    room: &RoomId,
    targets: Vec<UserId>,
    is_direct: bool,
) {
    if targets.is_empty() {
        return;
    }
    let (remote, sender, room) = (everywhere.remote.clone(), sender.clone(), room.clone());
    let inviting = tasks.spawn("inviting to a new room", async move {
        for target in targets {
            let mut content = Map::new();
            if is_direct {
                content.insert("is_direct".into(), true.into());
            }
            if let Err(error) = remote.invite(&sender, &room, &target, content).await {
                tracing::info!(room_id = room.as_str(), target = target.as_str(), %error, "an invitation failed");
            }
        }
    });
    // The task goes on if it is not waited for any longer.
    drop(tokio::time::timeout(INVITE_WAIT, inviting).await);
}

fn invalid_state(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "M_INVALID_ROOM_STATE", message)
}

fn read_request(user: &User, rooms: &Rooms, users: &Users, body: CreateBody) -> Result<CreateRoom, ApiError> {
    if !body.invite_3pid.is_empty() {
        return Err(refuse_third_party());
    }
    if body.invite.len() > MAX_INVITES {
        return Err(ApiError::invalid_param(format!("at most {MAX_INVITES} users can be invited at once")));
    }
    let version = match &body.room_version {
        Some(version) => {
            version.parse().map_err(|_| unsupported_version(format!("room version {version} is not supported")))?
        }
        None => rooms.default_version(),
    };
    let public = body.visibility == Some(RoomVisibility::Public);
    let preset = body.preset.unwrap_or(if public { Preset::PublicChat } else { Preset::PrivateChat });
    let mut invites = Vec::with_capacity(body.invite.len());
    for target in body.invite {
        check_invitable(rooms, users, &user.user_id, &target)?;
        let content = member_content(rooms, users, &target)?;
        invites.push((target, content));
    }
    // These two are made by the server; others would contradict them.
    let own = |event: &&StateEvent| matches!(event.kind.as_str(), "m.room.create" | "m.room.member");
    if let Some(event) = body.initial_state.iter().find(own) {
        return Err(invalid_state(format!("initial_state cannot hold {}", event.kind)));
    }
    let alias = body.room_alias_name.map(|name| parse_alias(&name, rooms)).transpose()?;
    if let Some(alias) = &alias {
        users.check_alias_owner(user.appservice.as_deref(), alias)?;
    }
    let initial_state = body.initial_state.into_iter().map(|event| (event.kind, event.state_key, event.content));
    Ok(CreateRoom {
        creator: user.user_id.clone(),
        creator_profile: member_content(rooms, users, &user.user_id)?,
        version,
        preset,
        public,
        alias,
        name: body.name.filter(|name| !name.is_empty()),
        topic: body.topic.filter(|topic| !topic.is_empty()),
        invites,
        is_direct: body.is_direct,
        creation_content: body.creation_content,
        initial_state: initial_state.collect(),
        power_levels: body.power_level_content_override,
    })
}

fn parse_alias(name: &str, rooms: &Rooms) -> Result<RoomAlias, ApiError> {
    if name.is_empty() || name.starts_with('#') || name.contains(|c: char| c == ':' || c.is_whitespace()) {
        return Err(ApiError::invalid_param("room_alias_name is only the part between # and :"));
    }
    RoomAlias::parse(format!("#{name}:{}", rooms.server_name()))
        .map_err(|error| ApiError::invalid_param(format!("room_alias_name: {error}")))
}
