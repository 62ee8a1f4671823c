//! Client-Server API §"Presence".

use axum::extract::State;
use rooms::Rooms;
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::ids::UserId;
use users::{PresenceState, Users};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::login::check_own;

/// Reads a presence state of a request.
///
/// # Errors
/// `M_INVALID_PARAM`.
pub(crate) fn parse_presence(text: &str) -> Result<PresenceState, ApiError> {
    match text {
        "online" => Ok(PresenceState::Online),
        "unavailable" => Ok(PresenceState::Unavailable),
        "offline" => Ok(PresenceState::Offline),
        _ => Err(ApiError::invalid_param("presence is online, unavailable or offline")),
    }
}

fn presence_name(state: PresenceState) -> &'static str {
    match state {
        PresenceState::Online => "online",
        PresenceState::Unavailable => "unavailable",
        PresenceState::Offline => "offline",
    }
}

/// `GET /presence/{userId}/status`: of oneself and of those one shares a room with.
pub(crate) async fn get_status(
    user: User,
    Args(subject): Args<UserId>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
) -> Answer {
    let unknown = || ApiError::not_found("no presence is known of this user");
    let nid = rooms.user_nid(&subject)?.ok_or_else(unknown)?;
    if nid != user.user && !rooms.shares_room(user.user, nid)? {
        return Err(ApiError::forbidden("you do not share a room with this user"));
    }
    let Some(presence) = users.presence(nid) else {
        // Of a user of another server with whom a room is shared, nothing has been heard yet.
        let is_local = subject.server_name() == rooms.server_name().as_str();
        if is_local && users.active_user(&subject)?.is_none() {
            return Err(unknown());
        }
        return answer(&Map::from_iter([("presence".to_owned(), Value::from("offline"))]));
    };
    let mut body = Map::new();
    body.insert("presence".into(), presence_name(presence.state).into());
    body.insert("currently_active".into(), presence.currently_active.into());
    if let Some(status) = &presence.status_msg {
        body.insert("status_msg".into(), (&**status).into());
    }
    if presence.last_active_ms > 0 {
        let ago = rooms.clock().now_ms().saturating_sub(presence.last_active_ms);
        body.insert("last_active_ago".into(), ago.into());
    }
    answer(&body)
}

#[derive(Deserialize)]
pub(crate) struct PresenceBody {
    presence: String,
    status_msg: Option<String>,
}

/// `PUT /presence/{userId}/status`.
pub(crate) async fn set_status(
    user: User,
    Args(subject): Args<UserId>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<PresenceBody>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    users.set_presence(user, parse_presence(&body.presence)?, body.status_msg.as_deref())?;
    answer_empty()
}
