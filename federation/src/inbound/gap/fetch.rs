//! The questions that are asked to fill a gap, each bounded in time and size, and reading the answers.

use std::collections::HashSet;
use std::time::Duration;

use rooms::RoomError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use spec::ids::{EventId, ServerName};
use spec::pdu::ReceivedPdu;

use super::GapError;
use crate::client::{encode_path, encode_query};
use crate::inbound::order::Incoming;
use crate::inbound::work::RoomPlace;
use crate::remote::{Kind, Spool, parse_body, read_answer};
use crate::{Ask, Federation, RemoteError};

/// How long a small question may take.
const ASK_TIME: Duration = Duration::from_secs(15);
/// How long all that an event goes back to may take.
const CHAIN_TIME: Duration = Duration::from_secs(40);
/// The largest answer with one event.
const EVENT_BYTES: usize = 256 * 1024;
/// The largest answer with some events.
const EVENTS_BYTES: usize = 4 * 1024 * 1024;
/// How many fetched events are checked at a time.
const CHECKED_TOGETHER: usize = 200;

#[derive(Serialize)]
struct MissingEventsQuery<'a> {
    earliest_events: &'a [EventId],
    latest_events: &'a [EventId],
    limit: usize,
    min_depth: i64,
}

#[derive(Deserialize)]
struct MissingEvents {
    #[serde(default)]
    events: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
struct OneEvent {
    #[serde(default)]
    pdus: Vec<Map<String, Value>>,
}

/// The ids of a state and its auth chain.
#[derive(Debug, Deserialize)]
pub(super) struct StateIds {
    #[serde(default)]
    pub pdu_ids: Vec<EventId>,
    #[serde(default)]
    pub auth_chain_ids: Vec<EventId>,
}

/// An auth chain, not yet parsed: most of it may be known.
#[derive(Deserialize)]
struct AuthChain {
    #[serde(default)]
    auth_chain: Vec<Box<RawValue>>,
}

/// How much the state before an event may take.
#[derive(Clone, Debug)]
pub(crate) struct StateLimits {
    /// For each of two questions.
    pub time: Duration,
    /// The largest answer with ids.
    pub ids_bytes: usize,
    /// The most ids, those of the auth chain included.
    pub events: usize,
    /// The largest answer with events; zero stands for `max_response` of the configuration.
    pub state_bytes: usize,
    /// Ask even a server that failed lately.
    pub despite_backoff: bool,
}

impl StateLimits {
    fn bound(&self, path: String, max_bytes: usize) -> Ask {
        Ask { despite_backoff: self.despite_backoff, ..bounded(Ask::get(path), self.time, max_bytes) }
    }
}

/// `timeout` and `max_bytes` of a question.
fn bounded(mut ask: Ask, timeout: Duration, max_bytes: usize) -> Ask {
    ask.timeout = timeout;
    ask.max_bytes = max_bytes;
    ask
}

fn room_path(endpoint: &str, place: &RoomPlace, query: &[(&str, &str)]) -> String {
    let path = encode_path(&["_matrix", "federation", "v1", endpoint, place.room_id.as_str()]);
    format!("{path}{}", encode_query(query))
}

impl Federation {
    /// `POST /get_missing_events/{roomId}`.
    pub(super) async fn ask_missing_events(
        &self,
        server: &ServerName,
        place: &RoomPlace,
        latest: &[EventId],
        earliest: &[EventId],
        limit: usize,
        min_depth: i64,
    ) -> Result<Vec<Map<String, Value>>, RemoteError> {
        let query = MissingEventsQuery { earliest_events: earliest, latest_events: latest, limit, min_depth };
        let ask = bounded(Ask::post(room_path("get_missing_events", place, &[]), &query), ASK_TIME, EVENTS_BYTES);
        let answer: MissingEvents = self.client.ask_json(server, ask).await?;
        Ok(answer.events)
    }

    /// `GET /state_ids/{roomId}`: the state before an event.
    pub(super) async fn ask_state_ids(
        &self,
        server: &ServerName,
        place: &RoomPlace,
        event_id: &EventId,
        limits: &StateLimits,
    ) -> Result<StateIds, RemoteError> {
        let path = room_path("state_ids", place, &[("event_id", event_id.as_str())]);
        self.client.ask_json(server, limits.bound(path, limits.ids_bytes)).await
    }

    /// `GET /state/{roomId}`: the events of the state before an event, put aside as they come.
    pub(super) async fn ask_state(
        &self,
        server: &ServerName,
        place: &RoomPlace,
        event_id: &EventId,
        limits: &StateLimits,
    ) -> Result<Spool, RemoteError> {
        let path = room_path("state", place, &[("event_id", event_id.as_str())]);
        let body = self.client.ask_stream(server, limits.bound(path, limits.state_bytes)).await?.into_body();
        let (room_id, rules) = (place.room_id.clone(), place.rules);
        let read = move |pieces| {
            let mut spool = Spool::new(room_id, rules);
            read_answer(Kind::State, pieces, &mut |list, event| spool.add(list, event))?;
            Ok(spool)
        };
        parse_body(server, body, read).await
    }

    /// `GET /event_auth/{roomId}/{eventId}`: all events that an event goes back to.
    pub(super) async fn ask_event_auth(
        &self,
        server: &ServerName,
        place: &RoomPlace,
        event_id: &EventId,
    ) -> Result<Vec<Box<RawValue>>, RemoteError> {
        let (room_id, event_id) = (place.room_id.as_str(), event_id.as_str());
        let path = encode_path(&["_matrix", "federation", "v1", "event_auth", room_id, event_id]);
        // 0: as large as the configuration allows.
        let answer: AuthChain = self.client.ask_json(server, bounded(Ask::get(path), CHAIN_TIME, 0)).await?;
        Ok(answer.auth_chain)
    }

    /// `GET /event/{eventId}`. The event is the one that was asked for, in form; nothing else was checked.
    pub(super) async fn ask_event(
        &self,
        server: &ServerName,
        place: &RoomPlace,
        event_id: &EventId,
    ) -> Result<ReceivedPdu, GapError> {
        let path = encode_path(&["_matrix", "federation", "v1", "event", event_id.as_str()]);
        let answer: OneEvent = self.client.ask_json(server, bounded(Ask::get(path), ASK_TIME, EVENT_BYTES)).await?;
        let object = answer.pdus.into_iter().next().ok_or(GapError::Unusable("an answer without an event"))?;
        let event = read_event(place, object).filter(|event| event.event_id() == event_id);
        event.ok_or(GapError::Unusable("an answer with another event"))
    }

    /// Reads events off the async workers; those that are none of the room are left out.
    pub(super) async fn read_fetched(&self, place: &RoomPlace, objects: Vec<Map<String, Value>>) -> Vec<ReceivedPdu> {
        let place = place.clone();
        let read = move || objects.into_iter().filter_map(|object| read_event(&place, object)).collect();
        // A computation that is lost was logged; the events count as not delivered.
        self.tasks.compute("reading of fetched events", read).await.unwrap_or_default()
    }

    /// Reads many events, and checks those that are not stored in any form, a part at a time.
    pub(super) async fn check_unknown(
        &self,
        place: &RoomPlace,
        server: &ServerName,
        events: Vec<Box<RawValue>>,
    ) -> Result<Vec<Incoming>, RoomError> {
        let mut checked = Vec::new();
        let mut seen: HashSet<EventId> = HashSet::new();
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let part: Vec<Box<RawValue>> = events.by_ref().take(CHECKED_TOGETHER).collect();
            let place_of = place.clone();
            let read = move || {
                let objects = part.iter().filter_map(|raw| serde_json::from_str(raw.get()).ok());
                objects.filter_map(|object| read_event(&place_of, object)).collect::<Vec<_>>()
            };
            let mut read = self.tasks.compute("reading of an auth chain", read).await.unwrap_or_default();
            read.retain(|event| seen.insert(event.event_id().clone()));
            let ids: Vec<EventId> = read.iter().map(|event| event.event_id().clone()).collect();
            let unknown: HashSet<EventId> = self.rooms.unknown_events(place.room, &ids, true)?.into_iter().collect();
            read.retain(|event| unknown.contains(event.event_id()));
            checked.extend(self.check_fetched(place, server, read).await);
        }
        Ok(checked)
    }

    /// Checks hash and signatures of fetched events; those that fail are left out.
    pub(super) async fn check_fetched(
        &self,
        place: &RoomPlace,
        server: &ServerName,
        events: Vec<ReceivedPdu>,
    ) -> Vec<Incoming> {
        if events.is_empty() {
            return Vec::new();
        }
        let mut checked = Vec::with_capacity(events.len());
        for (event_id, outcome) in self.keys.check_pdus_via(Some(server), place.rules, events).await {
            match outcome {
                Ok(pdu) => checked.push(Incoming { origin: server.clone(), pdu }),
                Err(error) => {
                    self.inbound.counters.invalid.add(1);
                    tracing::debug!(
                        room_id = %place.room_id, %event_id, origin = %server, %error,
                        "a fetched event cannot be used"
                    );
                }
            }
        }
        checked
    }
}

/// An event of the room, by its version's rules.
fn read_event(place: &RoomPlace, object: Map<String, Value>) -> Option<ReceivedPdu> {
    let event = ReceivedPdu::check(object, place.rules).ok()?;
    (event.unverified().room_id == place.room_id).then_some(event)
}
