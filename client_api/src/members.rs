//! Who is in which room (Client-Server API §"Room membership", §"Getting events for a room").

use std::time::Duration;

use ::sync::SyncToken;
use axum::extract::State;
use rooms::{Cursor, Event, EventFormat, Membership, Renderer, RoomError, RoomNid, RoomView, Rooms, SnapshotId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::RoomId;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, answer, answer_bytes};
use crate::query::Query;
use crate::send::find_room;

/// `GET /joined_rooms`.
pub(crate) async fn get_joined_rooms(user: User, State(rooms): State<Rooms>) -> Answer {
    let joined = rooms.joined_rooms(user.user)?;
    let joined = joined.into_iter().map(|room| rooms.room_id(room)).collect::<Result<Vec<_>, _>>()?;
    answer(&json!({"joined_rooms": joined}))
}

/// `GET /rooms/{roomId}/joined_members`: for those who are in the room.
pub(crate) async fn get_joined_members(user: User, Args(room): Args<RoomId>, State(rooms): State<Rooms>) -> Answer {
    #[derive(Deserialize)]
    struct Profile {
        displayname: Option<Value>,
        avatar_url: Option<Value>,
    }
    let view = full_view(&user, &room, &rooms).await?;
    if !view.is_joined() {
        return Err(RoomError::NotInRoom.into());
    }
    let mut joined = Map::new();
    for (_, membership, seq) in rooms.members(view.room())? {
        if membership != Membership::Join {
            continue;
        }
        let event = rooms.event_at(view.room(), seq)?;
        let Some(member) = event.state_key() else { continue };
        let mut shown = Map::new();
        if let Some(profile) = event.content_as::<Profile>() {
            shown.insert("display_name".into(), profile.displayname.filter(Value::is_string).unwrap_or_default());
            shown.insert("avatar_url".into(), profile.avatar_url.filter(Value::is_string).unwrap_or_default());
        }
        joined.insert(member.to_owned(), shown.into());
    }
    answer(&json!({"joined": joined}))
}

/// How long a call waits for the state of a room: less than most proxies do.
const STATE_WAIT: Duration = Duration::from_secs(50);

/// Waits for the state of a room that was entered without its members (MSC3902).
///
/// # Errors
/// [`RoomError::StateIncomplete`] if it takes too long.
pub(crate) async fn full_state(rooms: &Rooms, room: RoomNid) -> Result<(), ApiError> {
    if rooms.wait_full_state(room, STATE_WAIT).await? { Ok(()) } else { Err(RoomError::StateIncomplete.into()) }
}

/// As [`full_state`], for one who is in the room; whoever is not is told so at once by what they ask for.
pub(crate) async fn full_state_for(user: &User, room: &RoomId, rooms: &Rooms) -> Result<(), ApiError> {
    let room = find_room(rooms, room)?;
    match rooms.membership(room, user.user)?.map(|row| row.membership) {
        Some(Membership::Join) => full_state(rooms, room).await,
        _ => Ok(()),
    }
}

/// A room as the user may see it, once all of its state is here.
///
/// # Errors
/// [`RoomError::NotInRoom`]; as [`full_state`].
pub(crate) async fn full_view(user: &User, room: &RoomId, rooms: &Rooms) -> Result<RoomView, ApiError> {
    let view = rooms.as_user(room, user.user)?;
    if !view.head().is_partial() {
        return Ok(view);
    }
    full_state(rooms, view.room()).await?;
    Ok(rooms.as_user(room, user.user)?)
}

/// The place in a room that a pagination token, or a token of /sync, stands for.
///
/// # Errors
/// `M_INVALID_PARAM`.
pub(crate) fn parse_place(view: &RoomView, text: &str) -> Result<Cursor, ApiError> {
    match text.parse::<Cursor>() {
        Ok(cursor) => Ok(cursor),
        Err(_) => Ok(view.cursor_at(SyncToken::parse(text)?.pos)?),
    }
}

fn parse_membership(query: &Query, name: &'static str) -> Result<Option<Membership>, ApiError> {
    let Some(text) = query.text(name)? else { return Ok(None) };
    let membership = Membership::parse(&text);
    membership.map(Some).ok_or_else(|| ApiError::invalid_param(format!("{name} is not a membership")))
}

/// `GET /rooms/{roomId}/members`.
pub(crate) async fn get_members(
    user: User,
    Args(room): Args<RoomId>,
    query: Query,
    State(rooms): State<Rooms>,
) -> Answer {
    let view = full_view(&user, &room, &rooms).await?;
    let (only, not) = (parse_membership(&query, "membership")?, parse_membership(&query, "not_membership")?);
    let wanted = |event: &Event| {
        let membership = membership_of(event);
        event.kind() == "m.room.member"
            && (only.is_none() && not.is_none()
                || only.is_some() && membership == only
                || not.is_some() && membership != not)
    };
    let snapshot = match query.text("at")? {
        Some(at) => state_at(&view, parse_place(&view, &at)?)?,
        None => view.state()?,
    };
    let events: Vec<Event> = view.state_events_at(snapshot)?.into_iter().filter(wanted).collect();
    let mut body = Vec::with_capacity(512 * events.len() + 16);
    body.extend_from_slice(b"{\"chunk\":");
    Renderer::new(&view, Some(&user.device_id), EventFormat::Client).render_all(&events, &mut body)?;
    body.push(b'}');
    answer_bytes(body)
}

fn membership_of(event: &Event) -> Option<Membership> {
    #[derive(Deserialize)]
    struct Content {
        membership: Membership,
    }
    Some(event.content_as::<Content>()?.membership)
}

/// The state at a place of the timeline, never later than the viewer may see.
fn state_at(view: &RoomView, place: Cursor) -> Result<SnapshotId, ApiError> {
    if place >= view.newest()? {
        return Ok(view.state()?);
    }
    // Who may not see what happened there may not see who was there either.
    let next = view.visible(view.first_after(place)?.into_iter().collect())?;
    Ok(next.first().ok_or(RoomError::NotInRoom)?.state_before())
}
