//! State that comes with an invitation or in answer to a knock, checked before a client is shown it (Server-Server API
//! §Inviting to a room, `PUT /send_knock`).

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use spec::ids::{RoomId, ServerName};
use spec::pdu::{Pdu, ReceivedPdu};
use spec::version::RoomVersion;

use crate::Federation;

/// The most entries that are looked at.
const MAX_ENTRIES: usize = 64;
/// The most bytes of a stripped event.
const MAX_STRIPPED: usize = 64 * 1024;

#[derive(Serialize)]
struct Stripped<'a> {
    content: &'a RawValue,
    sender: &'a str,
    state_key: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// The stripped state that `entries` are: events of the room that are signed as they have to be, and entries that are
/// stripped already, as servers sent them before specification v1.16 and some still do; these are no more than what
/// `server` says. From room version 12 on the create event, which makes the room's id, has to come whole.
pub(crate) async fn check_room_state(
    federation: &Federation,
    server: &ServerName,
    room: &RoomId,
    version: RoomVersion,
    entries: Vec<Box<RawValue>>,
) -> Vec<Box<RawValue>> {
    let rules = version.rules();
    let (mut stripped, mut received) = (Vec::new(), Vec::new());
    for entry in entries.into_iter().take(MAX_ENTRIES) {
        let Ok(object) = serde_json::from_str::<Map<String, Value>>(entry.get()) else { continue };
        if !object.contains_key("signatures") {
            let is_create = object.get("type").and_then(Value::as_str) == Some("m.room.create");
            if !(rules.room_id_is_create_hash && is_create) && entry.get().len() <= MAX_STRIPPED {
                stripped.extend(strip_again(&object));
            }
            continue;
        }
        match ReceivedPdu::check(object, rules) {
            Ok(pdu) if pdu.unverified().room_id == *room && pdu.unverified().is_state() => received.push(pdu),
            Ok(_) => tracing::debug!(origin = server.as_str(), "room state of another room was left out"),
            Err(error) => tracing::debug!(origin = server.as_str(), %error, "room state was left out"),
        }
    }
    for (event_id, checked) in federation.keys.check_pdus_via(Some(server), rules, received).await {
        match checked {
            Ok(checked) => stripped.extend(strip(checked.pdu())),
            Err(error) => tracing::debug!(event_id = event_id.as_str(), %error, "room state was left out"),
        }
    }
    stripped
}

fn strip(pdu: &Pdu) -> Option<Box<RawValue>> {
    let state_key = pdu.state_key.as_deref()?;
    to_raw_value(&Stripped { content: &pdu.content, sender: pdu.sender.as_str(), state_key, kind: &pdu.kind }).ok()
}

/// Keeps of an entry what a stripped event has, if it has it all.
fn strip_again(object: &Map<String, Value>) -> Option<Box<RawValue>> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let content = object.get("content").filter(|content| content.is_object())?;
    let content = to_raw_value(content).ok()?;
    let (sender, state_key, kind) = (text("sender")?, text("state_key")?, text("type")?);
    to_raw_value(&Stripped { content: &content, sender, state_key, kind }).ok()
}
