//! Client-Server API §"Room Tagging".

use axum::extract::State;
use rooms::Rooms;
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, UserId};
use users::Users;

use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::login::check_own;

/// `GET /user/{userId}/rooms/{roomId}/tags`.
pub(crate) async fn get_tags(
    user: User,
    Args((subject, room)): Args<(UserId, RoomId)>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    answer(&json!({"tags": users.tags(user, rooms.known_room(&room)?)?}))
}

/// `PUT /user/{userId}/rooms/{roomId}/tags/{tag}`.
pub(crate) async fn set_tag(
    user: User,
    Args((subject, room, tag)): Args<(UserId, RoomId, String)>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    JsonBody(content): JsonBody<Map<String, Value>>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    users.set_tag(user, rooms.known_room(&room)?, &tag, content).await?;
    answer_empty()
}

/// `DELETE /user/{userId}/rooms/{roomId}/tags/{tag}`.
pub(crate) async fn delete_tag(
    user: User,
    Args((subject, room, tag)): Args<(UserId, RoomId, String)>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    users.delete_tag(user, rooms.known_room(&room)?, &tag).await?;
    answer_empty()
}
