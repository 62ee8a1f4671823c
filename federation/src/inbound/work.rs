//! One round of work on a room's staged events: check them, hand those that can be judged to the room's writer, fill
//! the gap before the others, and try those again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use rooms::{CheckedPdu, Received, RoomError, RoomNid, Verdict, names_policy_server};
use spec::ids::{EventId, RoomId, ServerName};
use spec::pdu::ReceivedPdu;
use spec::version::RoomVersionRules;
use storage::CommitError;

use super::order::{self, Incoming};
use super::staging::{GROUP, Staged};
use crate::Federation;

/// How many events one commit of the room's writer takes in.
const COMMIT: usize = 50;
/// The gaps of how many servers are looked at in one round.
const MAX_GAPS: usize = 4;
/// How often a writer that is busy is asked again, and after how long at first.
const BUSY_RETRIES: u32 = 40;
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// How the state before an event is found that follows events nobody could deliver.
#[derive(Clone, Debug)]
pub(super) enum Before {
    /// As another server gave it.
    State(Vec<EventId>),
    /// Not now: in a partial room the event is placed all the same, and judged again later.
    Later,
}

/// That of such events.
pub(super) type States = HashMap<EventId, Before>;

/// The room that is worked on.
#[derive(Clone, Debug)]
pub(crate) struct RoomPlace {
    pub room: RoomNid,
    pub room_id: RoomId,
    pub rules: &'static RoomVersionRules,
}

impl Federation {
    /// Works on staged events of a room, and on those `held` from before. Whatever comes of them, they are dealt with
    /// afterwards, but for those that are returned: they cite what may be staged behind them, and are to be held. Only
    /// with `may_hold` there are such. Cancel-safe: nothing is lost that is staged.
    ///
    /// # Errors
    /// Only what is no event's fault: storage errors, and a writer that stays busy.
    pub(super) async fn work_on(
        &self,
        room: RoomNid,
        group: Vec<Staged>,
        held: Vec<Incoming>,
        may_hold: bool,
    ) -> Result<Vec<Incoming>, RoomError> {
        let place = self.find_place(room)?;
        let mut incoming = self.check_staged(&place, group).await?;
        incoming.extend(held);
        let mut blocked = self.deliver(&place, incoming, &States::new()).await?;
        if !blocked.is_empty() && may_hold && blocked.len() <= GROUP && self.inbound.staging.has_more(room) {
            return Ok(blocked);
        }
        for _ in 0..MAX_GAPS {
            let Some(origin) = blocked.first().map(|event| event.origin.clone()) else { break };
            let (of_origin, others): (Vec<_>, Vec<_>) = blocked.into_iter().partition(|event| event.origin == origin);
            self.fill_gap(&place, &origin, of_origin).await?;
            // What came in with this gap may be all that the others waited for.
            blocked = self.deliver(&place, others, &States::new()).await?;
        }
        self.give_up(&place, &blocked).await?;
        self.apply_parked_receipts(&place).await;
        Ok(Vec::new())
    }

    pub(crate) fn find_place(&self, room: RoomNid) -> Result<RoomPlace, RoomError> {
        let head = self.rooms.head(room)?;
        Ok(RoomPlace { room, room_id: head.room_id().clone(), rules: head.rules() })
    }

    /// Leaves out what has become known meanwhile, and checks hash and signatures of the rest.
    async fn check_staged(&self, place: &RoomPlace, group: Vec<Staged>) -> Result<Vec<Incoming>, RoomError> {
        let mut origins: HashMap<EventId, ServerName> = HashMap::new();
        let mut received: Vec<ReceivedPdu> = Vec::with_capacity(group.len());
        for Staged { origin, pdu, .. } in group {
            let Some(pdu) = pdu.filter(|pdu| pdu.unverified().room_id == place.room_id) else {
                self.inbound.counters.invalid.add(1);
                continue;
            };
            if !origins.contains_key(pdu.event_id()) {
                origins.insert(pdu.event_id().clone(), origin);
                received.push(pdu);
            }
        }
        let ids: Vec<EventId> = received.iter().map(|pdu| pdu.event_id().clone()).collect();
        let unknown: HashSet<EventId> = self.rooms.unknown_events(place.room, &ids, false)?.into_iter().collect();
        self.inbound.counters.known.add(ids.len().saturating_sub(unknown.len()) as u64);
        received.retain(|pdu| unknown.contains(pdu.event_id()));
        let mut incoming = Vec::with_capacity(received.len());
        for (event_id, checked) in self.keys.check_pdus(place.rules, received).await {
            let Some(origin) = origins.remove(&event_id) else { continue };
            match checked {
                Ok(pdu) => incoming.push(Incoming { origin, pdu }),
                Err(error) => {
                    self.inbound.counters.invalid.add(1);
                    tracing::debug!(room_id = %place.room_id, %event_id, %origin, %error, "an event that cannot be used");
                }
            }
        }
        Ok(incoming)
    }

    /// Hands events to the room's writer in topological order and returns those for which something is missing. What
    /// follows an event that names a policy server comes after its commit, as it is that server that is to be asked.
    /// `states` says how the state is found before those whose previous events nobody could deliver.
    pub(super) async fn deliver(
        &self,
        place: &RoomPlace,
        events: Vec<Incoming>,
        states: &States,
    ) -> Result<Vec<Incoming>, RoomError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let sorted = order::sort_topologically(events);
        let unknown = |ids: Vec<EventId>, outliers| self.rooms.unknown_events(place.room, &ids, outliers);
        let unknown_prev: HashSet<EventId> = unknown(order::cited_prev(&sorted), false)?.into_iter().collect();
        let unknown_auth: HashSet<EventId> = unknown(order::cited_auth(&sorted), true)?.into_iter().collect();
        let divided = order::divide(sorted, &unknown_prev, &unknown_auth, |id| states.contains_key(id));
        let mut blocked = divided.blocked;
        let stretches = divided.ready.split_inclusive(|event| names_policy_server(event.pdu()));
        for part in stretches.flat_map(|stretch| stretch.chunks(COMMIT)) {
            for (event, verdict) in self.receive_part(place, part.to_vec(), states).await? {
                match verdict {
                    Ok(verdict) => self.count_verdict(place, &event, &verdict),
                    Err(RoomError::Missing(_)) => blocked.push(event),
                    Err(error) => {
                        self.inbound.counters.dropped.add(1);
                        let (event_id, origin) = (&event.pdu().event_id, &event.origin);
                        tracing::debug!(room_id = %place.room_id, %event_id, %origin, %error, "an event was dropped");
                    }
                }
            }
        }
        Ok(blocked)
    }

    /// Asks the room's policy server, if it uses one, for what that has not signed; hands a part to the writer; if all
    /// of it is refused for the fault of one, one by one.
    async fn receive_part(
        &self,
        place: &RoomPlace,
        mut part: Vec<Incoming>,
        states: &States,
    ) -> Result<Vec<(Incoming, Result<Verdict, RoomError>)>, RoomError> {
        // Before a place among those who compute is taken.
        let events: Vec<CheckedPdu> = part.iter().map(|event| event.pdu.clone()).collect();
        for (event, advised) in part.iter_mut().zip(self.rooms.look_for_advice(place.room, events).await?) {
            event.pdu = advised;
        }
        let received = |event: &Incoming| {
            let before = states.get(&event.pdu().event_id);
            let state_before = if let Some(Before::State(state)) = before { Some(state.clone()) } else { None };
            let later = matches!(before, Some(Before::Later));
            Received { state_before, later, ..event.pdu.clone().into() }
        };
        let receive = |events: Vec<Received>| async move {
            // The semaphore is never closed.
            let _computing = self.inbound.staging.computing.acquire().await;
            self.rooms.receive_all(place.room, events).await
        };
        match retry_busy(|| receive(part.iter().map(received).collect())).await {
            Ok(verdicts) => Ok(part.into_iter().zip(verdicts).collect()),
            Err(error) if is_lasting(&error) => Err(error),
            Err(error) => {
                tracing::error!(room_id = %place.room_id, %error, "events failed together and are tried one by one");
                let mut outcomes = Vec::with_capacity(part.len());
                for event in part {
                    let outcome = retry_busy(|| receive(vec![received(&event)])).await;
                    let outcome = match outcome {
                        Ok(mut verdicts) => verdicts.pop().unwrap_or(Err(RoomError::Busy)),
                        Err(error) if is_lasting(&error) => return Err(error),
                        Err(error) => Err(error),
                    };
                    outcomes.push((event, outcome));
                }
                Ok(outcomes)
            }
        }
    }

    fn count_verdict(&self, place: &RoomPlace, event: &Incoming, verdict: &Verdict) {
        let counters = &self.inbound.counters;
        let (event_id, origin, room_id) = (&event.pdu().event_id, &event.origin, &place.room_id);
        match verdict {
            Verdict::Known => counters.known.add(1),
            Verdict::Accepted => counters.accepted.add(1),
            Verdict::SoftFailed(reason) => {
                counters.soft_failed.add(1);
                tracing::debug!(%room_id, %event_id, %origin, reason, "an event was soft-failed");
            }
            Verdict::Rejected(reason) => {
                counters.rejected.add(1);
                tracing::debug!(%room_id, %event_id, %origin, reason, "an event was rejected");
            }
        }
    }

    /// Puts off events for which nobody delivered what they cite.
    ///
    /// # Errors
    /// Storage errors only.
    pub(super) async fn give_up(&self, place: &RoomPlace, blocked: &[Incoming]) -> Result<(), RoomError> {
        if blocked.is_empty() {
            return Ok(());
        }
        let dropped = self.postpone(place, blocked).await?;
        self.inbound.counters.dropped.add(dropped as u64);
        self.inbound.counters.postponed.add(blocked.len().saturating_sub(dropped) as u64);
        let mut by_origin: BTreeMap<&ServerName, usize> = BTreeMap::new();
        for event in blocked {
            *by_origin.entry(&event.origin).or_default() += 1;
        }
        for (origin, events) in by_origin {
            tracing::debug!(room_id = %place.room_id, %origin, events, dropped, "events cite what is missing");
        }
        Ok(())
    }
}

/// Whether an error says that nothing can be stored at present, whatever the event. A commit that is refused for what is
/// in it is not: trying that again for ever would hold up all that waits behind it.
pub(super) fn is_lasting(error: &RoomError) -> bool {
    let is_refused = |error: &CommitError| !matches!(error, CommitError::Failed(_) | CommitError::Closed);
    match error {
        RoomError::Storage(_) | RoomError::Busy => true,
        RoomError::Commit(error) => !is_refused(error),
        _ => false,
    }
}

/// Asks again while a room's writer has too much to do.
pub(crate) async fn retry_busy<T, F>(mut ask: impl FnMut() -> F) -> Result<T, RoomError>
where
    F: Future<Output = Result<T, RoomError>>,
{
    let mut wait = BUSY_WAIT;
    for _ in 0..BUSY_RETRIES {
        match ask().await {
            Err(RoomError::Busy) => tokio::time::sleep(wait).await,
            outcome => return outcome,
        }
        wait = wait.saturating_mul(2).min(Duration::from_secs(2));
    }
    ask().await
}
