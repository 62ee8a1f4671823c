//! Sending and redacting events (Client-Server API §"Sending events to a room", §"Redactions").

use axum::extract::State;
use rooms::{Draft, MAX_STICKY_MS, NewDelayedEvent, RoomError, RoomNid, Rooms, Transaction};
use serde_json::{Map, Value};
use spec::ids::{EventId, RoomId};
use users::Users;

use crate::delayed::{delay_of, schedule};
use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer_bytes};
use crate::newcomers::Newcomers;
use crate::query::Query;
use crate::shadow_ban::pretend_to_send;

/// The largest body that can be the content of an event: the event itself may have 65,536 bytes.
pub(crate) const EVENT_BODY: usize = 128 * 1024;
/// The argument that makes an event sticky.
const STICKY_DURATION: &str = "org.matrix.msc4354.sticky_duration_ms";
/// The longest transaction id, in bytes.
const MAX_TRANSACTION_ID: usize = 255;

/// The number of a room that the caller wants to act in. Rooms that do not exist and rooms that the caller is not in
/// are refused alike.
pub(crate) fn find_room(rooms: &Rooms, room: &RoomId) -> Result<RoomNid, ApiError> {
    Ok(rooms.room_nid(room)?.ok_or(RoomError::NotInRoom)?)
}

/// Answers with an event id.
pub(crate) fn answer_event_id(id: &str) -> Answer {
    let mut body = Vec::with_capacity(80);
    body.extend_from_slice(b"{\"event_id\":");
    spec::canonical::write_into(&mut body, &id);
    body.push(b'}');
    answer_bytes(body)
}

/// The first, and only, event that a draft became.
pub(crate) fn only_event(ids: Vec<EventId>) -> Result<EventId, ApiError> {
    Ok(ids.into_iter().next().ok_or(RoomError::Inconsistent("a draft made no event"))?)
}

/// `PUT /rooms/{roomId}/send/{eventType}/{txnId}`.
pub(crate) async fn send_message(
    user: User,
    Args((room, kind, transaction)): Args<(RoomId, String, String)>,
    query: Query,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    State(newcomers): State<Newcomers>,
    JsonBody(content): JsonBody<Map<String, Value>, EVENT_BODY>,
) -> Answer {
    let sticky_ms = sticky_of(&query)?;
    newcomers.check_links(&user, &content).await?;
    if let Some(delay_ms) = delay_of(&query)? {
        users.record_activity(user.user);
        let event = NewDelayedEvent { kind: kind.into(), state_key: None, content, delay_ms, sticky_ms };
        return schedule(&user, &rooms, &room, event, Some(transaction)).await;
    }
    if let Some(id) = pretend_to_send(&user, &rooms, &users, &room, Some(&format!("send {kind} {transaction}")))? {
        return answer_event_id(&id);
    }
    let room = find_room(&rooms, &room)?;
    let timestamp = claimed_time(&user, &query)?;
    let draft = match kind.as_str() {
        "m.room.redaction" => {
            let redacts = content.get("redacts").and_then(Value::as_str);
            let redacts = redacts.ok_or_else(|| ApiError::bad_json("a redaction needs the event id in redacts"))?;
            let redacts = EventId::parse(redacts).map_err(|error| ApiError::bad_json(format!("redacts: {error}")))?;
            Draft::redaction(user.user_id.clone(), redacts, content)
        }
        kind => Draft::message(user.user_id.clone(), kind, content),
    };
    let draft = Draft { timestamp, sticky_ms, ..draft };
    let transaction = new_transaction(&user, format!("send {} {kind}", room.0), transaction)?;
    users.record_activity(user.user);
    let ids = rooms.append(room, vec![draft], Some((user.user, transaction))).await?;
    answer_event_id(only_event(ids)?.as_str())
}

/// For how many milliseconds an event is to be sticky (MSC4354).
///
/// # Errors
/// `M_INVALID_PARAM` for what is not a number up to an hour.
pub(crate) fn sticky_of(query: &Query) -> Result<Option<u64>, ApiError> {
    match query.parsed::<u64>(STICKY_DURATION)? {
        Some(duration) if duration > MAX_STICKY_MS => {
            Err(ApiError::invalid_param(format!("{STICKY_DURATION} may be at most {MAX_STICKY_MS}")))
        }
        duration => Ok(duration),
    }
}

/// The time that an application service wants an event to have, in milliseconds; whoever else says one is not heard
/// (Application Service API §"Timestamp massaging").
///
/// # Errors
/// `M_INVALID_PARAM` for what cannot be the time of an event.
pub(crate) fn claimed_time(user: &User, query: &Query) -> Result<Option<i64>, ApiError> {
    if user.appservice.is_none() {
        return Ok(None);
    }
    match query.parsed::<i64>("ts")? {
        Some(ts) if !(0..=spec::canonical::MAX_INTEGER).contains(&ts) => {
            Err(ApiError::invalid_param("ts cannot be the time of an event"))
        }
        ts => Ok(ts),
    }
}

pub(crate) fn new_transaction(user: &User, scope: String, id: String) -> Result<Transaction, ApiError> {
    if id.len() > MAX_TRANSACTION_ID {
        return Err(ApiError::invalid_param("the transaction id is longer than 255 bytes"));
    }
    Ok(Transaction { device: (*user.device_id).into(), scope: scope.into(), id: id.into() })
}

#[derive(serde::Deserialize)]
pub(crate) struct RedactBody {
    reason: Option<String>,
}

/// `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`. Suspended users may redact their own events.
pub(crate) async fn redact_event(
    user: User,
    Args((room, redacts, transaction)): Args<(RoomId, EventId, String)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<RedactBody>,
) -> Answer {
    if let Some(id) = pretend_to_send(&user, &rooms, &users, &room, Some(&format!("redact {redacts} {transaction}")))? {
        return answer_event_id(&id);
    }
    let nid = find_room(&rooms, &room)?;
    if user.is_suspended {
        let event = rooms.as_user(&room, user.user)?.event(&redacts)?;
        if event.sender_nid() != user.user {
            user.check_may_write()?;
        }
    }
    let mut content = Map::new();
    if let Some(reason) = body.reason {
        content.insert("reason".into(), reason.into());
    }
    let transaction = new_transaction(&user, format!("redact {} {redacts}", nid.0), transaction)?;
    let draft = Draft::redaction(user.user_id.clone(), redacts, content);
    let ids = rooms.append(nid, vec![draft], Some((user.user, transaction))).await?;
    answer_event_id(only_event(ids)?.as_str())
}
