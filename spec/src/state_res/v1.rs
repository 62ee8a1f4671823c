//! State resolution of room version 1: by depth, then by the SHA-1 of the event id.

use std::{cmp::Reverse, sync::Arc};

use sha1::{Digest, Sha1};

use super::{
    EventSource, Resolution, ResolveError, StateMap,
    auth_graph::{AuthGraph, Node},
    conflicts::{Conflicts, KeyRef},
    partial::{PartialState, find, keys_of},
};
use crate::{
    auth::{JOIN_RULES, MEMBER, POWER_LEVELS, check_state},
    pdu::Pdu,
    version::RoomVersionRules,
};

/// Candidates for one key, from the greatest depth to the least, equal depths by ascending hash.
type Candidates<'c> = (KeyRef<'c>, Vec<Node>);

/// Decides power levels, then join rules, then members, then the rest, each over what is decided before. Keys of
/// one pass do not see each other, so that their order does not matter.
pub(super) fn resolve(
    rules: &RoomVersionRules,
    conflicts: &Conflicts<'_>,
    source: &dyn EventSource,
) -> Result<Resolution, ResolveError> {
    let mut graph = AuthGraph::new(source);
    let mut state = PartialState::unconflicted(conflicts);
    let mut passes: [Vec<Candidates<'_>>; 4] = Default::default();
    for (key, row) in conflicts.iter() {
        let nodes = collect_candidates(&mut graph, row)?;
        // In this version a key that only some states have is no conflict.
        if let [only] = *nodes {
            state.insert(&graph, only);
            continue;
        }
        let [levels, join_rules, members, others] = &mut passes;
        match key {
            (POWER_LEVELS, "") => levels.push((key, nodes)),
            (JOIN_RULES, _) => join_rules.push((key, nodes)),
            (MEMBER, _) => members.push((key, nodes)),
            _ => others.push((key, nodes)),
        }
    }
    let [levels, join_rules, members, others] = passes;
    for pass in [levels, join_rules, members] {
        let mut winners = Vec::with_capacity(pass.len());
        for (_, nodes) in pass {
            winners.extend(decide_auth_event(rules, &mut graph, &state, &nodes)?);
        }
        for winner in winners {
            state.insert(&graph, winner);
        }
    }
    let mut winners = Vec::with_capacity(others.len());
    for (_, nodes) in others {
        winners.extend(decide_other_event(rules, &mut graph, &state, &nodes)?);
    }
    for winner in winners {
        state.insert(&graph, winner);
    }
    let decided: StateMap<_> =
        state.into_decided().map(|(key, node)| (key, Some(graph.event(node).event_id.clone()))).collect();
    Ok(Resolution { decided })
}

fn collect_candidates(
    graph: &mut AuthGraph<'_>,
    row: &[Option<&crate::ids::EventId>],
) -> Result<Vec<Node>, ResolveError> {
    let mut nodes = row.iter().flatten().map(|id| graph.node(id)).collect::<Result<Vec<_>, _>>()?;
    nodes.sort_unstable();
    nodes.dedup();
    nodes.sort_by_cached_key(|node| {
        let event = graph.event(*node);
        (Reverse(event.depth), <[u8; 20]>::from(Sha1::digest(event.event_id.as_str().as_bytes())))
    });
    Ok(nodes)
}

/// Starts with the least depth and goes on as long as each event is allowed after the one before.
fn decide_auth_event(
    rules: &RoomVersionRules,
    graph: &mut AuthGraph<'_>,
    state: &PartialState<'_>,
    nodes: &[Node],
) -> Result<Option<Node>, ResolveError> {
    let mut from_least = nodes.iter().rev().copied();
    let Some(mut winner) = from_least.next() else { return Ok(None) };
    for node in from_least {
        if !is_allowed(rules, graph, state, node, Some(winner))? {
            break;
        }
        winner = node;
    }
    Ok(Some(winner))
}

/// The allowed event of the greatest depth, or if none is, the one of the least.
fn decide_other_event(
    rules: &RoomVersionRules,
    graph: &mut AuthGraph<'_>,
    state: &PartialState<'_>,
    nodes: &[Node],
) -> Result<Option<Node>, ResolveError> {
    for node in nodes {
        if is_allowed(rules, graph, state, *node, None)? {
            return Ok(Some(*node));
        }
    }
    Ok(nodes.last().copied())
}

/// Whether the state authorises `node`, with `replaced` in place of the state's event for its key.
fn is_allowed(
    rules: &RoomVersionRules,
    graph: &mut AuthGraph<'_>,
    state: &PartialState<'_>,
    node: Node,
    replaced: Option<Node>,
) -> Result<bool, ResolveError> {
    let event = Arc::clone(graph.event(node));
    let mut auth_state: Vec<Arc<Pdu>> = replaced.into_iter().map(|node| Arc::clone(graph.event(node))).collect();
    for (kind, state_key) in keys_of(rules, &event) {
        if let Some(node) = state.get(graph, kind, &state_key)? {
            auth_state.push(Arc::clone(graph.event(node)));
        }
    }
    Ok(check_state(rules, &event, &|kind, state_key| find(&auth_state, kind, state_key)).is_ok())
}
