//! Resolving random forks must give the same state in both implementations.

use std::collections::{BTreeMap, BTreeSet};

use ruma_common::OwnedEventId;
use ruma_events::StateEventType;
use ruma_state_res::utils::event_id_set::EventIdSet;
use spec::{
    auth::check_state,
    ids::EventId,
    state_res::{StateMap, resolve},
    version::RoomVersion,
};

use crate::{
    random_room::RandomRoom,
    ruma_event::{RumaEvent, ruma_rules},
};

/// Grows `branches` states from `base`, each by its own events.
fn grow(room: &mut RandomRoom, base: &StateMap<EventId>, branches: usize, steps: usize) -> Vec<StateMap<EventId>> {
    let mut states = vec![base.clone(); branches];
    for _ in 0..steps {
        let at = room.dice.roll(branches);
        let mut state = states[at].clone();
        let event = room.propose(&state);
        let look_up =
            |kind: &str, key: &str| state.get(&(kind.into(), key.into())).and_then(|id| room.events.get(id)).cloned();
        if check_state(room.version.rules(), &event, &look_up).is_ok() {
            room.accept(&mut state, event);
            states[at] = state;
        }
    }
    states
}

fn auth_chain(room: &RandomRoom, start: &EventId) -> BTreeSet<EventId> {
    let mut chain = BTreeSet::new();
    let mut open = vec![start.clone()];
    while let Some(id) = open.pop() {
        open.extend(room.events[&id].auth_events.iter().filter(|auth| chain.insert((*auth).clone())).cloned());
    }
    chain
}

/// The conflicted state subgraph straight from its definition.
fn subgraph(room: &RandomRoom, conflicted: &BTreeSet<EventId>) -> BTreeSet<EventId> {
    let below: BTreeSet<EventId> = conflicted.iter().flat_map(|id| auth_chain(room, id)).collect();
    let is_above = |id: &EventId| auth_chain(room, id).intersection(conflicted).next().is_some();
    below.into_iter().filter(is_above).chain(conflicted.iter().cloned()).collect()
}

fn theirs(id: &EventId) -> OwnedEventId {
    id.as_str().try_into().unwrap()
}

fn resolve_theirs(room: &RandomRoom, sets: &[StateMap<EventId>]) -> BTreeMap<(String, String), String> {
    let rules = ruma_rules(room.version);
    let maps: Vec<ruma_state_res::StateMap<OwnedEventId>> = sets
        .iter()
        .map(|set| {
            let entry = |((kind, key), id): (&(Box<str>, Box<str>), &EventId)| {
                ((StateEventType::from(&**kind), key.to_string()), theirs(id))
            };
            set.iter().map(entry).collect()
        })
        .collect();
    let chains = sets.iter().map(|set| {
        let chain: BTreeSet<EventId> = set.values().flat_map(|id| auth_chain(room, id)).collect();
        chain.iter().map(theirs).collect::<EventIdSet<_>>()
    });
    let resolved = ruma_state_res::resolve(
        &rules.authorization,
        rules.state_res.v2_rules().unwrap(),
        &maps,
        chains.collect(),
        |id| room.events.get(id.as_str()).map(|event| RumaEvent::from(&**event)),
        |conflicted| {
            let conflicted = conflicted.values().flatten().map(|id| EventId::parse(id.as_str()).unwrap()).collect();
            Some(subgraph(room, &conflicted).iter().map(theirs).collect())
        },
    )
    .unwrap();
    resolved.into_iter().map(|((kind, key), id)| ((kind.to_string(), key), id.to_string())).collect()
}

#[test]
fn random_forks_resolve_alike() {
    let mut changed = 0;
    for version in RoomVersion::ALL.into_iter().skip(1) {
        for seed in 0..60 {
            let (mut room, base) = RandomRoom::new(version, seed * 7919 + 1);
            let base = grow(&mut room, &base, 1, 20).remove(0);
            let mut merged = base;
            // Forks of merges, so that the auth chains get long and cross.
            for round in 0..4 {
                let branches = 2 + room.dice.roll(3);
                let sets = grow(&mut room, &merged, branches, 24);
                let fetch = |id: &EventId| room.events.get(id).cloned();
                let ours = resolve(version.rules(), &sets, &fetch).unwrap();
                let plain: BTreeMap<(String, String), String> = ours
                    .iter()
                    .map(|((kind, key), id)| ((kind.to_string(), key.to_string()), id.to_string()))
                    .collect();
                assert_eq!(plain, resolve_theirs(&room, &sets), "{version} {seed} {round}");
                let mut turned = sets.clone();
                turned.rotate_left(1);
                assert_eq!(ours, resolve(version.rules(), &turned, &fetch).unwrap(), "{version} {seed} {round}");
                changed += usize::from(sets.iter().all(|set| *set != ours));
                // One branch goes on unmerged now and then.
                merged = if room.dice.roll(4) == 0 { sets[0].clone() } else { ours };
            }
        }
    }
    assert!(changed > 500, "only {changed} forks were real");
}
