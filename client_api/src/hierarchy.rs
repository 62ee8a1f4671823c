//! Client-Server API §"Spaces" and room summaries.

use axum::extract::State;
use rooms::{Membership, Rooms};
use serde_json::{Map, Value, json};
use spec::ids::RoomId;

use crate::error::ApiError;
use crate::extract::{Args, OptionalUser, User};
use crate::json::{Answer, answer};
use crate::membership::find_room_id;
use crate::query::Query;

const DEFAULT_ROOMS: usize = 50;
const MAX_ROOMS: usize = 100;

/// A place in the walk, with what shaped the walk: other arguments with the same token are refused.
fn parse_from(text: &str, shape: &str) -> Result<usize, ApiError> {
    let place = text.strip_prefix("h1_").and_then(|rest| rest.split_once('_'));
    let place = place.filter(|(_, given)| *given == shape).and_then(|(skip, _)| skip.parse().ok());
    place.ok_or_else(|| ApiError::invalid_param("from is malformed, or belongs to a request with other arguments"))
}

/// `GET /rooms/{roomId}/hierarchy`.
pub(crate) async fn get_hierarchy(
    user: User,
    Args(room): Args<RoomId>,
    query: Query,
    State(rooms): State<Rooms>,
) -> Answer {
    let limit = query.limit(DEFAULT_ROOMS, MAX_ROOMS)?;
    let max_depth = query.parsed::<usize>("max_depth")?;
    let suggested_only = query.parsed::<bool>("suggested_only")?.unwrap_or(false);
    let shape = format!("{}{}", if suggested_only { "s" } else { "a" }, max_depth.map_or(-1, |depth| depth as i64));
    let skip = query.text("from")?.map(|from| parse_from(&from, &shape)).transpose()?.unwrap_or(0);
    let page = rooms.hierarchy(&room, user.user, suggested_only, max_depth, skip, limit)?;
    let mut found = Vec::with_capacity(page.rooms.len());
    for (summary, children) in page.rooms {
        let mut entry = to_object(&summary)?;
        entry.insert("children_state".into(), json!(children));
        found.push(entry);
    }
    let mut body = Map::from_iter([("rooms".to_owned(), json!(found))]);
    if let Some(next) = page.next {
        body.insert("next_batch".into(), format!("h1_{next}_{shape}").into());
    }
    answer(&body)
}

fn to_object(value: &impl serde::Serialize) -> Result<Map<String, Value>, ApiError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

/// `GET /room_summary/{roomIdOrAlias}`.
pub(crate) async fn get_summary(
    OptionalUser(user): OptionalUser,
    Args(room): Args<String>,
    State(rooms): State<Rooms>,
) -> Answer {
    let unknown = || ApiError::not_found("room not found");
    let room = rooms.room_nid(&find_room_id(&rooms, &room)?)?.ok_or_else(unknown)?;
    let user = user.map(|user| user.user);
    if !rooms.may_know(room, user)? {
        return Err(unknown());
    }
    let mut body = to_object(&rooms.summary(room)?)?;
    if let Some(user) = user {
        let membership = rooms.membership(room, user)?.map_or(Membership::Leave, |row| row.membership);
        body.insert("membership".into(), membership.as_str().into());
    }
    answer(&body)
}
