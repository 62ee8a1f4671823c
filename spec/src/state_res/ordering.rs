//! The two orders of state resolution version 2: reverse topological power ordering and mainline ordering
//! (Room Version 2 §Definitions).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::{
    ResolveError,
    auth_graph::{AuthGraph, Node, NodeSet},
};
use crate::{
    auth::{CREATE, POWER_LEVELS},
    ids::EventId,
    power::{PowerLevel, PowerView},
    version::RoomVersionRules,
};

/// Ready events sort by power, strongest first, then by time and id.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    power: Reverse<PowerLevel>,
    origin_server_ts: i64,
    event_id: EventId,
    node: Node,
}

/// Sorts `events` so that auth events come before what they authorise, and otherwise the strongest sender, the
/// earliest and the smallest id first. Events on a cycle are left out: nothing authorises them.
pub(super) fn sort_by_power(
    rules: &RoomVersionRules,
    graph: &mut AuthGraph<'_>,
    events: &NodeSet,
) -> Result<Vec<Node>, ResolveError> {
    let mut used_by: HashMap<Node, Vec<Node>> = HashMap::new();
    let mut waiting_for: HashMap<Node, usize> = HashMap::new();
    let mut ready = BinaryHeap::new();
    for node in events.iter() {
        let mut auth_events: Vec<Node> = graph.auth_events(node)?.to_vec();
        auth_events.retain(|auth| events.contains(*auth));
        auth_events.sort_unstable();
        auth_events.dedup();
        for auth in &auth_events {
            used_by.entry(*auth).or_default().push(node);
        }
        if auth_events.is_empty() {
            ready.push(Reverse(rank(rules, graph, node)?));
        } else {
            waiting_for.insert(node, auth_events.len());
        }
    }
    let mut sorted = Vec::new();
    while let Some(Reverse(next)) = ready.pop() {
        for user in used_by.remove(&next.node).unwrap_or_default() {
            if let Some(count) = waiting_for.get_mut(&user) {
                *count -= 1;
                if *count == 0 {
                    ready.push(Reverse(rank(rules, graph, user)?));
                }
            }
        }
        sorted.push(next.node);
    }
    Ok(sorted)
}

fn rank(rules: &RoomVersionRules, graph: &mut AuthGraph<'_>, node: Node) -> Result<Ready, ResolveError> {
    let power = Reverse(sender_power(rules, graph, node)?);
    let event = graph.event(node);
    Ok(Ready { power, origin_server_ts: event.origin_server_ts, event_id: event.event_id.clone(), node })
}

/// The power of the sender according to the event's own auth events. Levels that cannot be read count as 0.
fn sender_power(rules: &RoomVersionRules, graph: &mut AuthGraph<'_>, node: Node) -> Result<PowerLevel, ResolveError> {
    let levels = graph.auth_event_of(node, POWER_LEVELS)?;
    let create = if !rules.room_id_is_create_hash {
        graph.auth_event_of(node, CREATE)?
    } else {
        let create = graph.event(node).room_id.create_event_id();
        create.map(|create| graph.node(&create)).transpose()?
    };
    let Some(create) = create else { return Ok(PowerLevel::Finite(0)) };
    let (event, create) = (graph.event(node), graph.event(create));
    let levels = levels.map(|levels| &**graph.event(levels));
    let power = PowerView::new(rules, create, levels).and_then(|view| view.user(event.sender.as_str()));
    Ok(power.unwrap_or(PowerLevel::Finite(0)))
}

/// Sorts `events` by how old the power levels are that they rest on, seen from `levels`, then by time and id.
pub(super) fn sort_by_mainline(
    graph: &mut AuthGraph<'_>,
    events: &mut [Node],
    levels: Option<Node>,
) -> Result<(), ResolveError> {
    // Position in the mainline, 0 for `levels` itself. `None` marks events that are known to lead nowhere.
    let mut positions: HashMap<Node, Option<usize>> = HashMap::new();
    let mut next = levels;
    while let Some(node) = next {
        if positions.insert(node, Some(positions.len())).is_some() {
            break; // a cycle: positions already given are as good as any
        }
        next = graph.auth_event_of(node, POWER_LEVELS)?;
    }
    let mut keys = HashMap::with_capacity(events.len());
    for node in &*events {
        let position = mainline_position(graph, &mut positions, *node)?;
        let event = graph.event(*node);
        // Older positions are larger and come first; an event without one comes before all.
        let oldest_first = Reverse(position.unwrap_or(usize::MAX));
        keys.insert(*node, (oldest_first, event.origin_server_ts, event.event_id.clone()));
    }
    events.sort_unstable_by(|a, b| keys.get(a).cmp(&keys.get(b)));
    Ok(())
}

/// Follows the power levels from `node` back to the mainline, remembering the answer for the way there.
fn mainline_position(
    graph: &mut AuthGraph<'_>,
    positions: &mut HashMap<Node, Option<usize>>,
    node: Node,
) -> Result<Option<usize>, ResolveError> {
    let mut passed = Vec::new();
    let mut next = graph.auth_event_of(node, POWER_LEVELS)?;
    let position = loop {
        let Some(levels) = next else { break None };
        if let Some(known) = positions.get(&levels) {
            break *known;
        }
        positions.insert(levels, None); // ends a cycle, replaced below
        passed.push(levels);
        next = graph.auth_event_of(levels, POWER_LEVELS)?;
    };
    for levels in passed {
        positions.insert(levels, position);
    }
    Ok(position)
}
