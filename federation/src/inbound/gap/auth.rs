//! Auth events that are missing: fetched one by one, level by level, and if that does not end, all at once.

use std::collections::{BTreeMap, HashSet};

use rooms::{CheckedPdu, RoomError, RoomNid};
use spec::ids::{EventId, ServerName};

use super::{GapError, Incoming, RoomPlace};
use crate::Federation;
use crate::inbound::order;
use crate::inbound::work::is_lasting;

/// How many auth events are fetched one by one.
const MAX_SINGLE_EVENTS: usize = 50;
/// How far back they are followed.
const MAX_LEVELS: usize = 4;
/// For how many events the whole auth chain is fetched.
const MAX_CHAINS: usize = 3;

/// Fetches the auth events that events of a server lack here, and stores them as outliers: for history on its way in.
/// What cannot be had is left to whoever stores the events. Cancel-safe.
///
/// # Errors
/// Only what is no event's fault: storage errors, and a writer that stays busy.
pub(crate) async fn fetch_missing_auth(
    federation: &Federation,
    room: RoomNid,
    server: &ServerName,
    events: &[CheckedPdu],
) -> Result<(), RoomError> {
    let place = federation.find_place(room)?;
    let incoming = events.iter().map(|pdu| Incoming { origin: server.clone(), pdu: pdu.clone() }).collect();
    match federation.fetch_auth_events(&place, server, incoming).await {
        Err(GapError::Room(error)) if is_lasting(&error) => Err(error),
        Err(error) => {
            tracing::debug!(room_id = %place.room_id, origin = %server, %error, "auth events of history are missing");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

impl Federation {
    /// Fetches the auth events that these lack, and stores them as outliers.
    pub(super) async fn fetch_auth_events(
        &self,
        place: &RoomPlace,
        origin: &ServerName,
        events: Vec<Incoming>,
    ) -> Result<(), GapError> {
        let at_hand: HashSet<EventId> = events.iter().map(|event| event.pdu().event_id.clone()).collect();
        let mut fetched: BTreeMap<EventId, Incoming> = BTreeMap::new();
        for _ in 0..MAX_LEVELS {
            let missing = self.missing_auth(place, events.iter().chain(fetched.values()), |id| {
                at_hand.contains(id) || fetched.contains_key(id)
            })?;
            if missing.is_empty() || fetched.len().saturating_add(missing.len()) > MAX_SINGLE_EVENTS {
                break;
            }
            let (new, _) = self.fetch_events(place, origin, missing).await;
            if new.is_empty() {
                break;
            }
            fetched.extend(new.into_iter().map(|event| (event.pdu().event_id.clone(), event)));
        }
        // One of the events at hand may be an auth event of what was fetched: all of them are sorted together.
        let needed = fetched.values().flat_map(|event| event.pdu().auth_events.clone()).collect::<HashSet<_>>();
        let outliers = events.iter().filter(|event| needed.contains(&event.pdu().event_id)).cloned();
        self.store_outliers(place, outliers.chain(fetched.into_values()).collect()).await?;
        self.fetch_auth_chains(place, origin, &events, &at_hand).await
    }

    /// For those that still lack auth events, what they go back to as a whole.
    async fn fetch_auth_chains(
        &self,
        place: &RoomPlace,
        origin: &ServerName,
        events: &[Incoming],
        at_hand: &HashSet<EventId>,
    ) -> Result<(), GapError> {
        let mut asked = 0;
        for event in events {
            let missing = self.missing_auth(place, [event], |id| at_hand.contains(id))?;
            if missing.is_empty() {
                continue;
            }
            if asked == MAX_CHAINS {
                break;
            }
            asked += 1;
            match self.fetch_auth_chain(place, origin, &event.pdu().event_id).await {
                Ok(()) => {}
                Err(GapError::Room(error)) if is_lasting(&error) => return Err(error.into()),
                Err(error) => {
                    let event_id = &event.pdu().event_id;
                    tracing::debug!(room_id = %place.room_id, %event_id, %origin, %error, "no auth chain was delivered");
                }
            }
        }
        Ok(())
    }

    async fn fetch_auth_chain(
        &self,
        place: &RoomPlace,
        origin: &ServerName,
        event_id: &EventId,
    ) -> Result<(), GapError> {
        let chain = self.ask_event_auth(origin, place, event_id).await?;
        let fetched = self.check_unknown(place, origin, chain).await?;
        Ok(self.store_outliers(place, fetched).await?)
    }

    /// The auth events of these that are neither stored nor at hand.
    fn missing_auth<'a>(
        &self,
        place: &RoomPlace,
        events: impl IntoIterator<Item = &'a Incoming>,
        is_at_hand: impl Fn(&EventId) -> bool,
    ) -> Result<Vec<EventId>, RoomError> {
        let cited: Vec<EventId> = order::cited_auth(events).into_iter().filter(|id| !is_at_hand(id)).collect();
        self.rooms.unknown_events(place.room, &cited, true)
    }
}
