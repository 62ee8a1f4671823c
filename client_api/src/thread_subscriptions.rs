//! Following threads (MSC4306), and what changed of that (MSC4308).

use ::sync::Sync;
use axum::extract::State;
use http::StatusCode;
use rooms::{RoomView, Rooms};
use serde::Deserialize;
use serde_json::json;
use spec::ids::{EventId, RoomId};
use users::Users;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer, answer_bytes, answer_empty};
use crate::query::Query;

#[derive(Deserialize)]
pub(crate) struct SubscribeBody {
    /// The event because of which a client subscribes on its own.
    automatic: Option<EventId>,
}

/// The room, and the root of a thread that the caller may see.
fn find_root(user: &User, rooms: &Rooms, room: &RoomId, root: &EventId) -> Result<RoomView, ApiError> {
    let view = rooms.as_user(room, user.user)?;
    view.event(root)?;
    Ok(view)
}

/// `PUT /rooms/{roomId}/thread/{eventId}/subscription`.
pub(crate) async fn subscribe(
    user: User,
    Args((room, root)): Args<(RoomId, EventId)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<SubscribeBody>,
) -> Answer {
    let view = find_root(&user, &rooms, &room, &root)?;
    let mut cause = None;
    if let Some(automatic) = body.automatic {
        let event = view.event(&automatic)?;
        if event.thread_root().as_deref() != Some(root.as_str()) {
            let message = "the event is not part of the thread";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", message));
        }
        cause = Some(event.seq());
    }
    if users.subscribe_to_thread(user.user, view.room(), root.as_str(), cause).await? {
        return answer_empty();
    }
    let message = "the user has unsubscribed from the thread since the event";
    Err(ApiError::new(StatusCode::CONFLICT, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", message))
}

/// `GET /rooms/{roomId}/thread/{eventId}/subscription`.
pub(crate) async fn get_subscription(
    user: User,
    Args((room, root)): Args<(RoomId, EventId)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
) -> Answer {
    let view = find_root(&user, &rooms, &room, &root)?;
    let automatic = users.thread_subscription(user.user, view.room(), root.as_str())?;
    let automatic = automatic.ok_or_else(|| ApiError::not_found("you are not subscribed to the thread"))?;
    answer(&json!({"automatic": automatic}))
}

/// `DELETE /rooms/{roomId}/thread/{eventId}/subscription`.
pub(crate) async fn unsubscribe(
    user: User,
    Args((room, root)): Args<(RoomId, EventId)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
) -> Answer {
    let view = find_root(&user, &rooms, &room, &root)?;
    let newest = rooms.head(view.room())?.last_seq();
    users.unsubscribe_from_thread(user.user, view.room(), root.as_str(), newest).await?;
    answer_empty()
}

/// `GET /thread_subscriptions`.
pub(crate) async fn get_changes(user: User, query: Query, State(sync): State<Sync>) -> Answer {
    if query.text("dir")?.is_some_and(|dir| dir != "b") {
        return Err(ApiError::invalid_param("dir is b"));
    }
    let (from, to) = (query.text("from")?, query.text("to")?);
    answer_bytes(sync.thread_subscriptions(&user, from.as_deref(), to.as_deref(), query.parsed("limit")?)?)
}
