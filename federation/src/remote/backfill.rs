//! Fetching history from before what is stored (Server-Server API §Backfilling and retrieving missing events).

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use rooms::{CheckedPdu, Received, RoomError, RoomNid};
use serde::Deserialize;
use serde_json::value::RawValue;
use spec::ids::{EventId, RoomId, ServerName};

use crate::Federation;
use crate::client::{Ask, encode_path, encode_query};
use crate::error::RemoteError;
use crate::inbound::{fetch_missing_auth, fetch_state_before, take_connected};
use crate::remote::Deadline;
use crate::remote::failure::Failure;
use crate::remote::pdus::{parse_pdus, sort_by_prev};

/// The most servers that are asked.
const MAX_SERVERS: usize = 5;
/// The most events that are asked for at a time; more in the answer are not read.
const MAX_EVENTS: usize = 100;
/// The most events whose history is asked for at a time.
const MAX_FROM: usize = 20;
/// The most places of one answer at which the state before has to be asked for.
const MAX_STATES: usize = 3;

/// How long history waits for the members of a room that was entered without them: they mostly come within a second, and
/// a client that is given nothing takes the room to begin there.
const MEMBERS_WAIT: Duration = Duration::from_secs(10);
/// How long no history of a room is asked for after none could be had.
const RETRY_AFTER: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct BackfillAnswer {
    pdus: Vec<Box<RawValue>>,
}

/// Fetches about `limit` events before what is stored. False if nothing new came.
///
/// # Errors
/// Storage errors only: servers that fail bring nothing.
pub(crate) async fn backfill_room(federation: Federation, nid: RoomNid, limit: usize) -> Result<bool, RoomError> {
    federation.wait_for_history(nid).await?;
    let room = federation.rooms.room_id(nid)?;
    let _turn = federation.remote.take_turn(&room).await;
    let now = federation.clock.monotonic();
    if federation.remote.futile.get(&nid).is_some_and(|at| now.saturating_sub(at) < RETRY_AFTER) {
        return Ok(false);
    }
    let ends = federation.rooms.backward_extremities(nid)?;
    let from: Vec<EventId> = ends.into_iter().take(MAX_FROM).map(|(id, _)| id).collect();
    // A state before the join would be all members of a partial room, which are on their way still.
    if from.is_empty() || !federation.rooms.is_resident(nid)? || federation.rooms.head(nid)?.is_partial() {
        return Ok(false);
    }
    let limit = limit.clamp(1, MAX_EVENTS);
    let deadline = Deadline::after(&federation.clock, federation.config.request_timeout.duration());
    let servers = federation.sort_by_reach(federation.servers_of_room(nid)?);
    let mut is_futile = true;
    for server in servers.into_iter().take(MAX_SERVERS) {
        if deadline.is_over() {
            break;
        }
        match backfill_from(&federation, &server, nid, &room, &from, limit, &deadline).await {
            Ok(0) => {}
            Ok(added) => {
                tracing::debug!(room_id = room.as_str(), destination = server.as_str(), added, "history was fetched");
                return Ok(true);
            }
            Err(Failure::Local(error)) => return Err(error),
            Err(Failure::Remote(error)) => {
                tracing::debug!(room_id = room.as_str(), destination = server.as_str(), %error, "no history came");
                // Its back-off is the only wait that a server needs that was not reached.
                is_futile &= !matches!(error, RemoteError::BackingOff { .. } | RemoteError::Unreachable { .. });
            }
        }
    }
    if is_futile {
        federation.remote.futile.insert(nid, federation.clock.monotonic());
    }
    Ok(false)
}

async fn backfill_from(
    federation: &Federation,
    server: &ServerName,
    nid: RoomNid,
    room: &RoomId,
    from: &[EventId],
    limit: usize,
    deadline: &Deadline,
) -> Result<usize, Failure> {
    let path = encode_path(&["_matrix", "federation", "v1", "backfill", room.as_str()]);
    let limit = limit.to_string();
    let mut query: Vec<(&str, &str)> = from.iter().map(|id| ("v", id.as_str())).collect();
    query.push(("limit", &limit));
    let timeout = deadline.left(federation.config.request_timeout.duration());
    let ask = Ask::get(format!("{path}{}", encode_query(&query))).within(timeout);
    let answer: BackfillAnswer = federation.client.ask_json(server, ask).await?;
    let head = federation.rooms.head(nid)?;
    let mut received = parse_pdus(server, room, head.rules(), &answer.pdus, MAX_EVENTS);
    let ids: Vec<EventId> = received.iter().map(|pdu| pdu.event_id().clone()).collect();
    let new: HashSet<EventId> = federation.rooms.unknown_events(nid, &ids, false)?.into_iter().collect();
    received.retain(|pdu| new.contains(pdu.event_id()));
    if received.is_empty() {
        return Ok(0);
    }
    // History is what lies before what was asked for; anything else would be out of place.
    let asked = from.iter().cloned().collect();
    let received = take_connected(received, asked, |id| Ok(new.contains(id)))?;
    let checked = federation.keys.check_pdus_via(Some(server), head.rules(), received).await;
    let usable = checked.into_iter().filter_map(|(event_id, result)| match result {
        Ok(pdu) => Some(pdu),
        Err(error) => {
            tracing::debug!(event_id = event_id.as_str(), %error, "an event of the history cannot be used");
            None
        }
    });
    federation.store_history(server, nid, usable.collect()).await
}

impl Federation {
    /// Waits some seconds until all of a room's members are known, before which no history of it can be judged.
    /// Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub(crate) async fn wait_for_history(&self, nid: RoomNid) -> Result<(), RoomError> {
        self.rooms.wait_full_state(nid, MEMBERS_WAIT).await.map(drop)
    }

    /// Stores history that one server gave: asks it for the state where the events follow none that is known. Returns
    /// how many events are new.
    ///
    /// # Errors
    /// Storage errors only: what cannot be placed is left out.
    pub(crate) async fn store_history(
        &self,
        server: &ServerName,
        nid: RoomNid,
        events: Vec<CheckedPdu>,
    ) -> Result<usize, Failure> {
        let sorted = sort_by_prev(events);
        let cited: BTreeSet<EventId> = sorted.iter().flat_map(|event| event.pdu().prev_events.clone()).collect();
        let cited: Vec<EventId> = cited.into_iter().collect();
        let mut unplaced: HashSet<EventId> = self.rooms.events_without_states(nid, &cited)?.into_iter().collect();
        let (mut history, mut states) = (Vec::with_capacity(sorted.len()), 0);
        for pdu in sorted {
            let (event_id, lacks) = {
                let event = pdu.pdu();
                (event.event_id.clone(), event.prev_events.iter().any(|id| unplaced.contains(id)))
            };
            let mut state_before = None;
            if lacks {
                if states >= MAX_STATES {
                    continue;
                }
                states += 1;
                match fetch_state_before(self, nid, &event_id, std::slice::from_ref(server)).await {
                    Ok(state) => state_before = Some(state),
                    Err(error) => {
                        tracing::debug!(event_id = event_id.as_str(), %error, "the state before an event is not known");
                        continue;
                    }
                }
            }
            unplaced.remove(&event_id);
            history.push(Received { state_before, ..pdu.into() });
        }
        let pdus: Vec<CheckedPdu> = history.iter().map(|received| received.pdu.clone()).collect();
        fetch_missing_auth(self, nid, server, &pdus).await?;
        Ok(self.rooms.backfill(nid, history).await?)
    }

    /// Fetches one event and stores it where clients can find it, with the state before it.
    ///
    /// # Errors
    /// The other server's fault if it does not give the event.
    pub(crate) async fn fetch_event(
        &self,
        server: &ServerName,
        nid: RoomNid,
        room: &RoomId,
        event_id: &EventId,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let path = encode_path(&["_matrix", "federation", "v1", "event", event_id.as_str()]);
        let timeout = deadline.left(self.config.request_timeout.duration());
        let answer: BackfillAnswer = self.client.ask_json(server, Ask::get(path).within(timeout)).await?;
        let head = self.rooms.head(nid)?;
        let mut received = parse_pdus(server, room, head.rules(), &answer.pdus, 1);
        received.retain(|pdu| pdu.event_id() == event_id);
        let checked = self.keys.check_pdus_via(Some(server), head.rules(), received).await;
        let Some((_, Ok(pdu))) = checked.into_iter().next() else {
            let reason = "the event that was asked for was not given".to_owned();
            return Err(Failure::Remote(RemoteError::Malformed { server: server.clone(), reason }));
        };
        match self.store_history(server, nid, vec![pdu]).await? {
            0 => Err(Failure::malformed(server, "the event that was asked for has no place in the room")),
            _ => Ok(()),
        }
    }
}
