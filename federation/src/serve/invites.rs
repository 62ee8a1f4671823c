//! Server-Server API §Inviting to a room: users of other servers invite users of this one.

use axum::extract::State;
use http::StatusCode;
use rooms::{Deed, Membership};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use spec::hash;
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::{Pdu, ReceivedPdu};
use spec::version::RoomVersion;
use users::InvitePermission;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::SignedJson;
use crate::remote::check_room_state;
use crate::serve::access::find_room;
use crate::serve::answer::{Answer, answer, answer_v1};
use crate::serve::arguments::Args;
use crate::serve::handshake::{membership_of, verify_event};

/// The most events that come with an invitation to show the room; further ones are not looked at.
const MAX_SHOWN: usize = 100;

#[derive(Deserialize)]
pub(crate) struct InviteBody {
    room_version: String,
    event: Map<String, Value>,
    #[serde(default)]
    invite_room_state: Vec<Box<RawValue>>,
}

/// An invitation as it came, and who sent it.
struct Invitation<'a> {
    origin: &'a ServerName,
    room_id: &'a RoomId,
    event_id: &'a EventId,
    version: RoomVersion,
    event: Map<String, Value>,
    shown: Vec<Box<RawValue>>,
}

/// `PUT /v2/invite/{roomId}/{eventId}`.
pub(crate) async fn invite(
    Args((room_id, event_id)): Args<(RoomId, EventId)>,
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<InviteBody>,
) -> Answer {
    let InviteBody { room_version, event, invite_room_state: shown } = body;
    let version = room_version.parse::<RoomVersion>();
    let version = version.map_err(|_| ServeError::incompatible_room_version(&room_version))?;
    let (origin, room_id, event_id) = (&origin, &room_id, &event_id);
    let signed = sign_invitation(&federation, Invitation { origin, room_id, event_id, version, event, shown }).await?;
    answer(&json!({"event": signed}))
}

/// `PUT /v1/invite/{roomId}/{eventId}`: for rooms of the first two versions, which write events alike.
pub(crate) async fn invite_v1(
    Args((room_id, event_id)): Args<(RoomId, EventId)>,
    State(federation): State<Federation>,
    SignedJson { origin, body: event, .. }: SignedJson<Map<String, Value>>,
) -> Answer {
    let shown = event.get("unsigned").and_then(|unsigned| unsigned.get("invite_room_state"));
    let shown = shown.and_then(Value::as_array).cloned().unwrap_or_default();
    let version = guess_version(&shown);
    let shown = shown.iter().take(MAX_SHOWN).filter_map(|event| serde_json::value::to_raw_value(event).ok()).collect();
    let (origin, room_id, event_id) = (&origin, &room_id, &event_id);
    let signed = sign_invitation(&federation, Invitation { origin, room_id, event_id, version, event, shown }).await?;
    answer_v1(&json!({"event": signed}))
}

/// Version 1 of the endpoint does not name the room's version: it is 2 if the create event that is shown says so.
fn guess_version(shown: &[Value]) -> RoomVersion {
    let create = shown.iter().find(|event| event.get("type").and_then(Value::as_str) == Some("m.room.create"));
    let version = create.and_then(|create| create.get("content")?.get("room_version")?.as_str());
    if version == Some("2") { RoomVersion::V2 } else { RoomVersion::V1 }
}

/// Checks an invitation, signs it, and shows it to the user unless this server is in the room: then the event comes
/// again, with the room's others. Of a user who seems joined it is kept: the event that ended that may be on its way, and
/// after it this server may hear no more.
async fn sign_invitation(
    federation: &Federation,
    invitation: Invitation<'_>,
) -> Result<Map<String, Value>, ServeError> {
    let Invitation { origin, room_id, event_id, version, event, mut shown } = invitation;
    let rules = version.rules();
    let room = match federation.rooms.room_nid(room_id)? {
        Some(_) => Some(find_room(federation, room_id, origin)?),
        None => None,
    };
    if !hash::content_hash_matches(&event) {
        return Err(ServeError::invalid_param("the event's hash does not match its content"));
    }
    let received = ReceivedPdu::check(event.clone(), rules)?;
    if received.event_id() != event_id {
        return Err(ServeError::invalid_param("the event has another id"));
    }
    let target = read_target(federation, received.unverified(), room_id, origin)?;
    check_target(federation, &target, &received.unverified().sender)?;
    let (membership, sender) = (Membership::Invite, &received.unverified().sender);
    federation.rooms.check_gate(&Deed { membership, sender, target: &target, room: Some(room_id) })?;
    let mut signed = event;
    hash::countersign(&mut signed, &federation.server_name, &federation.signing_key, rules)
        .map_err(|error| ServeError::invalid_param(error.to_string()))?;
    let checked = verify_event(federation, rules, ReceivedPdu::check(signed.clone(), rules)?).await?;
    let comes_again = room.map(|room| federation.rooms.hears_of_invitation(room, &target)).transpose()?;
    if !comes_again.unwrap_or(false) {
        shown.truncate(MAX_SHOWN);
        check_create(&shown, room_id, version)?;
        let shown = check_room_state(federation, origin, room_id, version, shown).await;
        federation.rooms.receive_invite(checked, version, shown).await?;
    }
    tracing::info!(%origin, %room_id, %event_id, "an invitation was signed");
    Ok(signed)
}

/// Whom the event invites: it has to be what the request says, and about a user of this server.
fn read_target(
    federation: &Federation,
    pdu: &Pdu,
    room_id: &RoomId,
    origin: &ServerName,
) -> Result<UserId, ServeError> {
    let invalid = |message: &'static str| Err(ServeError::invalid_param(message));
    if pdu.room_id != *room_id {
        return invalid("the event is of another room");
    }
    if &*pdu.kind != "m.room.member" || membership_of(pdu) != Some(Membership::Invite) {
        return invalid("the event is no invitation");
    }
    if pdu.sender.server_name() != origin.as_str() {
        return invalid("the sender is not of your server");
    }
    let target = pdu.state_key.as_deref().and_then(|user| UserId::parse(user).ok());
    match target.filter(|user| user.server_name() == federation.server_name.as_str()) {
        Some(target) => Ok(target),
        None => invalid("the event is not about a user of this server"),
    }
}

/// Refuses invitations of those who cannot, or want not, be invited (Client-Server API §Ignoring Users, §Invite
/// permission, MSC4155).
fn check_target(federation: &Federation, target: &UserId, sender: &UserId) -> Result<(), ServeError> {
    let users = &federation.users;
    let refused = || ServeError::forbidden("this user cannot be invited");
    let account = users.account_by_id(target)?.filter(|account| !account.is_deactivated && !account.is_locked);
    let user = account.ok_or_else(refused)?.user;
    if users.ignored_users(user)?.contains(sender) {
        return Err(refused());
    }
    match users.invite_rules(user)?.judge(sender) {
        // Whom the user ignores does not learn it: the invitation is signed, and not shown.
        InvitePermission::Allow | InvitePermission::Ignore => Ok(()),
        InvitePermission::Block => Err(ServeError::new(
            StatusCode::FORBIDDEN,
            "M_INVITE_BLOCKED",
            "this user does not accept invitations of yours",
        )),
    }
}

/// Where the room's id is that of its create event, a whole create event has to be this room's: anything else is an
/// attempt to pass off another room. One that is stripped, as servers sent it before specification v1.16, proves
/// nothing.
fn check_create(shown: &[Box<RawValue>], room_id: &RoomId, version: RoomVersion) -> Result<(), ServeError> {
    if !version.rules().room_id_is_create_hash {
        return Ok(());
    }
    for event in shown {
        let Ok(event) = serde_json::from_str::<Map<String, Value>>(event.get()) else { continue };
        let is_create = event.get("type").and_then(Value::as_str) == Some("m.room.create");
        if !is_create || !event.contains_key("signatures") {
            continue;
        }
        let is_ours = ReceivedPdu::check(event, version.rules()).is_ok_and(|pdu| pdu.unverified().room_id == *room_id);
        if !is_ours {
            return Err(ServeError::invalid_param("the create event in invite_room_state is of another room"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
