//! Server-Server API §Knocking upon a room.

use axum::extract::State;
use rooms::Membership;
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, UserId};

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::{Origin, SignedJson};
use crate::serve::answer::{Answer, answer};
use crate::serve::arguments::{Args, Query};
use crate::serve::handshake::Handshake;
use crate::serve::outline::read_outline;

/// `GET /make_knock/{roomId}/{userId}`.
pub(crate) async fn make_knock(
    Origin(origin): Origin,
    Args((room_id, user)): Args<(RoomId, UserId)>,
    query: Query,
    State(federation): State<Federation>,
) -> Answer {
    let handshake = Handshake::begin(&federation, &origin, &room_id, Membership::Knock)?;
    handshake.check_user(&user)?;
    handshake.check_versions(&query)?;
    check_knocking(&handshake)?;
    handshake.answer_template(&user, Map::new())
}

fn check_knocking(handshake: &Handshake<'_>) -> Result<(), ServeError> {
    if handshake.head.rules().knocking {
        return Ok(());
    }
    Err(ServeError::forbidden("rooms of this version cannot be knocked upon"))
}

/// `PUT /send_knock/{roomId}/{eventId}`.
pub(crate) async fn send_knock(
    Args((room_id, event_id)): Args<(RoomId, EventId)>,
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<Map<String, Value>>,
) -> Answer {
    let handshake = Handshake::begin(&federation, &origin, &room_id, Membership::Knock)?;
    check_knocking(&handshake)?;
    let received = handshake.read_event(body, &event_id)?;
    handshake.take_in(received).await?;
    answer(&json!({"knock_room_state": read_outline(&federation, handshake.room)?}))
}
