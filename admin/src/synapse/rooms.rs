//! The family Rooms. Identifiers of work are the numbers of jobs, as text.

mod delete;
mod history;
mod inside;
mod people;

pub(super) use delete::{delete_now, delete_soon, delete_status, delete_status_of_room};
pub(super) use history::{purge_history, purge_history_before_event, purge_history_status};
pub(super) use inside::{fetch_event, get_context, get_hierarchy, get_messages, get_timestamp};
pub(super) use people::{delete_extremities, get_extremities, get_members, join, make_admin};

use axum::extract::State;
use rooms::{RoomOrder, RoomOverview, RoomView, RoomsQuery};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::RoomId;

use super::{is_backwards, reading};
use crate::admin::{Action, Admin};
use crate::arguments::{RoomArg, Window};
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Query, Refusal, SynapseCaller, answer};
use crate::operation::{Effect, Needs};
use crate::room::render;

/// How many rooms a page has unless it is said.
const DEFAULT_ROOMS: usize = 100;

/// A room id of the path.
fn parse_room(text: &str) -> Result<RoomId, Refusal> {
    RoomId::parse(text).map_err(|error| Refusal::invalid_param(format!("{text} is no room id: {error}")))
}

/// A room with nothing hidden.
fn view(admin: &Admin, room: &RoomId) -> Result<RoomView, AdminError> {
    Ok(admin.rooms().as_operator(admin.rooms().known_room(room)?)?)
}

/// A room of the path that is known here: its id or an alias.
fn find_room(admin: &Admin, text: &str) -> Result<(rooms::RoomNid, RoomId), AdminError> {
    let argument: RoomArg =
        serde_json::from_value(text.into()).map_err(|error| AdminError::invalid(error.to_string()))?;
    argument.known_room(admin)
}

/// What changes a room and is recorded under this name.
fn changing(name: &str, effect: Effect, arguments: Value) -> Action {
    Action { name: name.to_owned(), needs: Needs::Administrator, effect, arguments }
}

fn order_of(name: &str) -> Option<RoomOrder> {
    match name {
        "alphabetical" => Some(RoomOrder::Name),
        "size" => Some(RoomOrder::JoinedMembers),
        name => RoomOrder::parse(name),
    }
}

fn describe(room: &RoomOverview) -> Map<String, Value> {
    let described = json!({
        "room_id": room.room_id,
        "name": room.name,
        "canonical_alias": room.canonical_alias,
        "joined_members": room.joined_members,
        "joined_local_members": room.joined_local_members,
        "version": room.version,
        "creator": room.creator,
        "encryption": room.encryption,
        "federatable": room.federatable,
        "public": room.public,
        "join_rules": room.join_rules,
        "guest_access": room.guest_access,
        "history_visibility": room.history_visibility,
        "state_events": room.state_events,
        "room_type": room.room_type,
    });
    match described {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// `GET /_synapse/admin/v1/rooms`.
pub(super) async fn list(State(admin): State<Admin>, SynapseCaller(caller): SynapseCaller, query: Query) -> Answer {
    let search = query.text("search_term")?.map(std::borrow::Cow::into_owned);
    if search.as_deref() == Some("") {
        return Err(Refusal::invalid_param("search_term cannot be empty"));
    }
    let order_by = query.text("order_by")?.unwrap_or("name".into());
    let order = order_of(&order_by).ok_or_else(|| Refusal::invalid_param(format!("order_by {order_by} is unknown")))?;
    let window = Window { skip: query.parsed::<usize>("from")?.unwrap_or(0), limit: query.limit(DEFAULT_ROOMS)? };
    let Window { skip, limit } = window;
    let wanted = RoomsQuery {
        search,
        public: query.flag("public_rooms")?,
        empty: query.flag("empty_rooms")?,
        order,
        reverse: is_backwards(&query, false)?,
        skip,
        limit,
        ..RoomsQuery::default()
    };
    let rooms = admin.rooms().clone();
    let listing = async { admin.tasks().compute("list of rooms", move || rooms.list_rooms(&wanted)).await };
    let action = reading("room list", json!({"order_by": order_by, "from": skip, "limit": limit}));
    let listing = async { Ok(listing.await.map_err(AdminError::internal)??) };
    let page = admin.audited(&caller, action, listing).await?;
    let rooms: Vec<Value> = page.rooms.iter().map(|room| Value::Object(describe(room))).collect();
    let next = window.next(rooms.len(), page.total);
    let mut body = json!({"rooms": rooms, "offset": skip, "total_rooms": page.total});
    if let Some(next) = next {
        body["next_batch"] = next.into();
    }
    if skip > 0 {
        body["prev_batch"] = skip.saturating_sub(limit).into();
    }
    answer(&body)
}

/// `GET /_synapse/admin/v1/rooms/{room_id}`.
pub(super) async fn show(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
) -> Answer {
    let id = parse_room(&room)?;
    let details = async {
        let nid = admin.rooms().known_room(&id)?;
        let overview = admin.rooms().overview(nid)?;
        let mut details = describe(&overview);
        let (mut devices, mut remembered) = (0, 0);
        for member in admin.rooms().local_members(nid)? {
            if member.membership == rooms::Membership::Join {
                devices += admin.users().devices(member.user)?.len();
            }
            let row = admin.rooms().membership(nid, member.user)?;
            remembered += usize::from(row.is_some_and(|row| !row.forgotten));
        }
        details.insert("avatar".into(), json!(overview.avatar));
        details.insert("topic".into(), json!(overview.topic));
        details.insert("joined_local_devices".into(), devices.into());
        details.insert("forgotten".into(), (remembered == 0).into());
        details.insert("tombstoned".into(), overview.tombstoned.into());
        Ok::<_, AdminError>(details)
    };
    let details = admin.audited(&caller, reading("room show", json!({"room": room})), details).await?;
    answer(&details)
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/state`.
pub(super) async fn get_state(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    query: Query,
) -> Answer {
    let id = parse_room(&room)?;
    let kind = query.text("type")?.map(std::borrow::Cow::into_owned);
    let state = async {
        let view = view(&admin, &id)?;
        let mut events = view.state_events()?;
        events.retain(|event| kind.as_deref().is_none_or(|kind| event.kind() == kind));
        render(&view, &events)
    };
    let state = admin.audited(&caller, reading("room state", json!({"room": room})), state).await?;
    answer(&json!({"state": state}))
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/block`.
pub(super) async fn get_block(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
) -> Answer {
    let id = parse_room(&room)?;
    let block = async { Ok::<_, AdminError>(admin.rooms().blocked(&id)?) };
    let block = admin.audited(&caller, reading("room blocked", json!({"room": room})), block).await?;
    match block {
        Some(block) => answer(&json!({"block": true, "user_id": block.by})),
        None => answer(&json!({"block": false})),
    }
}

#[derive(Deserialize)]
pub(super) struct BlockBody {
    block: bool,
}

/// `PUT /_synapse/admin/v1/rooms/{room_id}/block`.
pub(super) async fn put_block(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    JsonBody(body): JsonBody<BlockBody>,
) -> Answer {
    let id = parse_room(&room)?;
    let name = if body.block { "room block" } else { "room unblock" };
    let action = Action { needs: Needs::Moderator, ..changing(name, Effect::Changes, json!({"room": room})) };
    let blocking = async {
        match body.block {
            true => admin.rooms().block_room(&id, caller.user().map(|(_, user)| user), None).await?,
            false => admin.rooms().unblock_room(&id).await?,
        }
        Ok::<_, AdminError>(())
    };
    admin.audited(&caller, action, blocking).await?;
    answer(&json!({"block": body.block}))
}
