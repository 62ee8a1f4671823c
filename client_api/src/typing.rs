//! Client-Server API §"Typing Notifications".

use std::time::Duration;

use axum::extract::State;
use rooms::{Membership, RoomError, Rooms};
use serde::Deserialize;
use spec::ids::{RoomId, UserId};
use users::Users;

use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer_empty};
use crate::login::check_own;
use crate::send::find_room;

const DEFAULT_TIMEOUT_MS: u64 = 30_000;

#[derive(Deserialize)]
pub(crate) struct TypingBody {
    typing: bool,
    timeout: Option<u64>,
}

/// `PUT /rooms/{roomId}/typing/{userId}`.
pub(crate) async fn set_typing(
    user: User,
    Args((room, subject)): Args<(RoomId, UserId)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<TypingBody>,
) -> Answer {
    let nid = check_own(&user, &subject)?;
    let room = find_room(&rooms, &room)?;
    if rooms.membership(room, nid)?.map(|row| row.membership) != Some(Membership::Join) {
        return Err(RoomError::NotInRoom.into());
    }
    let timeout = Duration::from_millis(body.timeout.unwrap_or(DEFAULT_TIMEOUT_MS));
    if user.is_shadow_banned {
        return answer_empty();
    }
    rooms.set_typing(room, nid, body.typing.then_some(timeout));
    users.record_activity(nid);
    answer_empty()
}
