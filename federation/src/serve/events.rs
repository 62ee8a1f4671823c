//! Server-Server API §Retrieving events, §Backfilling and retrieving missing events, §Retrieving event authorisation
//! information: reading a room through what the other server may see of it.

use axum::extract::State;
use rooms::{Direction, Event, RoomError, ServerView};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use spec::ids::{EventId, RoomId, ServerName};

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::{Origin, PlaceHolder, SignedJson};
use crate::serve::access::view_room;
use crate::serve::answer::{Answer, StateStream, answer, answer_transaction};
use crate::serve::arguments::{Args, Query};

/// The most events that are named in one request.
const MAX_NAMED: usize = 100;
/// The most events of one answer to `/backfill`.
const MAX_BACKFILL: usize = 100;
/// The most events of one answer to `/get_missing_events`.
const MAX_MISSING: usize = 20;
/// How many missing events are given where the request does not say.
const DEFAULT_MISSING: usize = 10;

/// As [`view_room`], for servers that are in the room only.
fn view_as_member(federation: &Federation, room_id: &RoomId, origin: &ServerName) -> Result<ServerView, ServeError> {
    let view = view_room(federation, room_id, origin)?;
    if view.is_joined() { Ok(view) } else { Err(RoomError::NotInRoom.into()) }
}

/// The events in the format of servers, redacted where the other server may not see them.
fn write_pdus(view: &ServerView, events: &[Event]) -> Result<Vec<Box<RawValue>>, RoomError> {
    events.iter().map(|event| view.pdu_json(event)).collect()
}

/// `GET /event/{eventId}`.
pub(crate) async fn get_event(
    Origin(origin): Origin,
    Args(event_id): Args<EventId>,
    State(federation): State<Federation>,
) -> Answer {
    let room = federation.rooms.room_of_event(&event_id)?.ok_or(RoomError::EventNotFound)?;
    let view = view_room(&federation, &federation.rooms.room_id(room)?, &origin)?;
    let event = view.event(&event_id)?;
    answer_transaction(&federation, &[view.pdu_json(&event)?])
}

/// `GET /state/{roomId}`.
pub(crate) async fn get_state(
    Origin(origin): Origin,
    Args(room_id): Args<RoomId>,
    query: Query,
    place: PlaceHolder,
    State(federation): State<Federation>,
) -> Answer {
    let event_id: EventId = query.required_as("event_id")?;
    let view = view_as_member(&federation, &room_id, &origin)?;
    let state = view.state_for_join(&event_id)?;
    Ok(StateStream::new(state, "", "", "pdus", "").into_response(&place))
}

/// `GET /state_ids/{roomId}`.
pub(crate) async fn get_state_ids(
    Origin(origin): Origin,
    Args(room_id): Args<RoomId>,
    query: Query,
    State(federation): State<Federation>,
) -> Answer {
    #[derive(Serialize)]
    struct StateIds {
        pdu_ids: Vec<EventId>,
        auth_chain_ids: Vec<EventId>,
    }
    let event_id: EventId = query.required_as("event_id")?;
    let view = view_as_member(&federation, &room_id, &origin)?;
    // Every event of the state is read for what it cites.
    let found = federation.tasks.compute("state ids", move || view.state_ids_before(&event_id)).await;
    let (pdu_ids, auth_chain_ids) = found.map_err(|error| ServeError::internal(&error))??;
    answer(&StateIds { pdu_ids, auth_chain_ids })
}

/// `GET /event_auth/{roomId}/{eventId}`.
pub(crate) async fn get_event_auth(
    Origin(origin): Origin,
    Args((room_id, event_id)): Args<(RoomId, EventId)>,
    State(federation): State<Federation>,
) -> Answer {
    let view = view_as_member(&federation, &room_id, &origin)?;
    let read = move || view.auth_chain_of(&event_id).and_then(|chain| write_pdus(&view, &chain));
    let chain = federation.tasks.compute("auth chain", read).await;
    let chain = chain.map_err(|error| ServeError::internal(&error))??;
    answer(&json!({"auth_chain": chain}))
}

/// `GET /backfill/{roomId}`.
pub(crate) async fn backfill(
    Origin(origin): Origin,
    Args(room_id): Args<RoomId>,
    query: Query,
    State(federation): State<Federation>,
) -> Answer {
    let limit = query.required_as::<usize>("limit")?.min(MAX_BACKFILL);
    let from = read_ids(&query, "v")?;
    let view = view_as_member(&federation, &room_id, &origin)?;
    // Who of the other server was in the room is looked up for each event: many users make that long.
    let read = move || view.backfill(&from, limit).and_then(|events| write_pdus(&view, &events));
    let events = federation.tasks.compute("history for a server", read).await;
    let events = events.map_err(|error| ServeError::internal(&error))??;
    answer_transaction(&federation, &events)
}

fn read_ids(query: &Query, name: &'static str) -> Result<Vec<EventId>, ServeError> {
    let mut ids = Vec::new();
    for id in query.all(name).take(MAX_NAMED) {
        let id = EventId::parse(&*id?).map_err(|_| ServeError::invalid_param(format!("{name} is no event id")))?;
        ids.push(id);
    }
    if ids.is_empty() {
        return Err(ServeError::missing_param(format!("{name} is missing")));
    }
    Ok(ids)
}

#[derive(Deserialize)]
pub(crate) struct MissingBody {
    limit: Option<usize>,
    #[serde(default)]
    min_depth: i64,
    earliest_events: Vec<EventId>,
    latest_events: Vec<EventId>,
}

/// `POST /get_missing_events/{roomId}`.
pub(crate) async fn get_missing_events(
    Args(room_id): Args<RoomId>,
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<MissingBody>,
) -> Answer {
    if body.earliest_events.len() > MAX_NAMED || body.latest_events.len() > MAX_NAMED {
        return Err(ServeError::too_large(format!("at most {MAX_NAMED} events may be named")));
    }
    let limit = body.limit.unwrap_or(DEFAULT_MISSING).min(MAX_MISSING);
    let view = view_as_member(&federation, &room_id, &origin)?;
    let read = move || {
        let events = view.missing_events(&body.latest_events, &body.earliest_events, limit, body.min_depth)?;
        write_pdus(&view, &events)
    };
    let events = federation.tasks.compute("missing events for a server", read).await;
    let events = events.map_err(|error| ServeError::internal(&error))??;
    answer(&json!({"events": events}))
}

/// `GET /timestamp_to_event/{roomId}`.
pub(crate) async fn get_by_timestamp(
    Origin(origin): Origin,
    Args(room_id): Args<RoomId>,
    query: Query,
    State(federation): State<Federation>,
) -> Answer {
    let timestamp = query.required_as("ts")?;
    let direction = match &*query.required("dir")? {
        "f" => Direction::Forward,
        "b" => Direction::Backward,
        _ => return Err(ServeError::invalid_param("dir is f or b")),
    };
    let event = view_room(&federation, &room_id, &origin)?.event_near(timestamp, direction)?;
    answer(&json!({"event_id": event.event_id(), "origin_server_ts": event.origin_server_ts()}))
}
