//! Reading and setting state (Client-Server API §"Getting events for a room", §"Sending events to a room").

use axum::extract::State;
use http::StatusCode;
use rooms::{Draft, EventFormat, Membership, MembershipChange, NewDelayedEvent, Renderer, RoomError, RoomNid, Rooms};
use runtime::Tasks;
use serde_json::{Map, Value};
use spec::ids::{RoomAlias, RoomId, UserId};
use users::{Signal, Users};

use crate::Edge;
use crate::delayed::{delay_of, schedule};
use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::guests::remove_guests;
use crate::json::{Answer, JsonBody, answer_bytes};
use crate::members::{full_state_for, full_view};
use crate::membership::{check_invitable, check_may_enter, check_may_invite, is_remote};
use crate::query::Query;
use crate::send::{EVENT_BODY, answer_event_id, claimed_time, find_room, only_event};
use crate::shadow_ban::pretend_to_send;
use crate::succession::take_rules_along;

/// `GET /rooms/{roomId}/state`.
pub(crate) async fn get_all(user: User, Args(room): Args<RoomId>, State(rooms): State<Rooms>) -> Answer {
    let view = full_view(&user, &room, &rooms).await?;
    let events = view.state_events()?;
    let mut body = Vec::with_capacity(512 * events.len() + 2);
    Renderer::new(&view, Some(&user.device_id), EventFormat::Client).render_all(&events, &mut body)?;
    answer_bytes(body)
}

/// `GET /rooms/{roomId}/state/{eventType}`.
pub(crate) async fn get_without_key(
    user: User,
    Args((room, kind)): Args<(RoomId, String)>,
    query: Query,
    State(rooms): State<Rooms>,
) -> Answer {
    read_state(&user, &room, &kind, "", &query, &rooms).await
}

/// `GET /rooms/{roomId}/state/{eventType}/{stateKey}`.
pub(crate) async fn get_one(
    user: User,
    Args((room, kind, key)): Args<(RoomId, String, String)>,
    query: Query,
    State(rooms): State<Rooms>,
) -> Answer {
    read_state(&user, &room, &kind, &key, &query, &rooms).await
}

async fn read_state(user: &User, room: &RoomId, kind: &str, key: &str, query: &Query, rooms: &Rooms) -> Answer {
    let mut view = rooms.as_user(room, user.user)?;
    let event = match view.state_event(kind, key) {
        // Of users elsewhere a partial room does not say who is no member.
        Err(RoomError::StateNotFound) if kind == "m.room.member" && is_elsewhere(rooms, key) => {
            view = full_view(user, room, rooms).await?;
            view.state_event(kind, key)?
        }
        found => found?,
    };
    match query.text("format")?.as_deref() {
        None | Some("content") => answer_bytes(event.content().as_bytes().to_vec()),
        Some("event") => {
            let mut body = Vec::with_capacity(1024);
            Renderer::new(&view, Some(&user.device_id), EventFormat::Client).render(&event, &mut body)?;
            answer_bytes(body)
        }
        Some(_) => Err(ApiError::invalid_param("format is content or event")),
    }
}

fn is_elsewhere(rooms: &Rooms, user: &str) -> bool {
    UserId::parse(user).is_ok_and(|user| is_remote(rooms, &user))
}

/// `PUT /rooms/{roomId}/state/{eventType}`.
pub(crate) async fn set_without_key(
    user: User,
    Args((room, kind)): Args<(RoomId, String)>,
    query: Query,
    State(edge): State<Edge>,
    JsonBody(content): JsonBody<Map<String, Value>, EVENT_BODY>,
) -> Answer {
    set_state(&user, &room, &kind, String::new(), &query, content, &edge).await
}

/// `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`.
pub(crate) async fn set_one(
    user: User,
    Args((room, kind, key)): Args<(RoomId, String, String)>,
    query: Query,
    State(edge): State<Edge>,
    JsonBody(content): JsonBody<Map<String, Value>, EVENT_BODY>,
) -> Answer {
    set_state(&user, &room, &kind, key, &query, content, &edge).await
}

async fn set_state(
    user: &User,
    room: &RoomId,
    kind: &str,
    key: String,
    query: &Query,
    content: Map<String, Value>,
    edge: &Edge,
) -> Answer {
    if let Some(delay_ms) = delay_of(query)? {
        edge.users.record_activity(user.user);
        let event =
            NewDelayedEvent { kind: kind.into(), state_key: Some(key.into()), content, delay_ms, sticky_ms: None };
        return schedule(user, &edge.rooms, room, event, None).await;
    }
    let is_about_self = kind == "m.room.member" && *key == *user.user_id.as_str();
    if !is_about_self && let Some(id) = pretend_to_send(user, &edge.rooms, &edge.users, room, None)? {
        return answer_event_id(&id);
    }
    if kind == "m.room.member" && sets_membership(&content, Membership::Invite) {
        let target = UserId::parse(&*key).map_err(|error| ApiError::bad_json(format!("the state key: {error}")))?;
        check_may_invite(user, [&target], &edge.rooms)?;
        edge.newcomers.check_invitations(user, [&target]).await?;
        edge.users.count_signal(user.user, Signal::Invitations, 1).await;
        check_invitable(&edge.rooms, &edge.users, &user.user_id, &target)?;
    }
    if is_about_self && sets_membership(&content, Membership::Join) {
        check_may_enter(user, room, &edge.rooms, &edge.newcomers).await?;
    }
    if is_about_self && sets_membership(&content, Membership::Leave) {
        edge.users.check_may_leave(user.user, find_room(&edge.rooms, room)?)?;
    }
    if kind == "m.room.member" && *key != *user.user_id.as_str() {
        full_state_for(user, room, &edge.rooms).await?;
    }
    let timestamp = claimed_time(user, query)?;
    let successor = successor_of(user, (room, kind, &*key), &content);
    let event = write_state(user, room, (kind, key), content, timestamp, &edge.rooms).await?;
    follow_change(user, room, kind, &edge.rooms, &edge.users, &edge.tasks)?;
    if let Some(successor) = successor {
        take_rules_along(user, &successor, &edge.rooms, &edge.users).await;
    }
    answer_event_id(&event)
}

/// The room for which this change gives the caller push rules, if it may be the successor of another: one that they join,
/// or that they say replaces the room.
fn successor_of(user: &User, (room, kind, key): (&RoomId, &str, &str), content: &Map<String, Value>) -> Option<RoomId> {
    match kind {
        "m.room.member" if key == user.user_id.as_str() && sets_membership(content, Membership::Join) => {
            Some(room.clone())
        }
        "m.room.tombstone" => RoomId::parse(content.get("replacement_room")?.as_str()?).ok(),
        _ => None,
    }
}

fn sets_membership(content: &Map<String, Value>, membership: Membership) -> bool {
    content.get("membership").and_then(Value::as_str) == Some(membership.as_str())
}

async fn write_state(
    user: &User,
    room: &RoomId,
    (kind, key): (&str, String),
    content: Map<String, Value>,
    timestamp: Option<i64>,
    rooms: &Rooms,
) -> Result<String, ApiError> {
    let nid = find_room(rooms, room)?;
    match kind {
        "m.room.member" => return set_member(user, (room, nid), &key, content, timestamp, rooms).await,
        "m.room.create" => return Err(ApiError::forbidden("a room has one create event, by which it begins")),
        "m.room.canonical_alias" if key.is_empty() => check_aliases(rooms, room, nid, &content)?,
        _ => {}
    }
    let draft = Draft { skip_if_unchanged: true, timestamp, ..Draft::state(user.user_id.clone(), kind, &key, content) };
    let ids = rooms.append(nid, vec![draft], None).await?;
    Ok(only_event(ids)?.as_str().to_owned())
}

/// What follows from a state event that was set.
fn follow_change(
    user: &User,
    room: &RoomId,
    kind: &str,
    rooms: &Rooms,
    users: &Users,
    tasks: &Tasks,
) -> Result<(), ApiError> {
    users.record_activity(user.user);
    if kind == "m.room.guest_access" {
        remove_guests(rooms, users, tasks, find_room(rooms, room)?);
    }
    Ok(())
}

/// A member event that a client writes itself is a change of membership like any other.
async fn set_member(
    user: &User,
    (room, nid): (&RoomId, RoomNid),
    target: &str,
    content: Map<String, Value>,
    timestamp: Option<i64>,
    rooms: &Rooms,
) -> Result<String, ApiError> {
    let target = UserId::parse(target).map_err(|error| ApiError::bad_json(format!("the state key: {error}")))?;
    let membership = content.get("membership").and_then(Value::as_str).and_then(Membership::parse);
    let membership = membership.ok_or_else(|| ApiError::bad_json("membership is missing or unknown"))?;
    if membership != Membership::Invite {
        rooms.intern_user(&target).await?;
    }
    let change = MembershipChange { sender: user.user_id.clone(), target: target.clone(), membership, content };
    rooms.change_membership_at(room, change, timestamp).await?;
    let head = rooms.head(nid)?;
    let event = rooms.state_event(nid, head.state(), "m.room.member", target.as_str())?;
    let event = event.ok_or(RoomError::Inconsistent("a changed membership without an event"))?;
    Ok(event.event_id().to_owned())
}

fn aliases_of(content: &Map<String, Value>) -> Result<Vec<&str>, ApiError> {
    let mut aliases = Vec::new();
    match content.get("alias") {
        None | Some(Value::Null) => {}
        Some(Value::String(alias)) if alias.is_empty() => {}
        Some(Value::String(alias)) => aliases.push(alias.as_str()),
        Some(_) => return Err(ApiError::bad_json("alias: not a string")),
    }
    match content.get("alt_aliases") {
        None | Some(Value::Null) => {}
        Some(Value::Array(alternatives)) => {
            for alias in alternatives {
                aliases.push(alias.as_str().ok_or_else(|| ApiError::bad_json("alt_aliases: not strings"))?);
            }
        }
        Some(_) => return Err(ApiError::bad_json("alt_aliases: not a list")),
    }
    Ok(aliases)
}

/// Aliases that are new in the event must point to this room.
pub(crate) fn check_aliases(
    rooms: &Rooms,
    room: &RoomId,
    nid: RoomNid,
    content: &Map<String, Value>,
) -> Result<(), ApiError> {
    let head = rooms.head(nid)?;
    let current = rooms.state_event(nid, head.state(), "m.room.canonical_alias", "")?;
    let current: Map<String, Value> = current.and_then(|event| event.content_as()).unwrap_or_default();
    let current = aliases_of(&current).unwrap_or_default();
    for alias in aliases_of(content)? {
        if current.contains(&alias) {
            continue;
        }
        let parsed = RoomAlias::parse(alias).map_err(|error| ApiError::invalid_param(format!("{alias}: {error}")))?;
        let points_here = match rooms.find_alias(&parsed) {
            Ok((found, _)) => found == *room,
            Err(RoomError::AliasNotFound) => false,
            Err(error) => return Err(error.into()),
        };
        if !points_here {
            let message = format!("{alias} does not point to this room");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_BAD_ALIAS", message));
        }
    }
    Ok(())
}
