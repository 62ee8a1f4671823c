//! Client-Server API §"Client Config": account data, global and of rooms.

use axum::extract::State;
use rooms::{RoomNid, Rooms};
use serde_json::value::RawValue;
use spec::ids::{RoomId, UserId};
use users::Users;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer_bytes, answer_empty};
use crate::login::check_own;

fn answer_content(content: Option<Box<RawValue>>) -> Answer {
    let content = content.ok_or_else(|| ApiError::not_found("no such account data"))?;
    answer_bytes(content.get().as_bytes().to_vec())
}

/// `GET /user/{userId}/account_data/{type}`.
pub(crate) async fn get_global(
    user: User,
    Args((subject, kind)): Args<(UserId, String)>,
    State(users): State<Users>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    answer_content(users.account_data(user, &kind)?)
}

/// `PUT /user/{userId}/account_data/{type}`.
pub(crate) async fn set_global(
    user: User,
    Args((subject, kind)): Args<(UserId, String)>,
    State(users): State<Users>,
    JsonBody(content): JsonBody<Box<RawValue>>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    users.set_account_data(user, &kind, &content).await?;
    answer_empty()
}

/// `DELETE /user/{userId}/account_data/{type}` (MSC3391).
pub(crate) async fn delete_global(
    user: User,
    Args((subject, kind)): Args<(UserId, String)>,
    State(users): State<Users>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    users.delete_account_data(user, &kind).await?;
    answer_empty()
}

/// The number of a room that data can belong to: any that this server knows.
fn known_room(rooms: &Rooms, room: &str) -> Result<Option<RoomNid>, ApiError> {
    let room = RoomId::parse(room).map_err(|error| ApiError::invalid_param(format!("roomId: {error}")))?;
    Ok(rooms.room_nid(&room)?)
}

/// `GET /user/{userId}/rooms/{roomId}/account_data/{type}`.
pub(crate) async fn get_of_room(
    user: User,
    Args((subject, room, kind)): Args<(UserId, String, String)>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    match known_room(&rooms, &room)? {
        Some(room) => answer_content(users.room_account_data(user, room, &kind)?),
        None => answer_content(None),
    }
}

/// `PUT /user/{userId}/rooms/{roomId}/account_data/{type}`.
pub(crate) async fn set_of_room(
    user: User,
    Args((subject, room, kind)): Args<(UserId, String, String)>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    JsonBody(content): JsonBody<Box<RawValue>>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    let room = known_room(&rooms, &room)?.ok_or_else(|| ApiError::not_found("this server does not know the room"))?;
    users.set_room_account_data(user, room, &kind, &content).await?;
    answer_empty()
}

/// `DELETE /user/{userId}/rooms/{roomId}/account_data/{type}` (MSC3391).
pub(crate) async fn delete_of_room(
    user: User,
    Args((subject, room, kind)): Args<(UserId, String, String)>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    if let Some(room) = known_room(&rooms, &room)? {
        users.delete_room_account_data(user, room, &kind).await?;
    }
    answer_empty()
}
