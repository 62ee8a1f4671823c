//! Putting events into an order in which each comes after those it cites, and telling those that can be judged now
//! from those for which something is missing. Pure: what is stored here is given.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rooms::CheckedPdu;
use spec::ids::{EventId, ServerName};
use spec::pdu::Pdu;

/// An event on its way into a room, and who delivered it.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    /// Who delivered it: the first to be asked for what it cites.
    pub origin: ServerName,
    /// The event.
    pub pdu: CheckedPdu,
}

impl Incoming {
    /// The event.
    pub fn pdu(&self) -> &Pdu {
        self.pdu.pdu()
    }
}

/// What can be judged now and what cannot, both in topological order.
#[derive(Debug, Default)]
pub(super) struct Divided {
    /// Everything these cite is stored, or comes before them here.
    pub ready: Vec<Incoming>,
    /// These cite something that is missing, or an event that is itself blocked.
    pub blocked: Vec<Incoming>,
}

/// Sorts events so that each comes after those of them that it cites, as previous or as auth event; those that nothing
/// orders by depth, then by id, so that the order does not depend on the order of arrival. Of several with one id the
/// first is kept. Events that cite each other in a circle, which ids that are hashes make impossible, come last.
pub(super) fn sort_topologically(events: Vec<Incoming>) -> Vec<Incoming> {
    sort_by_references(events, |pdu| pdu.prev_events.iter().chain(&pdu.auth_events).collect())
}

/// As [`sort_topologically`], by auth events alone: the order in which outliers are judged.
pub(super) fn sort_by_auth(events: Vec<Incoming>) -> Vec<Incoming> {
    sort_by_references(events, |pdu| pdu.auth_events.iter().collect())
}

fn sort_by_references(events: Vec<Incoming>, references: impl Fn(&Pdu) -> Vec<&EventId>) -> Vec<Incoming> {
    let mut places: HashMap<EventId, usize> = HashMap::with_capacity(events.len());
    for (place, event) in events.iter().enumerate() {
        places.entry(event.pdu().event_id.clone()).or_insert(place);
    }
    let mut waits_for: BTreeMap<usize, usize> = BTreeMap::new();
    let mut cited_by: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut free = BTreeSet::new();
    let key = |place: usize, pdu: &Pdu| (pdu.depth, pdu.event_id.clone(), place);
    for (place, event) in events.iter().enumerate() {
        let pdu = event.pdu();
        if places.get(&pdu.event_id) != Some(&place) {
            continue;
        }
        let cited: BTreeSet<usize> = references(pdu).into_iter().filter_map(|id| places.get(id).copied()).collect();
        if cited.is_empty() {
            free.insert(key(place, pdu));
        } else {
            waits_for.insert(place, cited.len());
        }
        for cited in cited {
            cited_by.entry(cited).or_default().push(place);
        }
    }
    let mut order = Vec::with_capacity(places.len());
    while let Some((_, _, place)) = free.pop_first() {
        order.push(place);
        for next in cited_by.remove(&place).unwrap_or_default() {
            let Some(open) = waits_for.get_mut(&next) else { continue };
            *open = open.saturating_sub(1);
            if *open == 0 {
                waits_for.remove(&next);
                free.extend(events.get(next).map(|event| key(next, event.pdu())));
            }
        }
    }
    order.extend(waits_for.into_keys());
    let mut events: Vec<Option<Incoming>> = events.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| events.get_mut(place)?.take()).collect()
}

/// Divides sorted events. `unknown_prev` and `unknown_auth` hold what is not stored of the events that they cite;
/// `may_lack_prev` says which need no previous events because the state before them is known otherwise.
pub(super) fn divide(
    sorted: Vec<Incoming>,
    unknown_prev: &HashSet<EventId>,
    unknown_auth: &HashSet<EventId>,
    may_lack_prev: impl Fn(&EventId) -> bool,
) -> Divided {
    let mut ready_ids: HashSet<EventId> = HashSet::new();
    let mut divided = Divided::default();
    for event in sorted {
        let pdu = event.pdu();
        let lacks = |id: &EventId, unknown: &HashSet<EventId>| unknown.contains(id) && !ready_ids.contains(id);
        let lacks_prev = !may_lack_prev(&pdu.event_id) && pdu.prev_events.iter().any(|id| lacks(id, unknown_prev));
        if lacks_prev || pdu.auth_events.iter().any(|id| lacks(id, unknown_auth)) {
            divided.blocked.push(event);
        } else {
            ready_ids.insert(pdu.event_id.clone());
            divided.ready.push(event);
        }
    }
    divided
}

/// All previous events that these cite, each once.
pub(super) fn cited_prev<'a>(events: impl IntoIterator<Item = &'a Incoming>) -> Vec<EventId> {
    let ids: BTreeSet<&EventId> = events.into_iter().flat_map(|event| &event.pdu().prev_events).collect();
    ids.into_iter().cloned().collect()
}

/// All auth events that these cite, each once.
pub(super) fn cited_auth<'a>(events: impl IntoIterator<Item = &'a Incoming>) -> Vec<EventId> {
    let ids: BTreeSet<&EventId> = events.into_iter().flat_map(|event| &event.pdu().auth_events).collect();
    ids.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests;
