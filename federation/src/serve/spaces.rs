//! Server-Server API §Spaces.

use axum::extract::State;
use rooms::{RoomError, RoomNid};
use serde::Serialize;
use serde_json::value::RawValue;
use spec::ids::RoomId;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::Origin;
use crate::serve::access::find_resident_room;
use crate::serve::answer::{Answer, answer};
use crate::serve::arguments::{Args, Query};

/// The most children of a space that are told.
const MAX_CHILDREN: usize = 500;

/// A room with the events that make others its children.
#[derive(Serialize)]
struct SpaceRoom {
    #[serde(flatten)]
    summary: rooms::RoomSummary,
    children_state: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Hierarchy {
    room: SpaceRoom,
    children: Vec<SpaceRoom>,
    inaccessible_children: Vec<String>,
}

/// `GET /hierarchy/{roomId}`: a space and what is directly in it. Rooms that this server is not in are left out; of
/// those that the other server has no way into, the id is all that is told.
pub(crate) async fn get_hierarchy(
    Origin(origin): Origin,
    Args(room_id): Args<RoomId>,
    query: Query,
    State(federation): State<Federation>,
) -> Answer {
    let suggested_only = query.parsed("suggested_only")?.unwrap_or(false);
    let rooms = &federation.rooms;
    let room = find_resident_room(&federation, &room_id, &origin)?;
    if !rooms.may_server_know(room, &origin)? {
        return Err(RoomError::RoomNotFound.into());
    }
    let (room, child_ids) = describe_room(&federation, room, suggested_only)?;
    let (mut children, mut inaccessible_children) = (Vec::new(), Vec::new());
    for id in child_ids {
        let Ok(child_id) = RoomId::parse(&id) else { continue };
        let Some(child) = rooms.room_nid(&child_id)? else { continue };
        if !rooms.is_resident(child)? {
            continue;
        }
        if rooms.is_server_allowed(child, &origin)? && rooms.may_server_know(child, &origin)? {
            children.push(describe_room(&federation, child, suggested_only)?.0);
        } else {
            inaccessible_children.push(id);
        }
    }
    answer(&Hierarchy { room, children, inaccessible_children })
}

/// A room, and the ids of its children.
fn describe_room(
    federation: &Federation,
    room: RoomNid,
    suggested_only: bool,
) -> Result<(SpaceRoom, Vec<String>), ServeError> {
    let summary = federation.rooms.summary(room)?;
    let mut children = Vec::new();
    if summary.room_type.as_deref() == Some("m.space") {
        children = federation.rooms.space_children(room, suggested_only)?;
        children.truncate(MAX_CHILDREN);
    }
    let (ids, children_state) = children.into_iter().unzip();
    Ok((SpaceRoom { summary, children_state }, ids))
}
