//! The state before an event that follows events nobody could deliver: ids first, then what is unknown of it.

use std::collections::{BTreeSet, HashSet};
use std::slice::from_ref;
use std::time::Duration;

use futures_util::StreamExt;
use rooms::{GivenState, RoomError, RoomNid};
use spec::ids::{EventId, ServerName};

use super::fetch::{StateIds, StateLimits};
use super::{GapError, Incoming, RoomPlace};
use crate::inbound::order;
use crate::inbound::work::{is_lasting, retry_busy};
use crate::remote::Spool;
use crate::{Federation, RemoteError};

/// What filling a gap may take: 200,000 events with their auth chain.
const OF_A_GAP: StateLimits = StateLimits {
    time: Duration::from_secs(40),
    ids_bytes: 16 * 1024 * 1024,
    events: 200_000,
    state_bytes: 0,
    despite_backoff: false,
};
/// With more unknown events than this the whole state is fetched at once.
const MAX_SINGLE_EVENTS: usize = 100;
/// How many events are asked for at a time.
const ASKED_TOGETHER: usize = 8;
/// How many outliers one call stores.
const OUTLIERS: usize = 500;
/// A state of which more than one in this many events cannot be had is not used.
const TOLERATED: usize = 10;

/// Fetches the state before an event that is not stored from the first of `servers` that delivers one that can be used,
/// and stores what is unknown of it as outliers. Returns the ids of that state, all of which are stored: what
/// [`rooms::Received::state_before`] takes. Each server has a time limit; cancel-safe.
///
/// # Errors
/// Of the last server that was asked; what cannot be stored here counts as its failure.
pub(crate) async fn fetch_state_before(
    federation: &Federation,
    room: RoomNid,
    event_id: &EventId,
    servers: &[ServerName],
) -> Result<Vec<EventId>, RemoteError> {
    let own = federation.server_name.clone();
    let mut failure = RemoteError::Unreachable { server: own.clone(), reason: "there is no server to ask".to_owned() };
    let place = match federation.find_place(room) {
        Ok(place) => place,
        Err(error) => return Err(RemoteError::Malformed { server: own, reason: error.to_string() }),
    };
    for server in servers {
        failure = match federation.fetch_state(&place, server, event_id, &OF_A_GAP).await {
            Ok(state) => return Ok(state),
            Err(GapError::Remote(error)) => error,
            Err(error) => RemoteError::Malformed { server: server.clone(), reason: error.to_string() },
        };
    }
    Err(failure)
}

impl Federation {
    /// Fetches the state before an event from the servers that may have it, and stores what is unknown of it. `None`
    /// if no server delivered one that can be used.
    pub(super) async fn fetch_state_of(
        &self,
        place: &RoomPlace,
        event: &Incoming,
    ) -> Result<Option<Vec<EventId>>, RoomError> {
        let event_id = &event.pdu().event_id;
        for server in self.servers_to_ask(place, event)? {
            match self.fetch_state(place, &server, event_id, &OF_A_GAP).await {
                Ok(state) => return Ok(Some(state)),
                Err(GapError::Room(error)) if is_lasting(&error) => return Err(error),
                Err(error) => {
                    tracing::debug!(
                        room_id = %place.room_id, %event_id, destination = %server, %error,
                        "the state before an event was not delivered"
                    );
                }
            }
        }
        Ok(None)
    }

    /// Fetches the state before an event, and stores what is unknown of it. Returns what is stored of it. Cancel-safe:
    /// what came by then stays.
    pub(crate) async fn fetch_state(
        &self,
        place: &RoomPlace,
        server: &ServerName,
        event_id: &EventId,
        limits: &StateLimits,
    ) -> Result<Vec<EventId>, GapError> {
        let StateIds { pdu_ids, auth_chain_ids } = self.ask_state_ids(server, place, event_id, limits).await?;
        if pdu_ids.len().saturating_add(auth_chain_ids.len()) > limits.events {
            return Err(GapError::Unusable("the state is too large"));
        }
        let state: BTreeSet<EventId> = pdu_ids.into_iter().collect();
        let head = self.rooms.head(place.room)?;
        if head.create().is_some_and(|create| !state.contains(&create.event_id)) {
            return Err(GapError::Unusable("the state does not hold the room's create event"));
        }
        let named: BTreeSet<EventId> = state.iter().cloned().chain(auth_chain_ids).collect();
        let named: Vec<EventId> = named.into_iter().collect();
        let unknown: HashSet<EventId> = self.rooms.unknown_events(place.room, &named, true)?.into_iter().collect();
        let (named, wanted) = (named.len(), unknown.len());
        if wanted > MAX_SINGLE_EVENTS {
            let spool = self.ask_state(server, place, event_id, limits).await?;
            self.store_spooled(place, server, spool, &unknown).await?;
        } else {
            let (fetched, failure) = self.fetch_events(place, server, unknown).await;
            self.store_outliers(place, fetched).await?;
            // What a server may deliver the next time is worth waiting for: a state without it stays wrong for ever.
            if let Some(error) = failure {
                return Err(error.into());
            }
        }
        let state: Vec<EventId> = state.into_iter().collect();
        let absent: HashSet<EventId> = self.rooms.unknown_events(place.room, &state, true)?.into_iter().collect();
        tracing::debug!(
            room_id = %place.room_id, %event_id, destination = %server, named, wanted, absent = absent.len(),
            "the state before an event was fetched"
        );
        if absent.len() > state.len() / TOLERATED {
            return Err(GapError::Unusable("too much of the state cannot be had"));
        }
        Ok(state.into_iter().filter(|id| !absent.contains(id)).collect())
    }

    /// Fetches the state after an event: that before it, and the event itself. All of it is stored then. Cancel-safe.
    pub(crate) async fn fetch_state_after(
        &self,
        place: &RoomPlace,
        server: &ServerName,
        event_id: &EventId,
        limits: &StateLimits,
    ) -> Result<GivenState, GapError> {
        let state = self.fetch_state(place, server, event_id, limits).await?;
        let is_unknown =
            || Ok::<_, RoomError>(!self.rooms.unknown_events(place.room, from_ref(event_id), true)?.is_empty());
        if is_unknown()? {
            let (fetched, failure) = self.fetch_events(place, server, [event_id.clone()]).await;
            if let Some(error) = failure {
                return Err(error.into());
            }
            // Much of what authorises it came with the state.
            self.fetch_auth_events(place, server, fetched.clone()).await?;
            self.store_outliers(place, fetched).await?;
            if is_unknown()? {
                return Err(GapError::Withheld);
            }
        }
        Ok(GivenState { state, then: Some(event_id.clone()) })
    }

    /// Stores the events of a spool that are wanted, a part at a time.
    async fn store_spooled(
        &self,
        place: &RoomPlace,
        server: &ServerName,
        mut spool: Spool,
        wanted: &HashSet<EventId>,
    ) -> Result<(), RoomError> {
        let order = spool.order(spool.find_state("m.room.create", ""));
        for numbers in order.chunks(OUTLIERS) {
            let mut received;
            (spool, received) = self.read_spooled(spool, numbers.to_vec()).await?;
            received.retain(|event| wanted.contains(event.event_id()));
            let checked = self.check_fetched(place, server, received).await;
            self.store_outliers(place, checked).await?;
        }
        Ok(())
    }

    /// Fetches events one by one, a few at a time; those that do not come are left out. Says why, if the server may
    /// deliver them another time.
    pub(super) async fn fetch_events(
        &self,
        place: &RoomPlace,
        server: &ServerName,
        wanted: impl IntoIterator<Item = EventId>,
    ) -> (Vec<Incoming>, Option<RemoteError>) {
        let asks: Vec<_> =
            wanted.into_iter().map(|id| async move { self.ask_event(server, place, &id).await }).collect();
        let answers: Vec<_> = futures_util::stream::iter(asks).buffer_unordered(ASKED_TOGETHER).collect().await;
        let (mut fetched, mut failure) = (Vec::new(), None);
        for answer in answers {
            match answer {
                Ok(event) => fetched.push(event),
                Err(GapError::Remote(error)) if error.is_temporary() => failure = Some(error),
                Err(_) => {}
            }
        }
        (self.check_fetched(place, server, fetched).await, failure)
    }

    /// Stores events outside of the timeline, auth events first. Those whose auth events are missing are left out.
    pub(super) async fn store_outliers(&self, place: &RoomPlace, events: Vec<Incoming>) -> Result<(), RoomError> {
        let mut sorted = order::sort_by_auth(events).into_iter().peekable();
        while sorted.peek().is_some() {
            let part: Vec<_> = sorted.by_ref().take(OUTLIERS).map(|event| event.pdu).collect();
            let store = || async {
                let _computing = self.inbound.staging.computing.acquire().await;
                self.rooms.receive_outliers(place.room, part.clone()).await
            };
            for verdict in retry_busy(store).await? {
                if let Err(error) = verdict {
                    tracing::debug!(room_id = %place.room_id, %error, "a fetched event was not stored");
                }
            }
        }
        Ok(())
    }
}
