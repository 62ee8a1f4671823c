//! Server-Server API §Third-party invites: invitations by e-mail address, once the address belongs to a user.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use http::StatusCode;
use rooms::{Membership, MembershipChange, RemoteRooms};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, ServerName, UserId};
use tokio::sync::Semaphore;

use crate::Federation;
use crate::client::{Ask, encode_path};
use crate::inbound::error::ServeError;
use crate::inbound::origin::SignedJson;
use crate::serve::access::find_resident_room;
use crate::serve::answer::{Answer, answer};
use crate::serve::arguments::Args;

/// The largest notification of an identity server, in bytes.
const MAX_BINDING: usize = 64 * 1024;
/// How long a notification may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// The most invitations of one notification.
const MAX_INVITES: usize = 10;
/// How many notifications are worked on at a time. Anybody can send one, and each makes this server ask others.
static BINDINGS: Semaphore = Semaphore::const_new(2);

/// A partial member event.
#[derive(Deserialize)]
pub(crate) struct ExchangeBody {
    #[serde(rename = "type")]
    kind: String,
    room_id: RoomId,
    sender: UserId,
    state_key: UserId,
    content: ExchangeContent,
}

#[derive(Deserialize)]
struct ExchangeContent {
    membership: String,
    third_party_invite: ThirdPartyInvite,
}

#[derive(Deserialize)]
struct ThirdPartyInvite {
    display_name: Option<String>,
    signed: Map<String, Value>,
}

/// `PUT /exchange_third_party_invite/{roomId}`: makes the invitation that a user of this server has offered to whoever
/// owns an address. The signature of the identity server is checked by the room's authorisation rules.
pub(crate) async fn exchange_invite(
    Args(room_id): Args<RoomId>,
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<ExchangeBody>,
) -> Answer {
    let ExchangeBody { kind, room_id: named, sender, state_key: target, content } = body;
    if kind != "m.room.member" || content.membership != "invite" || named != room_id {
        return Err(ServeError::invalid_param("the event is no invitation to this room"));
    }
    if sender.server_name() != federation.server_name.as_str() {
        return Err(ServeError::invalid_param("the invitation was not offered by a user of this server"));
    }
    if target.server_name() != origin.as_str() {
        return Err(ServeError::forbidden("the user is not of your server"));
    }
    let room = find_resident_room(&federation, &room_id, &origin)?;
    let ThirdPartyInvite { display_name, signed } = content.third_party_invite;
    let mut invite = Map::new();
    // As in the offer, so that the room sees whom it was meant for; the request may say what it likes.
    let token = signed.get("token").and_then(Value::as_str).unwrap_or_default();
    let state = federation.rooms.head(room)?.state();
    let offer = federation.rooms.state_event(room, state, "m.room.third_party_invite", token)?;
    let offer: Map<String, Value> = offer.and_then(|offer| offer.content_as()).unwrap_or_default();
    let offered = offer.get("display_name").and_then(Value::as_str).map(str::to_owned);
    if let Some(name) = offered.or(display_name) {
        invite.insert("display_name".into(), name.into());
    }
    invite.insert("signed".into(), Value::Object(signed));
    let content = Map::from_iter([("third_party_invite".to_owned(), Value::Object(invite))]);
    federation.invite(&sender, &room_id, &target, content).await?;
    answer(&json!({}))
}

/// What an identity server says of an address that belongs to a user now.
#[derive(Deserialize)]
struct Binding {
    mxid: UserId,
    #[serde(default)]
    invites: Vec<BoundInvite>,
}

#[derive(Deserialize)]
struct BoundInvite {
    mxid: UserId,
    room_id: RoomId,
    sender: UserId,
    signed: Map<String, Value>,
}

/// `PUT /3pid/onbind`, and `POST` as identity servers do: nobody signs it. What it says is believed by nobody: every
/// room checks the identity server's signature for itself.
pub(crate) async fn take_binding(State(federation): State<Federation>, body: Body) -> Answer {
    if !federation.config.enabled {
        return Err(ServeError::forbidden("this server does not take part in federation"));
    }
    let _place = BINDINGS.try_acquire().map_err(|_| ServeError::limit_exceeded(1000))?;
    let binding = read_binding(&federation, body).await?;
    if binding.mxid.server_name() != federation.server_name.as_str() {
        return Err(ServeError::invalid_param("the user is not of this server"));
    }
    if federation.users.active_user(&binding.mxid)?.is_none() {
        return Err(ServeError::not_found("no such user on this server"));
    }
    for invite in binding.invites.into_iter().filter(|invite| invite.mxid == binding.mxid).take(MAX_INVITES) {
        let (room_id, sender) = (invite.room_id.clone(), invite.sender.clone());
        if let Err(error) = redeem(&federation, invite).await {
            tracing::debug!(%room_id, %sender, %error, "an invitation to an address could not be redeemed");
        }
    }
    answer(&json!({}))
}

async fn read_binding(federation: &Federation, body: Body) -> Result<Binding, ServeError> {
    let read = federation.clock.timeout(BODY_TIME, axum::body::to_bytes(body, MAX_BINDING)).await;
    let slow = || ServeError::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "the body took too long");
    let bytes = read.ok_or_else(slow)?.map_err(|_| ServeError::too_large("the body is too large"))?;
    serde_json::from_slice(&bytes).map_err(|error| ServeError::bad_json(error.to_string()))
}

/// Makes the invitation if its sender is of this server, or asks the sender's server for it.
async fn redeem(federation: &Federation, invite: BoundInvite) -> Result<(), ServeError> {
    let BoundInvite { mxid: target, room_id, sender, signed } = invite;
    let content = Map::from_iter([("third_party_invite".to_owned(), json!({"signed": signed}))]);
    if sender.server_name() == federation.server_name.as_str() {
        let change = MembershipChange { sender, target, membership: Membership::Invite, content };
        return Ok(federation.rooms.change_membership(&room_id, change).await?);
    }
    let server =
        ServerName::parse(sender.server_name()).map_err(|error| ServeError::invalid_param(error.to_string()))?;
    let mut content = content;
    content.insert("membership".into(), "invite".into());
    let event = json!({
        "type": "m.room.member",
        "room_id": room_id,
        "sender": sender,
        "state_key": target,
        "content": content,
    });
    let path = encode_path(&["_matrix", "federation", "v1", "exchange_third_party_invite", room_id.as_str()]);
    federation.client.ask(&server, Ask::put(path, &event)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
