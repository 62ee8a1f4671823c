//! State resolution of room versions 2 to 11, and with the changes of version 2.1, of room version 12.

use super::{
    EventSource, Resolution, ResolveError,
    auth_graph::{AuthGraph, Node, NodeSet},
    conflicts::Conflicts,
    ordering::{sort_by_mainline, sort_by_power},
    partial::PartialState,
};
use crate::{
    auth::{CREATE, JOIN_RULES, MEMBER, Membership, POWER_LEVELS, membership},
    pdu::Pdu,
    version::{RoomVersionRules, StateResVersion},
};

/// The algorithm, step by step as in Room Version 2 §Algorithm.
pub(super) fn resolve(
    rules: &RoomVersionRules,
    conflicts: &Conflicts<'_>,
    source: &dyn EventSource,
) -> Result<Resolution, ResolveError> {
    let is_v2_1 = rules.state_res == StateResVersion::V2_1;
    let mut graph = AuthGraph::new(source);
    let conflicted = collect_full_conflicted_set(&mut graph, conflicts, is_v2_1)?;

    let power_events = collect_power_events(&mut graph, &conflicted)?;
    let sorted = sort_by_power(rules, &mut graph, &power_events)?;
    let mut state = if is_v2_1 { PartialState::empty() } else { PartialState::unconflicted(conflicts) };
    state.apply_authorised(rules, &mut graph, &sorted)?;

    let mut others: Vec<Node> = conflicted.iter().filter(|node| !power_events.contains(*node)).collect();
    let levels = state.get(&mut graph, POWER_LEVELS, "")?;
    sort_by_mainline(&mut graph, &mut others, levels)?;
    state.apply_authorised(rules, &mut graph, &others)?;

    // Keys on which the states agree keep their event, whatever was decided for them.
    let mut decided: super::StateMap<_> =
        conflicts.iter().map(|((kind, state_key), _)| ((Box::from(kind), Box::from(state_key)), None)).collect();
    for (key, node) in state.into_decided() {
        if conflicts.agreed(&key.0, &key.1).is_none() {
            decided.insert(key, Some(graph.event(node).event_id.clone()));
        }
    }
    Ok(Resolution { decided })
}

/// The conflicted state set, the auth difference and, in version 2.1, the conflicted state subgraph.
fn collect_full_conflicted_set(
    graph: &mut AuthGraph<'_>,
    conflicts: &Conflicts<'_>,
    with_subgraph: bool,
) -> Result<NodeSet, ResolveError> {
    let mut per_state = vec![Vec::new(); conflicts.set_count()];
    for (_, row) in conflicts.iter() {
        for (events, id) in per_state.iter_mut().zip(row) {
            if let Some(id) = id {
                events.push(graph.node(id)?);
            }
        }
    }
    let mut conflicted = NodeSet::default();
    for node in per_state.iter().flatten() {
        conflicted.insert(*node);
    }
    let mut full = conflicted.clone();
    for node in graph.auth_difference(conflicts, &per_state)? {
        full.insert(node);
    }
    if with_subgraph {
        let conflicted: Vec<Node> = conflicted.iter().collect();
        for node in graph.conflicted_subgraph(&conflicted)?.iter() {
            full.insert(node);
        }
    }
    Ok(full)
}

/// The power events of the full conflicted set, and what leads to them within it. Paths that leave the set are
/// not followed: servers in the field do not either, and the states of all servers have to agree.
fn collect_power_events(graph: &mut AuthGraph<'_>, conflicted: &NodeSet) -> Result<NodeSet, ResolveError> {
    let mut power_events = NodeSet::default();
    let mut open: Vec<Node> = conflicted.iter().filter(|node| is_power_event(graph.event(*node))).collect();
    while let Some(node) = open.pop() {
        if power_events.insert(node) {
            open.extend(graph.auth_events(node)?.iter().filter(|auth| conflicted.contains(**auth)));
        }
    }
    Ok(power_events)
}

/// Whether the event might take away someone's ability to do something. The create event counts, as in the
/// field: everything rests on it.
fn is_power_event(event: &Pdu) -> bool {
    let Some(state_key) = event.state_key.as_deref() else { return false };
    match &*event.kind {
        POWER_LEVELS | JOIN_RULES | CREATE => state_key.is_empty(),
        MEMBER => {
            state_key != event.sender.as_str()
                && matches!(membership(&event.content), Some(Membership::Leave | Membership::Ban))
        }
        _ => false,
    }
}
