//! Client-Server API §"Room aliases".

use axum::extract::State;
use rooms::{Draft, RoomError, Rooms};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId};

use crate::error::ApiError;
use crate::extract::{Anybody, Args, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::membership::Everywhere;
use users::{AppServiceQueries, Users};

/// `GET /directory/room/{roomAlias}`.
pub(crate) async fn find_room(
    _: Anybody,
    Args(alias): Args<RoomAlias>,
    State(Everywhere { rooms, remote, users, services, .. }): State<Everywhere>,
) -> Answer {
    if alias.server_name() != rooms.server_name().as_str() {
        let (room, servers) = remote.resolve_alias(&alias).await?;
        return answer(&json!({"room_id": room, "servers": servers}));
    }
    let room = find_local(&rooms, &users, &*services, &alias).await?;
    let stays = rooms.room_servers(rooms.known_room(&room)?)?;
    let others = stays.iter().filter(|(server, stay)| stay.joined > 0 && *server != rooms.server_name());
    let servers: Vec<_> = [rooms.server_name()].into_iter().chain(others.map(|(server, _)| server)).collect();
    let servers = servers.get(..MAX_SERVERS).unwrap_or(&servers);
    answer(&json!({"room_id": room, "servers": servers}))
}

/// The room of an alias of this server; application services that could have such an alias are asked to make it.
///
/// # Errors
/// `M_NOT_FOUND`.
pub(crate) async fn find_local(
    rooms: &Rooms,
    users: &Users,
    services: &dyn AppServiceQueries,
    alias: &RoomAlias,
) -> Result<RoomId, ApiError> {
    match rooms.find_alias(alias) {
        Err(RoomError::AliasNotFound) if users.ask_for_alias(services, alias).await => Ok(rooms.find_alias(alias)?.0),
        found => Ok(found?.0),
    }
}

/// The most servers that are told of one room.
const MAX_SERVERS: usize = 50;

#[derive(Deserialize)]
pub(crate) struct AliasBody {
    room_id: RoomId,
}

fn check_local(alias: &RoomAlias, rooms: &Rooms) -> Result<(), ApiError> {
    if alias.server_name() == rooms.server_name().as_str() {
        Ok(())
    } else {
        Err(ApiError::invalid_param("the alias belongs to another server"))
    }
}

/// `PUT /directory/room/{roomAlias}`: for those who are in the room.
pub(crate) async fn create(
    user: User,
    Args(alias): Args<RoomAlias>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<AliasBody>,
) -> Answer {
    check_local(&alias, &rooms)?;
    users.check_alias_owner(user.appservice.as_deref(), &alias)?;
    if rooms.room_nid(&body.room_id)?.is_none() {
        return Err(RoomError::RoomNotFound.into());
    }
    if !rooms.as_user(&body.room_id, user.user)?.is_joined() {
        return Err(RoomError::NotInRoom.into());
    }
    rooms.create_alias(&alias, &body.room_id, user.user).await?;
    answer_empty()
}

/// `DELETE /directory/room/{roomAlias}`: for whoever made it, for those who may change the room's main alias, for the
/// application service whose it is, and for administrators of this server.
pub(crate) async fn delete(
    user: User,
    Args(alias): Args<RoomAlias>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
) -> Answer {
    check_local(&alias, &rooms)?;
    let (room, creator) = rooms.find_alias(&alias)?;
    // A service has full control over its namespaces; nobody else may but administrators where it is alone.
    let is_own = user.appservice.as_ref().is_some_and(|service| service.owns_alias(&alias));
    if !user.is_admin && user.appservice.is_none() {
        users.check_alias_owner(None, &alias)?;
    }
    if creator != user.user && !user.is_admin && !is_own {
        let view = rooms.as_user(&room, user.user)?;
        if !view.may_set_state("m.room.canonical_alias")? {
            return Err(ApiError::forbidden("you may not delete this alias"));
        }
    }
    rooms.delete_alias(&alias).await?;
    if let Some(content) = without_alias(&rooms, &room, &alias)? {
        let draft = Draft::state(user.user_id.clone(), "m.room.canonical_alias", "", content);
        // The alias is gone in any case; whoever may not change the room's aliases leaves the event as it is.
        if let Err(error) = rooms.append(rooms.known_room(&room)?, vec![draft], None).await {
            tracing::debug!(room_id = room.as_str(), %error, "a deleted alias stays in the room's state");
        }
    }
    answer_empty()
}

/// The room's `m.room.canonical_alias` without an alias, if it holds that.
fn without_alias(rooms: &Rooms, room: &RoomId, alias: &RoomAlias) -> Result<Option<Map<String, Value>>, ApiError> {
    let nid = rooms.known_room(room)?;
    let head = rooms.head(nid)?;
    let Some(event) = rooms.state_event(nid, head.state(), "m.room.canonical_alias", "")? else { return Ok(None) };
    let Some(old) = event.content_as::<Map<String, Value>>() else { return Ok(None) };
    let mut new = old.clone();
    if new.get("alias").is_some_and(|main| main == alias.as_str()) {
        new.remove("alias");
    }
    if let Some(Value::Array(others)) = new.get_mut("alt_aliases") {
        others.retain(|other| other != alias.as_str());
    }
    Ok((new != old).then_some(new))
}

/// `GET /rooms/{roomId}/aliases`.
pub(crate) async fn get_of_room(user: User, Args(room): Args<RoomId>, State(rooms): State<Rooms>) -> Answer {
    let view = rooms.as_user(&room, user.user)?;
    if !view.is_joined() && !view.is_world_readable()? {
        return Err(RoomError::NotInRoom.into());
    }
    answer(&json!({"aliases": rooms.aliases(view.room())?}))
}
