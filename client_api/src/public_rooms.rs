//! Client-Server API §"Published room directory".

use axum::extract::State;
use rooms::{ListedIn, PublicRoomsQuery, Rooms};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, ServerName};

use crate::error::ApiError;
use crate::extract::{Args, OptionalUser, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::membership::Everywhere;
use crate::query::Query;

const MAX_ROOMS: usize = 500;

fn parse_place(text: &str) -> Result<usize, ApiError> {
    let skip = text.strip_prefix("p1_").and_then(|skip| skip.parse().ok());
    skip.ok_or_else(|| ApiError::invalid_param("since is malformed"))
}

/// The other server whose list is wanted, if it is not this one's.
fn parse_server(query: &Query, rooms: &Rooms) -> Result<Option<ServerName>, ApiError> {
    match query.text("server")? {
        Some(server) if server != rooms.server_name().as_str() => {
            ServerName::parse(server).map(Some).map_err(|_| ApiError::invalid_param("server is malformed"))
        }
        _ => Ok(None),
    }
}

fn list_rooms(rooms: &Rooms, wanted: &PublicRoomsQuery) -> Answer {
    let page = rooms.public_rooms(wanted)?;
    let mut body = Map::new();
    body.insert("chunk".into(), json!(page.rooms));
    body.insert("total_room_count_estimate".into(), page.total.into());
    if let Some(next) = page.next {
        body.insert("next_batch".into(), format!("p1_{next}").into());
    }
    if wanted.skip > 0 {
        let previous = wanted.skip.saturating_sub(wanted.limit.unwrap_or(MAX_ROOMS));
        body.insert("prev_batch".into(), format!("p1_{previous}").into());
    }
    answer(&body)
}

/// `GET /publicRooms`.
pub(crate) async fn list(
    OptionalUser(user): OptionalUser,
    query: Query,
    State(Everywhere { rooms, remote, .. }): State<Everywhere>,
) -> Answer {
    if let Some(server) = parse_server(&query, &rooms)? {
        // Nobody makes this server ask others without an account here.
        if user.is_none() {
            return Err(ApiError::missing_token());
        }
        let mut wanted = Map::new();
        let limit = query.parsed::<usize>("limit")?.filter(|limit| *limit > 0);
        wanted.insert("limit".into(), limit.unwrap_or(MAX_ROOMS).min(MAX_ROOMS).into());
        if let Some(since) = query.text("since")? {
            wanted.insert("since".into(), since.into());
        }
        return answer(&remote.public_rooms(&server, wanted).await?);
    }
    let skip = query.text("since")?.map(|since| parse_place(&since)).transpose()?.unwrap_or(0);
    let limit = query.parsed::<usize>("limit")?.filter(|limit| *limit > 0);
    let limit = Some(limit.unwrap_or(MAX_ROOMS).min(MAX_ROOMS));
    list_rooms(&rooms, &PublicRoomsQuery { limit, skip, ..PublicRoomsQuery::default() })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PublicFilter {
    generic_search_term: Option<String>,
    room_types: Option<Vec<Option<String>>>,
}

#[derive(Deserialize)]
pub(crate) struct SearchBody {
    limit: Option<usize>,
    since: Option<String>,
    #[serde(default)]
    filter: Option<PublicFilter>,
    #[serde(default)]
    include_all_networks: bool,
    third_party_instance_id: Option<String>,
}

/// `POST /publicRooms`.
pub(crate) async fn search(
    _: User,
    query: Query,
    State(Everywhere { rooms, remote, .. }): State<Everywhere>,
    JsonBody(body): JsonBody<SearchBody>,
) -> Answer {
    if let Some(server) = parse_server(&query, &rooms)? {
        return answer(&remote.public_rooms(&server, wanted_elsewhere(body)).await?);
    }
    let skip = body.since.as_deref().map(parse_place).transpose()?.unwrap_or(0);
    let limit = Some(body.limit.filter(|limit| *limit > 0).unwrap_or(MAX_ROOMS).min(MAX_ROOMS));
    let filter = body.filter.unwrap_or_default();
    let search = filter.generic_search_term.filter(|term| !term.is_empty());
    let listed_in = match (body.third_party_instance_id, body.include_all_networks) {
        (Some(_), true) => {
            let message = "third_party_instance_id and include_all_networks exclude each other";
            return Err(ApiError::invalid_param(message));
        }
        (Some(network), false) => ListedIn::Network(network),
        (None, true) => ListedIn::Anywhere,
        (None, false) => ListedIn::Server,
    };
    list_rooms(&rooms, &PublicRoomsQuery { search, room_types: filter.room_types, limit, skip, listed_in })
}

/// The request in the words of the server-server API, which are the same.
fn wanted_elsewhere(body: SearchBody) -> Map<String, Value> {
    let mut wanted = Map::new();
    wanted.insert("limit".into(), body.limit.filter(|limit| *limit > 0).unwrap_or(MAX_ROOMS).min(MAX_ROOMS).into());
    if let Some(since) = body.since {
        wanted.insert("since".into(), since.into());
    }
    let PublicFilter { generic_search_term, room_types } = body.filter.unwrap_or_default();
    let mut filter = Map::new();
    if let Some(term) = generic_search_term.filter(|term| !term.is_empty()) {
        filter.insert("generic_search_term".into(), term.into());
    }
    if let Some(types) = room_types {
        filter.insert("room_types".into(), json!(types));
    }
    if !filter.is_empty() {
        wanted.insert("filter".into(), Value::Object(filter));
    }
    wanted
}

/// `GET /directory/list/room/{roomId}`.
pub(crate) async fn get_visibility(Args(room): Args<RoomId>, State(rooms): State<Rooms>) -> Answer {
    let public = rooms.is_public(rooms.known_room(&room)?)?;
    answer(&json!({"visibility": if public { "public" } else { "private" }}))
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoomVisibility {
    #[default]
    Public,
    Private,
}

#[derive(Deserialize)]
pub(crate) struct VisibilityBody {
    #[serde(default)]
    visibility: RoomVisibility,
}

/// `PUT /directory/list/room/{roomId}`: for those who may change the room's main alias, and for administrators of
/// this server.
pub(crate) async fn set_visibility(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<VisibilityBody>,
) -> Answer {
    rooms.known_room(&room)?;
    if !user.is_admin && !rooms.as_user(&room, user.user)?.may_set_state("m.room.canonical_alias")? {
        return Err(ApiError::forbidden("you may not publish this room"));
    }
    rooms.set_public(&room, body.visibility == RoomVisibility::Public).await?;
    answer_empty()
}
