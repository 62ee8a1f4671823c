//! The format checks of an event object (Room Versions §Event format, Client-Server API §Size limits).

use serde_json::{Map, Value};

use super::{MAX_AUTH_EVENTS, MAX_PREV_EVENTS, PduError};
use crate::{
    canonical::MAX_INTEGER,
    ids::{EventId, IdError, MAX_ID_BYTES, RoomId, UserId},
    version::{EventIdFormat, RoomVersionRules},
};

/// Length of a SHA-256 in unpadded base64.
const HASH_CHARS: usize = 43;

/// Checks presence, types and lengths of the properties of an event, everything but its total size.
pub(super) fn check_format(event: &Map<String, Value>, rules: &RoomVersionRules) -> Result<(), PduError> {
    let kind = limited_str(event, "type")?.ok_or(PduError::MissingField("type"))?;
    limited_str(event, "state_key")?;
    let sender = required_str(event, "sender")?;
    UserId::parse(sender).map_err(|error| id_error("sender", error))?;
    check_event_id(event, rules)?;
    check_room_id(event, kind, rules)?;
    check_integer(event, "origin_server_ts", i64::MIN, rules)?;
    check_integer(event, "depth", 0, rules)?;
    required_object(event, "content")?;
    check_references(event, "prev_events", MAX_PREV_EVENTS, rules)?;
    check_references(event, "auth_events", MAX_AUTH_EVENTS, rules)?;
    let hash = required_object(event, "hashes")?.get("sha256");
    if !hash.is_some_and(Value::is_string) {
        return Err(PduError::InvalidField("hashes"));
    }
    check_signatures(event)
}

fn check_event_id(event: &Map<String, Value>, rules: &RoomVersionRules) -> Result<(), PduError> {
    if rules.event_id == EventIdFormat::Given {
        let id = required_str(event, "event_id")?;
        let id = EventId::parse(id).map_err(|error| id_error("event_id", error))?;
        return match id.server_name() {
            Some(_) => Ok(()),
            None => Err(PduError::InvalidId("event_id", IdError::MissingServerName)),
        };
    }
    // It would survive redaction and be shown in place of the real id.
    if event.contains_key("event_id") { Err(PduError::UnexpectedField("event_id")) } else { Ok(()) }
}

fn check_room_id(event: &Map<String, Value>, kind: &str, rules: &RoomVersionRules) -> Result<(), PduError> {
    if rules.room_id_is_create_hash && kind == "m.room.create" {
        // Auth rule 1.2 of room version 12, checked here because a `Pdu` always has a room id.
        return if event.contains_key("room_id") { Err(PduError::UnexpectedField("room_id")) } else { Ok(()) };
    }
    let id = RoomId::parse(required_str(event, "room_id")?).map_err(|error| id_error("room_id", error))?;
    match (rules.room_id_is_create_hash, id.server_name()) {
        (false, Some(_)) => Ok(()),
        (false, None) => Err(PduError::InvalidId("room_id", IdError::MissingServerName)),
        (true, None) if is_url_safe_hash(&id) => Ok(()),
        (true, _) => Err(PduError::InvalidField("room_id")),
    }
}

fn is_url_safe_hash(id: &RoomId) -> bool {
    let hash = id.as_str().get(1..).unwrap_or_default();
    hash.len() == HASH_CHARS && hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn check_integer(
    event: &Map<String, Value>,
    name: &'static str,
    min: i64,
    rules: &RoomVersionRules,
) -> Result<(), PduError> {
    let value = event.get(name).ok_or(PduError::MissingField(name))?;
    let max = if rules.strict_canonical_json { MAX_INTEGER } else { i64::MAX };
    match value.as_i64() {
        Some(value) if value >= min && value <= max => Ok(()),
        _ => Err(PduError::InvalidField(name)),
    }
}

fn check_references(
    event: &Map<String, Value>,
    name: &'static str,
    max: usize,
    rules: &RoomVersionRules,
) -> Result<(), PduError> {
    let value = event.get(name).ok_or(PduError::MissingField(name))?;
    let references = value.as_array().ok_or(PduError::InvalidField(name))?;
    if references.len() > max {
        return Err(PduError::TooManyEvents(name));
    }
    for reference in references {
        let id = match (rules.pair_references, reference) {
            (false, Value::String(id)) => id,
            (true, Value::Array(pair)) => match pair.as_slice() {
                [Value::String(id), Value::Object(_)] => id,
                _ => return Err(PduError::InvalidField(name)),
            },
            _ => return Err(PduError::InvalidField(name)),
        };
        EventId::parse(id).map_err(|error| id_error(name, error))?;
    }
    Ok(())
}

fn check_signatures(event: &Map<String, Value>) -> Result<(), PduError> {
    let signatures = required_object(event, "signatures")?;
    let well_formed = |of_entity: &Value| of_entity.as_object().is_some_and(|keys| keys.values().all(Value::is_string));
    if signatures.values().all(well_formed) { Ok(()) } else { Err(PduError::InvalidField("signatures")) }
}

fn limited_str<'a>(event: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, PduError> {
    match event.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_ID_BYTES => Ok(Some(text)),
        Some(Value::String(_)) => Err(PduError::FieldTooLong(name)),
        Some(_) => Err(PduError::InvalidField(name)),
    }
}

fn required_str<'a>(event: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, PduError> {
    event.get(name).ok_or(PduError::MissingField(name))?.as_str().ok_or(PduError::InvalidField(name))
}

fn required_object<'a>(event: &'a Map<String, Value>, name: &'static str) -> Result<&'a Map<String, Value>, PduError> {
    event.get(name).ok_or(PduError::MissingField(name))?.as_object().ok_or(PduError::InvalidField(name))
}

fn id_error(name: &'static str, error: IdError) -> PduError {
    match error {
        IdError::TooLong => PduError::FieldTooLong(name),
        error => PduError::InvalidId(name, error),
    }
}
