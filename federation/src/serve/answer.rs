//! Answers: JSON as a whole, or PDUs one after the other.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use rooms::{JoinState, RoomError};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use tokio::sync::OwnedSemaphorePermit;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::PlaceHolder;

/// What handlers answer.
pub(crate) type Answer = Result<Response, ServeError>;

/// How much is written at a time: larger answers are never in memory as a whole.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many events are read at a time.
const CHUNK_EVENTS: usize = 16;

impl From<Infallible> for ServeError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Answers 200 with a value.
///
/// # Errors
/// An internal error if the value cannot be written.
pub(crate) fn answer(value: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(value).map_err(|error| ServeError::internal(&error))?;
    Ok(json_response(Body::from(bytes)))
}

/// Answers 200 with `[200, value]`, as the first versions of some endpoints did (Server-Server API §Joining Rooms v1).
///
/// # Errors
/// As [`answer`].
pub(crate) fn answer_v1(value: &impl Serialize) -> Answer {
    answer(&json!([200, value]))
}

fn json_response(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Answers with a transaction: a few events with who tells them and when (§Transactions).
///
/// # Errors
/// As [`answer`].
pub(crate) fn answer_transaction(federation: &Federation, pdus: &[Box<RawValue>]) -> Answer {
    #[derive(Serialize)]
    struct Transaction<'a> {
        origin: &'a str,
        origin_server_ts: u64,
        pdus: &'a [Box<RawValue>],
    }
    answer(&Transaction { origin: federation.server_name.as_str(), origin_server_ts: federation.clock.now_ms(), pdus })
}

/// An answer with the state of a room: read from the store and written while it is sent, so that a room of any size
/// takes little memory.
pub(crate) struct StateStream {
    events: JoinState,
    parts: VecDeque<Part>,
    is_first: bool,
    /// Of the server that is answered: it has no more than its share of such answers at a time.
    place: Option<OwnedSemaphorePermit>,
}

enum Part {
    /// JSON that is written already.
    Text(Bytes),
    /// The elements of the array of state events.
    State,
    /// The elements of the array of their auth chain.
    AuthChain,
}

impl StateStream {
    /// An answer whose object begins with `head` (without its brace) and goes on with the state under `key` and its
    /// auth chain under `auth_chain`. `before` and `after` stand around the object.
    pub fn new(events: JoinState, before: &str, head: &str, key: &str, after: &'static str) -> StateStream {
        let comma = if head.is_empty() { "" } else { "," };
        let parts = VecDeque::from([
            Part::Text(Bytes::from(format!("{before}{{{head}{comma}\"{key}\":["))),
            Part::State,
            Part::Text(Bytes::from_static(b"],\"auth_chain\":[")),
            Part::AuthChain,
            Part::Text(Bytes::from_static(b"]}")),
            Part::Text(Bytes::from_static(after.as_bytes())),
        ]);
        StateStream { events, parts, is_first: true, place: None }
    }

    /// The answer, which keeps the place that the request has. If the store fails on the way, the connection breaks
    /// off: nobody takes half a room for a whole.
    pub fn into_response(mut self, place: &PlaceHolder) -> Response {
        self.place = place.take();
        let chunks = stream::unfold(Some(self), async |rest| {
            let mut rest = rest?;
            match rest.next_chunk() {
                Ok(None) => None,
                Ok(Some(chunk)) => Some((Ok(chunk), Some(rest))),
                Err(error) => {
                    tracing::error!(%error, "an answer to another server was broken off");
                    Some((Err(error), None))
                }
            }
        });
        json_response(Body::from_stream(chunks))
    }

    /// The next bytes, about [`CHUNK_BYTES`]; `None` at the end.
    fn next_chunk(&mut self) -> Result<Option<Bytes>, RoomError> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES
            && let Some(part) = self.parts.front()
        {
            let events = match part {
                Part::Text(text) => {
                    chunk.extend_from_slice(text);
                    Vec::new()
                }
                Part::State => self.events.next_state(CHUNK_EVENTS)?,
                Part::AuthChain => self.events.next_auth_chain(CHUNK_EVENTS)?,
            };
            if events.is_empty() {
                self.parts.pop_front();
                self.is_first = true;
            }
            for event in events {
                if !std::mem::take(&mut self.is_first) {
                    chunk.push(b',');
                }
                chunk.extend_from_slice(event.json().as_bytes());
            }
        }
        Ok((!chunk.is_empty()).then(|| Bytes::from(chunk)))
    }
}
