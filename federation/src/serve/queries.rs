//! Server-Server API §Querying for information.

use axum::extract::State;
use rooms::RoomError;
use serde_json::{Map, json};
use spec::ids::{RoomAlias, UserId};

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::Origin;
use crate::serve::access::joined_servers;
use crate::serve::answer::{Answer, answer};
use crate::serve::arguments::Query;

/// How many servers are named as ways into a room: more than anybody tries.
const MAX_SERVERS: usize = 100;

/// `GET /query/directory`.
pub(crate) async fn find_room(_: Origin, query: Query, State(federation): State<Federation>) -> Answer {
    let alias: RoomAlias = query.required_as("room_alias")?;
    if alias.server_name() != federation.server_name.as_str() {
        return Err(ServeError::invalid_param("the alias is not of this server"));
    }
    let (room_id, _) = match federation.rooms.find_alias(&alias) {
        // An application service may have to make the room first.
        Err(RoomError::AliasNotFound) if federation.users.ask_for_alias(&*federation.appservices, &alias).await => {
            federation.rooms.find_alias(&alias)?
        }
        found => found?,
    };
    let room = federation.rooms.room_nid(&room_id)?.ok_or(RoomError::AliasNotFound)?;
    let mut servers = joined_servers(&federation, room)?;
    // This server first, if it can be joined through.
    servers.sort_by_key(|server| *server != federation.server_name);
    servers.truncate(MAX_SERVERS);
    answer(&json!({"room_id": room_id, "servers": servers}))
}

/// `GET /query/profile`.
pub(crate) async fn get_profile(_: Origin, query: Query, State(federation): State<Federation>) -> Answer {
    let subject: UserId = query.required_as("user_id")?;
    if subject.server_name() != federation.server_name.as_str() {
        return Err(ServeError::invalid_param("the user is not of this server"));
    }
    if !federation.config.share_profiles {
        return Err(ServeError::forbidden("this server does not tell profiles to others"));
    }
    let users = &federation.users;
    users.find_or_ask_for_user(&*federation.appservices, &subject).await?;
    let user = users.active_user(&subject)?.ok_or_else(|| ServeError::not_found("no profile for this user"))?;
    let Some(field) = query.text("field")? else { return answer(&users.profile(user)?) };
    // A field that is not set is left out: only a user who does not exist is not found.
    let value = users.profile_field(user, &field)?;
    answer(&value.map(|value| (field.into_owned(), value)).into_iter().collect::<Map<_, _>>())
}

/// `GET /query/{queryType}`, for every other type: there are none.
pub(crate) async fn refuse_unknown(_: Origin) -> Answer {
    Err(ServeError::unrecognized())
}
