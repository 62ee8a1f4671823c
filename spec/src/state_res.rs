//! State resolution: one state out of several (Room Versions 1, 2 and 12 §State resolution).
//!
//! The result depends only on the events, never on the order of the states or of anything in a hash map.
//! Walks over the auth graph are iterative and survive cycles, which only the server-given event ids of room
//! versions 1 and 2 permit. Every event is fetched at most once per resolution.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ids::EventId,
    pdu::Pdu,
    version::{RoomVersionRules, StateResVersion},
};

mod auth_graph;
mod conflicts;
mod ordering;
mod partial;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use conflicts::Conflicts;

/// A state: type and state key to `T`, mostly an event id.
pub type StateMap<T> = BTreeMap<(Box<str>, Box<str>), T>;

/// Why states could not be resolved. Ours to repair: fetch the event, or find out why it is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// An event of the states or of their auth chains is not available.
    #[error("event {0} is needed to resolve the state of its room and is missing")]
    MissingEvent(EventId),
}

/// Where resolution gets events from. A closure `Fn(&EventId) -> Option<Arc<Pdu>>` is one.
pub trait EventSource {
    /// The event, `None` when it is not available. Asked once per event.
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>>;

    /// Whether the event was rejected on receipt; rejected auth events authorise nothing.
    fn is_rejected(&self, _id: &EventId) -> bool {
        false
    }

    /// A number that is larger than those of all events in the auth chain of this event, such as the order of
    /// arrival where auth events are stored first. Asked without fetching the event; lets resolution skip the
    /// auth chains of the bulk of a large room. `None` when unknown.
    fn arrival(&self, _id: &EventId) -> Option<u64> {
        None
    }

    /// The event that all states have for a key on which they agree. Asked by [`resolve_differences`] only, whose
    /// states leave those keys out.
    fn agreed(&self, _kind: &str, _state_key: &str) -> Option<EventId> {
        None
    }

    /// The events of all keys on which the states agree, each with its [arrival](EventSource::arrival). Asked by
    /// [`resolve_differences`] only, and seldom.
    fn all_agreed(&self) -> Vec<(EventId, Option<u64>)> {
        Vec::new()
    }
}

impl<F: Fn(&EventId) -> Option<Arc<Pdu>>> EventSource for F {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self(id)
    }
}

/// What resolution decided. Everything else is the same in all states and stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The keys on which the states differ, with the event that won, or `None` if none did. Room versions 2 on
    /// may also name a key that is in none of the states.
    pub decided: StateMap<Option<EventId>>,
}

impl Resolution {
    /// Turns any of the states that were resolved into the result.
    pub fn apply(self, state: &mut StateMap<EventId>) {
        for (key, winner) in self.decided {
            match winner {
                Some(event_id) => state.insert(key, event_id),
                None => state.remove(&key),
            };
        }
    }
}

/// Resolves states to one, by the algorithm of the room version. Fails if `fetch` does not have an event of the
/// states that matters or an event of an auth chain. Resolving no states gives the empty state.
pub fn resolve(
    rules: &RoomVersionRules,
    sets: &[StateMap<EventId>],
    fetch: &dyn Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap<EventId>, ResolveError> {
    let Some(mut state) = sets.first().cloned() else { return Ok(StateMap::new()) };
    resolve_conflicts(rules, sets, &fetch)?.apply(&mut state);
    Ok(state)
}

/// [`resolve`] without copying the state: gives only what differs.
pub fn resolve_conflicts(
    rules: &RoomVersionRules,
    sets: &[StateMap<EventId>],
    source: &dyn EventSource,
) -> Result<Resolution, ResolveError> {
    resolve_found(rules, &Conflicts::find(sets), source)
}

/// [`resolve_conflicts`] for states that hold only the keys on which they may differ: what they agree on is asked of
/// `source`. Costs what differs, however large the room.
pub fn resolve_differences(
    rules: &RoomVersionRules,
    sets: &[StateMap<EventId>],
    source: &dyn EventSource,
) -> Result<Resolution, ResolveError> {
    resolve_found(rules, &Conflicts::find(sets).agreeing_by(source), source)
}

fn resolve_found(
    rules: &RoomVersionRules,
    conflicts: &Conflicts<'_>,
    source: &dyn EventSource,
) -> Result<Resolution, ResolveError> {
    if conflicts.is_empty() {
        return Ok(Resolution::default());
    }
    match rules.state_res {
        StateResVersion::V1 => v1::resolve(rules, conflicts, source),
        StateResVersion::V2 | StateResVersion::V2_1 => v2::resolve(rules, conflicts, source),
    }
}
