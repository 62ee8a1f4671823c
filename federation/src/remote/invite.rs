//! Inviting users of other servers: their server signs the event before it is sent to anybody (Server-Server API
//! §Inviting to a room).

use std::sync::Arc;

use rooms::{CheckedPdu, Deed, Draft, Membership, Received, RoomError, RoomNid, Verdict};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::redact::redact_event;
use spec::version::{EventIdFormat, RoomVersionRules};

use crate::Federation;
use crate::client::Ask;
use crate::error::RemoteError;
use crate::remote::failure::{Failure, into_room_error, is_unknown_endpoint};
use crate::remote::handshake::{send_path, wire_object};
use crate::remote::{Deadline, candidates};

/// The answer is the event.
const MAX_ANSWER: usize = 512 * 1024;
/// The state that helps the invited to know the room (Client-Server API §Stripped state).
const SHOWN_STATE: [&str; 8] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.history_visibility",
];

#[derive(Deserialize)]
struct InviteAnswer {
    event: Map<String, Value>,
}

/// Invites a user of another server. The event is made, signed there, and taken into the room.
///
/// # Errors
/// What forbids the invitation; what the room's policy server and the other server say.
pub(crate) async fn invite_user(
    federation: Federation,
    sender: UserId,
    room: RoomId,
    target: UserId,
    mut content: Map<String, Value>,
) -> Result<(), RoomError> {
    let (membership, room_id) = (Membership::Invite, Some(&room));
    federation.rooms.check_gate(&Deed { membership, sender: &sender, target: &target, room: room_id })?;
    let nid = federation.rooms.known_room(&room)?;
    let server = candidates::server_of(target.as_str());
    let server = server.ok_or(RoomError::Invalid("the user id names no server"))?;
    federation.rooms.intern_user(&target).await?;
    content.insert("membership".into(), "invite".into());
    let draft = Draft::state(sender.clone(), "m.room.member", target.as_str(), content);
    let invite = CheckedPdu::of_ours(federation.rooms.prepare_signed(nid, draft)?);
    // Before anybody else sees it.
    let invite = federation.rooms.recommend(nid, invite).await?.pdu().clone();
    let signed = match ask_to_sign(&federation, &server, nid, &sender, &invite).await {
        Ok(signed) => signed,
        Err(Failure::Local(error)) => return Err(error),
        Err(Failure::Remote(error)) => {
            tracing::debug!(room_id = room.as_str(), destination = server.as_str(), %error, "an invitation failed");
            return Err(into_room_error(error));
        }
    };
    let received = Received::from(CheckedPdu::of_ours(signed));
    match federation.rooms.receive_all(nid, vec![received]).await?.into_iter().next() {
        Some(Ok(Verdict::Accepted | Verdict::Known)) => Ok(()),
        Some(Ok(Verdict::SoftFailed(_) | Verdict::Rejected(_))) => {
            // The room has changed meanwhile, so that the sender may invite no more.
            Err(RoomError::Refused("the room does not allow the invitation any more"))
        }
        Some(Err(error)) => Err(error),
        None => Err(RoomError::Inconsistent("an event without a verdict")),
    }
}

async fn ask_to_sign(
    federation: &Federation,
    server: &ServerName,
    nid: RoomNid,
    sender: &UserId,
    invite: &Arc<Pdu>,
) -> Result<Arc<Pdu>, Failure> {
    let head = federation.rooms.head(nid)?;
    let rules = head.rules();
    let deadline = Deadline::after(&federation.clock, federation.config.request_timeout.duration());
    let event = wire_object(invite)?;
    let state = collect_room_state(federation, nid, sender)?;
    let body = json!({"room_version": head.version().as_str(), "event": event, "invite_room_state": state});
    let answer = match put(federation, server, send_path("v2", "invite", invite), &body, &deadline).await {
        Err(error) if may_be_older(&error, rules) => {
            let mut body = event.clone();
            body.insert("unsigned".into(), json!({"invite_room_state": state}));
            let path = send_path("v1", "invite", invite);
            let (_, answer): (u16, InviteAnswer) =
                parse(server, &put(federation, server, path, &Value::Object(body), &deadline).await?)?;
            answer
        }
        answer => parse(server, &answer?)?,
    };
    add_signatures(federation, server, invite, event, answer.event, rules).await
}

/// Version 1 of the endpoint is for servers that do not know version 2; it says nothing of the room version.
fn may_be_older(error: &RemoteError, rules: &RoomVersionRules) -> bool {
    rules.event_id == EventIdFormat::Given && is_unknown_endpoint(error)
}

async fn put(
    federation: &Federation,
    server: &ServerName,
    path: String,
    body: &Value,
    deadline: &Deadline,
) -> Result<Vec<u8>, RemoteError> {
    let timeout = deadline.left(federation.config.request_timeout.duration());
    let ask = Ask { timeout, max_bytes: MAX_ANSWER, despite_backoff: true, ..Ask::put(path, body) };
    federation.client.ask(server, ask).await
}

fn parse<'a, T: Deserialize<'a>>(server: &ServerName, bytes: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::malformed(server, error.to_string()))
}

/// Our event with the signatures of the target's server. Nothing else is taken from the answer.
async fn add_signatures(
    federation: &Federation,
    server: &ServerName,
    invite: &Pdu,
    mut event: Map<String, Value>,
    mut answer: Map<String, Value>,
    rules: &RoomVersionRules,
) -> Result<Arc<Pdu>, Failure> {
    let theirs = answer.get_mut("signatures").and_then(|signatures| signatures.get_mut(server.as_str()));
    let Some(Value::Object(theirs)) = theirs.map(Value::take) else {
        return Err(Failure::malformed(server, "the invitation was not signed"));
    };
    if let Some(Value::Object(signatures)) = event.get_mut("signatures") {
        let own = signatures.entry(server.as_str()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(own) = own {
            own.extend(theirs);
        }
    }
    // Signatures of events cover the redacted form; as a plain object that is what is signed.
    let redacted = redact_event(&event, rules);
    let verified = federation.keys.verify_object(&redacted, server).await;
    verified.map_err(|error| Failure::malformed(server, format!("the signature of the invitation: {error}")))?;
    let signed = Pdu::from_object(event, rules).map_err(|error| Failure::malformed(server, error.to_string()))?;
    if signed.event_id != invite.event_id {
        return Err(Failure::Local(RoomError::Inconsistent("a signature changed an event id")));
    }
    Ok(Arc::new(signed))
}

/// The state that goes with an invitation: whole events, as specification v1.16 wants them. Older servers read no more
/// of them than they know.
fn collect_room_state(federation: &Federation, nid: RoomNid, sender: &UserId) -> Result<Vec<Value>, RoomError> {
    let head = federation.rooms.head(nid)?;
    let keys = SHOWN_STATE.iter().map(|kind| (*kind, "")).chain([("m.room.member", sender.as_str())]);
    let mut state = Vec::with_capacity(SHOWN_STATE.len() + 1);
    for (kind, key) in keys {
        if let Some(event) = federation.rooms.state_event(nid, head.state(), kind, key)? {
            state.push(Value::Object(wire_object(&event.to_pdu()?)?));
        }
    }
    Ok(state)
}
