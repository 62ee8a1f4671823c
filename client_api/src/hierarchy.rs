//! Client-Server API §"Spaces" and room summaries.

use axum::extract::State;
use rooms::Membership;
use serde_json::{Map, Value, json};
use spec::ids::RoomId;

use crate::error::ApiError;
use crate::extract::{Args, OptionalUser, User};
use crate::hierarchy::walk::{Walk, Wanted, may_know_of};
use crate::json::{Answer, answer};
use crate::membership::{Everywhere, parse_via};
use crate::query::Query;

mod walk;

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
    State(everywhere): State<Everywhere>,
) -> Answer {
    let limit = query.limit(DEFAULT_ROOMS, MAX_ROOMS)?;
    let max_depth = query.parsed::<usize>("max_depth")?;
    let suggested_only = query.parsed::<bool>("suggested_only")?.unwrap_or(false);
    let shape = format!("{}{}", if suggested_only { "s" } else { "a" }, max_depth.map_or(-1, |depth| depth as i64));
    let skip = query.text("from")?.map(|from| parse_from(&from, &shape)).transpose()?.unwrap_or(0);
    let wanted = Wanted { user: user.user, suggested_only, max_depth };
    let (found, next) = Walk::new(&everywhere, wanted).take(&room, skip, limit).await?;
    let mut body = Map::from_iter([("rooms".to_owned(), json!(found))]);
    if let Some(next) = next {
        body.insert("next_batch".into(), format!("h1_{next}_{shape}").into());
    }
    answer(&body)
}

/// A summary as JSON.
fn to_object(value: &impl serde::Serialize) -> Result<Map<String, Value>, ApiError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

/// `GET /room_summary/{roomIdOrAlias}`. Only users of this server make it ask others.
pub(crate) async fn get_summary(
    OptionalUser(user): OptionalUser,
    Args(room): Args<String>,
    query: Query,
    State(everywhere): State<Everywhere>,
) -> Answer {
    let unknown = || ApiError::not_found("room not found");
    let rooms = &everywhere.rooms;
    let is_remote_alias = room.starts_with('#') && !room.ends_with(&format!(":{}", rooms.server_name()));
    if user.is_none() && is_remote_alias {
        return Err(unknown());
    }
    let (room, servers) = everywhere.find_room_id(&room).await?;
    let nid = rooms.room_nid(&room)?;
    let user = user.map(|user| user.user);
    let mut body = match nid {
        Some(nid) if everywhere.is_here(nid)? => {
            if !rooms.may_know(nid, user)? {
                return Err(unknown());
            }
            to_object(&rooms.summary(nid)?)?
        }
        _ => {
            let user = user.ok_or_else(unknown)?;
            let mut via = parse_via(&query)?;
            via.extend(servers);
            let mut told = everywhere.remote.hierarchy(&room, &via, false).await?;
            let Some(Value::Object(mut summary)) = told.remove("room") else { return Err(unknown()) };
            if !may_know_of(rooms, &room, &summary, user)? {
                return Err(unknown());
            }
            summary.remove("children_state");
            summary
        }
    };
    if let Some(user) = user {
        let row = nid.map(|nid| rooms.membership(nid, user)).transpose()?.flatten();
        let membership = row.map_or(Membership::Leave, |row| row.membership);
        body.insert("membership".into(), membership.as_str().into());
    }
    answer(&body)
}
