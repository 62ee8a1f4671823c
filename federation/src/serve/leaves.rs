//! Server-Server API §Leaving Rooms: users of other servers refuse invitations and withdraw knocks.

use axum::extract::State;
use rooms::Membership;
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::{Origin, SignedJson};
use crate::serve::answer::{Answer, answer, answer_v1};
use crate::serve::arguments::Args;
use crate::serve::handshake::Handshake;

/// `GET /make_leave/{roomId}/{userId}`.
pub(crate) async fn make_leave(
    Origin(origin): Origin,
    Args((room_id, user)): Args<(RoomId, UserId)>,
    State(federation): State<Federation>,
) -> Answer {
    let handshake = Handshake::begin(&federation, &origin, &room_id, Membership::Leave)?;
    handshake.check_user(&user)?;
    handshake.answer_template(&user, Map::new())
}

/// `PUT /v2/send_leave/{roomId}/{eventId}`.
pub(crate) async fn send_leave(
    Args((room_id, event_id)): Args<(RoomId, EventId)>,
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<Map<String, Value>>,
) -> Answer {
    take_in_leave(&federation, &origin, &room_id, &event_id, body).await?;
    answer(&json!({}))
}

/// `PUT /v1/send_leave/{roomId}/{eventId}`.
pub(crate) async fn send_leave_v1(
    Args((room_id, event_id)): Args<(RoomId, EventId)>,
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<Map<String, Value>>,
) -> Answer {
    take_in_leave(&federation, &origin, &room_id, &event_id, body).await?;
    answer_v1(&json!({}))
}

async fn take_in_leave(
    federation: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
    raw: Map<String, Value>,
) -> Result<(), ServeError> {
    let handshake = Handshake::begin(federation, origin, room_id, Membership::Leave)?;
    let received = handshake.read_event(raw, event_id)?;
    handshake.take_in(received).await
}
