//! Filling gaps: fetching what received events cite and nobody here has (Server-Server API §Backfilling and retrieving
//! missing events, §Retrieving events, §Retrieving event authorisation information).
//!
//! In this order: the events between what is stored and what was received, as far as `max_gap_events` goes; for those
//! that still follow unknown events the state before them, in the words of a server that has it, judged event by event
//! by its auth events (not in a partial room: there the event is placed without it for the time being); and single auth
//! events. All of it is bounded in number and time. Whatever could not be fetched
//! by then is given up: the next event of the room will cite it again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use rooms::{RoomError, RoomSeq};
use spec::ids::{EventId, ServerName};
use spec::pdu::ReceivedPdu;

use super::order::{self, Incoming};
use super::work::{Before, RoomPlace, States};
use crate::{Federation, RemoteError};

mod auth;
mod fetch;
mod state;

pub(crate) use auth::fetch_missing_auth;
pub(crate) use fetch::StateLimits;
pub(crate) use state::fetch_state_before;

/// How long filling one gap may take.
const FILL_TIME: Duration = Duration::from_secs(60);
/// The most events that one request for missing events brings.
const EVENTS_PER_REQUEST: usize = 20;
/// The least that servers give at a time where there is more (the default of `limit`).
const FEW_EVENTS: usize = 10;
/// The most ids of events that such a request names at either end.
const MAX_ENDS: usize = 20;
/// For how many events that follow unknown ones the state before them is fetched.
const MAX_STATES: usize = 8;
/// How many servers are asked for the same thing.
const MAX_SERVERS: usize = 4;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GapError {
    /// The other server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// This server.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// What it delivered cannot be used.
    #[error("{0}")]
    Unusable(&'static str),
    /// It gives the state before an event but not the event: it may not, where history is not shown to newcomers.
    #[error("the event after the state cannot be had")]
    Withheld,
}

/// What has been gathered for a gap.
#[derive(Debug, Default)]
struct Gathered {
    /// The received events, and those between them and what is stored.
    events: BTreeMap<EventId, Incoming>,
    /// How the state is found before those of them that follow unknown events.
    states: States,
}

impl Federation {
    /// Fetches what events of one server lack, and takes in those for which that suffices. The others are given up.
    ///
    /// # Errors
    /// Only what is no event's fault, as of [`Federation::deliver`].
    pub(super) async fn fill_gap(
        &self,
        place: &RoomPlace,
        origin: &ServerName,
        blocked: Vec<Incoming>,
    ) -> Result<(), RoomError> {
        let started = self.clock.monotonic();
        let wanted = blocked.len();
        let mut gathered = Gathered::default();
        gathered.events.extend(blocked.into_iter().map(|event| (event.pdu().event_id.clone(), event)));
        match self.clock.timeout(FILL_TIME, self.gather(place, origin, &mut gathered)).await {
            Some(Ok(())) => {}
            Some(Err(GapError::Room(error))) if super::work::is_lasting(&error) => return Err(error),
            Some(Err(error)) => tracing::debug!(room_id = %place.room_id, %origin, %error, "a gap was not filled"),
            None => tracing::debug!(room_id = %place.room_id, %origin, "filling a gap took too long"),
        }
        let Gathered { events, states } = gathered;
        let (fetched, fetched_states) = (events.len().saturating_sub(wanted), states.len());
        let left = self.deliver(place, events.into_values().collect(), &states).await?;
        self.inbound.counters.fetched.add(fetched as u64);
        let elapsed = self.clock.monotonic().saturating_sub(started);
        tracing::debug!(
            room_id = %place.room_id, %origin, wanted, fetched, fetched_states, left = left.len(), ?elapsed,
            "a gap was looked at"
        );
        self.give_up(place, &left).await
    }

    async fn gather(&self, place: &RoomPlace, origin: &ServerName, gathered: &mut Gathered) -> Result<(), GapError> {
        if let Err(error) = self.gather_missing_events(place, origin, gathered).await {
            match error {
                GapError::Room(_) => return Err(error),
                // The state before the events may be had all the same.
                GapError::Remote(_) | GapError::Unusable(_) | GapError::Withheld => {
                    tracing::debug!(room_id = %place.room_id, %origin, %error, "missing events were not delivered");
                }
            }
        }
        let frontier = self.find_frontier(place, gathered)?;
        if self.rooms.head(place.room)?.is_partial() {
            // The whole state is on its way already; that at a gap is asked for afterwards.
            gathered.states.extend(frontier.into_iter().map(|event_id| (event_id, Before::Later)));
        } else {
            for event_id in frontier.into_iter().take(MAX_STATES) {
                let Some(event) = gathered.events.get(&event_id).cloned() else { continue };
                if let Some(state) = self.fetch_state_of(place, &event).await? {
                    gathered.states.insert(event_id, Before::State(state));
                }
            }
        }
        self.fetch_auth_events(place, origin, gathered.events.values().cloned().collect()).await
    }

    /// Asks for the events between what is stored and what was received, until nothing is missing, nothing new comes,
    /// or enough was fetched.
    async fn gather_missing_events(
        &self,
        place: &RoomPlace,
        origin: &ServerName,
        gathered: &mut Gathered,
    ) -> Result<(), GapError> {
        let most = self.config.max_gap_events;
        let earliest = self.stored_ends(place)?;
        let begins_at = self.first_depth(place)?;
        let mut fetched = 0_usize;
        while fetched < most {
            let missing = self.missing_prev(place, gathered)?;
            if missing.is_empty() {
                return Ok(());
            }
            let latest = latest_ends(&gathered.events, &missing);
            let limit = EVENTS_PER_REQUEST.min(most - fetched);
            let min_depth = min_depth(&gathered.events, most).max(begins_at);
            let answer = self.ask_missing_events(origin, place, &latest, &earliest, limit, min_depth).await?;
            // Whoever gives less than was asked for, and less than any server gives at a time, has no more.
            let is_all = answer.len() < limit.min(FEW_EVENTS);
            let mut received = self.read_fetched(place, answer.into_iter().take(limit).collect()).await;
            // Nothing lies before it, so it is never judged here: what follows it gets its state fetched.
            received.retain(|event| &*event.unverified().kind != "m.room.create");
            let connected = take_connected(received, missing, |id| self.is_unknown(place, id));
            let checked = self.check_fetched(place, origin, connected?).await;
            let before = gathered.events.len();
            for event in checked {
                gathered.events.entry(event.pdu().event_id.clone()).or_insert(event);
            }
            let new = gathered.events.len().saturating_sub(before);
            if new == 0 || is_all {
                return Ok(());
            }
            fetched = fetched.saturating_add(new);
        }
        Ok(())
    }

    /// The depth at which this server's part of the room begins: what lies above is history, not a gap.
    fn first_depth(&self, place: &RoomPlace) -> Result<i64, RoomError> {
        let first = self.rooms.events_after(place.room, RoomSeq(0), 1)?;
        Ok(first.first().map_or(0, rooms::Event::depth))
    }

    fn is_unknown(&self, place: &RoomPlace, id: &EventId) -> Result<bool, RoomError> {
        Ok(!self.rooms.unknown_events(place.room, std::slice::from_ref(id), false)?.is_empty())
    }

    /// The forward extremities: what lies before them is stored.
    fn stored_ends(&self, place: &RoomPlace) -> Result<Vec<EventId>, RoomError> {
        let head = self.rooms.head(place.room)?;
        Ok(head.extremities().filter_map(|id| EventId::parse(id).ok()).take(MAX_ENDS).collect())
    }

    /// What the gathered events follow that is neither stored nor gathered.
    fn missing_prev(&self, place: &RoomPlace, gathered: &Gathered) -> Result<HashSet<EventId>, RoomError> {
        let cited = cited_beyond(gathered);
        Ok(self.rooms.unknown_events(place.room, &cited, false)?.into_iter().collect())
    }

    /// The gathered events that follow unknown ones, or such as do not tell their state, the earliest first: those for
    /// which the state has to be fetched.
    fn find_frontier(&self, place: &RoomPlace, gathered: &Gathered) -> Result<Vec<EventId>, RoomError> {
        let without = self.rooms.events_without_states(place.room, &cited_beyond(gathered))?;
        let mut frontier = latest_ends_all(&gathered.events, &without.into_iter().collect());
        frontier.sort();
        Ok(frontier.into_iter().map(|(_, id)| id).collect())
    }

    /// Whom to ask about an event: who delivered it, its sender's server, others in the room.
    fn servers_to_ask(&self, place: &RoomPlace, event: &Incoming) -> Result<Vec<ServerName>, RoomError> {
        let sender = ServerName::parse(event.pdu().sender.server_name()).ok();
        let in_room = self.servers_of_room(place.room)?;
        let mut servers = Vec::with_capacity(MAX_SERVERS);
        for server in std::iter::once(event.origin.clone()).chain(sender).chain(in_room) {
            if server != self.server_name && !servers.contains(&server) && servers.len() < MAX_SERVERS {
                servers.push(server);
            }
        }
        Ok(servers)
    }
}

/// What the gathered events follow that is not gathered.
fn cited_beyond(gathered: &Gathered) -> Vec<EventId> {
    let cited = order::cited_prev(gathered.events.values());
    cited.into_iter().filter(|id| !gathered.events.contains_key(id)).collect()
}

/// The gathered events that cite something missing as previous event, with their depth.
fn latest_ends_all(events: &BTreeMap<EventId, Incoming>, missing: &HashSet<EventId>) -> Vec<(i64, EventId)> {
    let cites_missing = |event: &&Incoming| event.pdu().prev_events.iter().any(|id| missing.contains(id));
    let ends = events.values().filter(cites_missing);
    ends.map(|event| (event.pdu().depth, event.pdu().event_id.clone())).collect()
}

/// From which events on a server is to go back: those that cite something missing.
fn latest_ends(events: &BTreeMap<EventId, Incoming>, missing: &HashSet<EventId>) -> Vec<EventId> {
    let mut ends = latest_ends_all(events, missing);
    ends.sort();
    ends.into_iter().map(|(_, id)| id).take(MAX_ENDS).collect()
}

/// How far back it is worth going: what lies deeper below the earliest event than the most that is fetched cannot be
/// reached anyway.
fn min_depth(events: &BTreeMap<EventId, Incoming>, most: usize) -> i64 {
    let earliest = events.values().map(|event| event.pdu().depth).min().unwrap_or_default();
    earliest.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX)).max(0)
}

/// Of the events that a server delivered those that were asked for: what is missing, and what that follows, as far as
/// it is unknown too. The rest could be anything and is not looked at.
pub(crate) fn take_connected(
    received: Vec<ReceivedPdu>,
    missing: HashSet<EventId>,
    is_unknown: impl Fn(&EventId) -> Result<bool, RoomError>,
) -> Result<Vec<ReceivedPdu>, RoomError> {
    let mut by_id: HashMap<EventId, ReceivedPdu> =
        received.into_iter().map(|pdu| (pdu.event_id().clone(), pdu)).collect();
    let mut wanted: VecDeque<EventId> = missing.into_iter().collect();
    let mut taken = Vec::new();
    while let Some(id) = wanted.pop_front() {
        let Some(pdu) = by_id.remove(&id) else { continue };
        for prev in &pdu.unverified().prev_events {
            if by_id.contains_key(prev) && is_unknown(prev)? {
                wanted.push_back(prev.clone());
            }
        }
        taken.push(pdu);
    }
    Ok(taken)
}

#[cfg(test)]
mod tests;
