//! The part of the auth graph that a resolution has looked at, with events as small numbers.

use std::{collections::HashMap, sync::Arc};

use super::{EventSource, ResolveError, conflicts::Conflicts};
use crate::{
    auth::{CREATE, JOIN_RULES, POWER_LEVELS},
    ids::EventId,
    pdu::Pdu,
};

/// An event of an [`AuthGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node(usize);

/// Events and their auth events, fetched once each.
pub(super) struct AuthGraph<'a> {
    source: &'a dyn EventSource,
    nodes: HashMap<EventId, Node>,
    events: Vec<Arc<Pdu>>,
    auth_events: Vec<Option<Arc<[Node]>>>,
}

/// A set of events that grows with the graph.
#[derive(Clone, Default)]
pub(super) struct NodeSet(Vec<bool>);

impl NodeSet {
    pub(super) fn contains(&self, node: Node) -> bool {
        self.0.get(node.0).copied().unwrap_or(false)
    }

    /// Adds the event; `true` if it is new.
    pub(super) fn insert(&mut self, node: Node) -> bool {
        if self.0.len() <= node.0 {
            self.0.resize(node.0 + 1, false);
        }
        self.0.get_mut(node.0).is_some_and(|slot| !std::mem::replace(slot, true))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Node> {
        self.0.iter().enumerate().filter(|(_, is_in)| **is_in).map(|(at, _)| Node(at))
    }
}

impl<'a> AuthGraph<'a> {
    pub(super) fn new(source: &'a dyn EventSource) -> Self {
        Self { source, nodes: HashMap::new(), events: Vec::new(), auth_events: Vec::new() }
    }

    /// The event with this id.
    pub(super) fn node(&mut self, id: &EventId) -> Result<Node, ResolveError> {
        if let Some(node) = self.nodes.get(id) {
            return Ok(*node);
        }
        let event = self.source.event(id).ok_or_else(|| ResolveError::MissingEvent(id.clone()))?;
        let node = Node(self.events.len());
        self.nodes.insert(id.clone(), node);
        self.events.push(event);
        self.auth_events.push(None);
        Ok(node)
    }

    /// The event behind a node.
    pub(super) fn event(&self, node: Node) -> &Arc<Pdu> {
        &self.events[node.0] // nodes come only from `node`, which pushed this entry
    }

    /// Whether the event was rejected on receipt.
    pub(super) fn is_rejected(&self, node: Node) -> bool {
        self.source.is_rejected(&self.event(node).event_id)
    }

    /// The auth events of an event.
    pub(super) fn auth_events(&mut self, node: Node) -> Result<Arc<[Node]>, ResolveError> {
        if let Some(Some(known)) = self.auth_events.get(node.0) {
            return Ok(Arc::clone(known));
        }
        let event = Arc::clone(self.event(node));
        let nodes: Arc<[Node]> = event.auth_events.iter().map(|id| self.node(id)).collect::<Result<_, _>>()?;
        self.auth_events[node.0] = Some(Arc::clone(&nodes));
        Ok(nodes)
    }

    /// The first auth event with this type and the empty state key.
    pub(super) fn auth_event_of(&mut self, node: Node, kind: &str) -> Result<Option<Node>, ResolveError> {
        let auth_events = self.auth_events(node)?;
        let is_wanted = |node: &&Node| {
            let event = self.event(**node);
            &*event.kind == kind && event.state_key.as_deref() == Some("")
        };
        Ok(auth_events.iter().find(is_wanted).copied())
    }

    /// The union of the auth chains of `starts`. A start is in it only if another's chain has it.
    pub(super) fn auth_chain(&mut self, starts: &[Node]) -> Result<NodeSet, ResolveError> {
        let mut chain = NodeSet::default();
        let mut open = starts.to_vec();
        while let Some(node) = open.pop() {
            for auth in self.auth_events(node)?.iter() {
                if chain.insert(*auth) {
                    open.push(*auth);
                }
            }
        }
        Ok(chain)
    }

    /// The auth difference: what is in the auth chain of some states but not of all, except for `conflicted`,
    /// which the full conflicted set has anyway.
    ///
    /// Events that all states agree on have their chains in common, so only the chains of `conflicted` (one
    /// list per state) are compared; what differs there is then looked for in the common part, which ends as
    /// soon as everything is found.
    pub(super) fn auth_difference(
        &mut self,
        conflicts: &Conflicts<'_>,
        conflicted: &[Vec<Node>],
    ) -> Result<Vec<Node>, ResolveError> {
        let mut counts: HashMap<Node, usize> = HashMap::new();
        for starts in conflicted {
            for node in self.auth_chain(starts)?.iter() {
                *counts.entry(node).or_default() += 1;
            }
        }
        let is_conflicted: NodeSet = node_set(conflicted.iter().flatten());
        let mut candidates = NodeSet::default();
        let mut missing = 0_usize;
        for (node, count) in counts {
            if count < conflicts.set_count() && !is_conflicted.contains(node) {
                candidates.insert(node);
                missing += 1;
            }
        }
        self.remove_common(conflicts, &mut candidates, missing)?;
        Ok(candidates.iter().collect())
    }

    /// Takes out of `candidates`, of which there are `missing`, what is in the chain of an agreed event.
    fn remove_common(
        &mut self,
        conflicts: &Conflicts<'_>,
        candidates: &mut NodeSet,
        mut missing: usize,
    ) -> Result<(), ResolveError> {
        // The events that most chains lead to come first: they usually settle everything.
        let source = self.source;
        let first = [POWER_LEVELS, JOIN_RULES, CREATE].into_iter().filter_map(|kind| conflicts.agreed(kind, ""));
        let first = first.map(|id| (source.arrival(&id), id)).map(|(arrival, id)| (id, arrival));
        let mut seen = NodeSet::default();
        let mut oldest = self.oldest_arrival(candidates);
        for (id, arrival) in first.chain(conflicts.all_agreed(source)) {
            if missing == 0 {
                return Ok(());
            }
            // Nothing that is still missing can be in the chain of an event older than all of it.
            if matches!((oldest, arrival), (Some(oldest), Some(arrival)) if arrival <= oldest) {
                continue;
            }
            let before = missing;
            let mut open = vec![self.node(&id)?];
            while let Some(node) = open.pop() {
                for auth in self.auth_events(node)?.iter() {
                    if seen.insert(*auth) {
                        missing -= usize::from(candidates.remove(*auth));
                        open.push(*auth);
                    }
                }
            }
            if missing < before {
                oldest = self.oldest_arrival(candidates);
            }
        }
        Ok(())
    }

    /// The least arrival of `events`, `None` if the arrival of any is unknown.
    fn oldest_arrival(&self, events: &NodeSet) -> Option<u64> {
        events.iter().map(|node| self.source.arrival(&self.event(node).event_id)).min().flatten()
    }

    /// The conflicted state subgraph: everything on a path of auth events from one of `conflicted` to another,
    /// ends included (Room Version 12 §Definitions).
    pub(super) fn conflicted_subgraph(&mut self, conflicted: &[Node]) -> Result<NodeSet, ResolveError> {
        let mut reached = self.auth_chain(conflicted)?;
        let ends = node_set(conflicted);
        for node in conflicted {
            reached.insert(*node);
        }
        let mut used_by: HashMap<Node, Vec<Node>> = HashMap::new();
        for node in reached.iter() {
            for auth in self.auth_events(node)?.iter() {
                used_by.entry(*auth).or_default().push(node);
            }
        }
        // Everything reached is below a conflicted event; now keep what is also above one.
        let mut subgraph = ends;
        let mut open = conflicted.to_vec();
        while let Some(node) = open.pop() {
            for user in used_by.get(&node).into_iter().flatten() {
                if subgraph.insert(*user) {
                    open.push(*user);
                }
            }
        }
        Ok(subgraph)
    }
}

impl NodeSet {
    /// Removes the event; `true` if it was there.
    fn remove(&mut self, node: Node) -> bool {
        self.0.get_mut(node.0).is_some_and(std::mem::take)
    }
}

fn node_set<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> NodeSet {
    let mut set = NodeSet::default();
    for node in nodes {
        set.insert(*node);
    }
    set
}
