//! Lists of events in answers of other servers.

use std::collections::{BTreeSet, HashMap};

use rooms::CheckedPdu;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use spec::ids::{EventId, RoomId, ServerName};
use spec::pdu::ReceivedPdu;
use spec::version::RoomVersionRules;

/// The events of an answer that are events of the room, each once, at most `most`. Others are left out.
pub(crate) fn parse_pdus(
    server: &ServerName,
    room: &RoomId,
    rules: &RoomVersionRules,
    pdus: &[Box<RawValue>],
    most: usize,
) -> Vec<ReceivedPdu> {
    let (mut received, mut seen) = (Vec::new(), BTreeSet::new());
    for pdu in pdus.iter().take(most) {
        let object: Option<Map<String, Value>> = serde_json::from_str(pdu.get()).ok();
        match object.map(|object| ReceivedPdu::check(object, rules)) {
            Some(Ok(pdu)) if pdu.unverified().room_id == *room => {
                if seen.insert(pdu.event_id().clone()) {
                    received.push(pdu);
                }
            }
            Some(Ok(_)) => tracing::debug!(origin = server.as_str(), "an event of another room was left out"),
            Some(Err(error)) => tracing::debug!(origin = server.as_str(), %error, "an event was left out"),
            None => tracing::debug!(origin = server.as_str(), "what is no event was left out"),
        }
    }
    received
}

/// Sorts events so that each comes after those of them that it follows; those that nothing orders by depth, then by
/// id. Events of a circle are left out: they can have no place.
pub(crate) fn sort_by_prev(events: Vec<CheckedPdu>) -> Vec<CheckedPdu> {
    let places: HashMap<EventId, usize> =
        events.iter().enumerate().map(|(place, event)| (event.pdu().event_id.clone(), place)).collect();
    let mut waits_for: HashMap<usize, usize> = HashMap::new();
    let mut followers: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut free = BTreeSet::new();
    let key = |place: usize, event: &CheckedPdu| (event.pdu().depth, event.pdu().event_id.clone(), place);
    for (place, event) in events.iter().enumerate() {
        let before: BTreeSet<usize> = event.pdu().prev_events.iter().filter_map(|id| places.get(id).copied()).collect();
        if before.is_empty() {
            free.insert(key(place, event));
        } else {
            waits_for.insert(place, before.len());
        }
        for before in before {
            followers.entry(before).or_default().push(place);
        }
    }
    let mut order = Vec::with_capacity(events.len());
    while let Some((_, _, place)) = free.pop_first() {
        order.push(place);
        for follower in followers.remove(&place).unwrap_or_default() {
            let Some(open) = waits_for.get_mut(&follower) else { continue };
            *open = open.saturating_sub(1);
            if *open == 0 {
                free.extend(events.get(follower).map(|event| key(follower, event)));
            }
        }
    }
    let mut events: Vec<Option<CheckedPdu>> = events.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| events.get_mut(place)?.take()).collect()
}

#[cfg(test)]
mod tests;
