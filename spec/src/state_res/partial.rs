//! The state that resolution builds up, and the iterative auth checks that grow it.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{
    ResolveError,
    auth_graph::{AuthGraph, Node},
    conflicts::Conflicts,
};
use crate::{
    auth::{CREATE, auth_keys, check_state},
    pdu::Pdu,
    version::RoomVersionRules,
};

/// A partially resolved state: what was decided, over what the states agree on.
pub(super) struct PartialState<'a> {
    decided: HashMap<Box<str>, HashMap<Box<str>, Node>>,
    agreed: Option<&'a Conflicts<'a>>,
}

impl<'a> PartialState<'a> {
    /// Starts from nothing.
    pub(super) fn empty() -> Self {
        Self { decided: HashMap::new(), agreed: None }
    }

    /// Starts from the unconflicted state.
    pub(super) fn unconflicted(conflicts: &'a Conflicts<'a>) -> Self {
        Self { decided: HashMap::new(), agreed: Some(conflicts) }
    }

    /// The event for a key.
    pub(super) fn get(
        &self,
        graph: &mut AuthGraph<'_>,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<Node>, ResolveError> {
        if let Some(node) = self.decided.get(kind).and_then(|of_kind| of_kind.get(state_key)) {
            return Ok(Some(*node));
        }
        let agreed = self.agreed.and_then(|conflicts| conflicts.agreed(kind, state_key));
        agreed.map(|id| graph.node(&id)).transpose()
    }

    /// Makes `node` the event for its key. Ignores events that are not state events.
    pub(super) fn insert(&mut self, graph: &AuthGraph<'_>, node: Node) {
        let event = graph.event(node);
        if let Some(state_key) = event.state_key.clone() {
            self.decided.entry(event.kind.clone()).or_default().insert(state_key, node);
        }
    }

    /// What was decided.
    pub(super) fn into_decided(self) -> impl Iterator<Item = ((Box<str>, Box<str>), Node)> {
        self.decided.into_iter().flat_map(|(kind, of_kind)| {
            of_kind.into_iter().map(move |(state_key, node)| ((kind.clone(), state_key), node))
        })
    }

    /// Applies the events in order, leaving out those that the state so far does not authorise (Room Version 2
    /// §Definitions, iterative auth checks). Where the state has no event for a key, the event's own auth event
    /// stands in, unless it was rejected.
    pub(super) fn apply_authorised(
        &mut self,
        rules: &RoomVersionRules,
        graph: &mut AuthGraph<'_>,
        events: &[Node],
    ) -> Result<(), ResolveError> {
        for node in events {
            let event = Arc::clone(graph.event(*node));
            if event.state_key.is_none() {
                continue;
            }
            let auth_state = self.collect_auth_state(rules, graph, *node, &event)?;
            if check_state(rules, &event, &|kind, state_key| find(&auth_state, kind, state_key)).is_ok() {
                self.insert(graph, *node);
            }
        }
        Ok(())
    }

    fn collect_auth_state(
        &self,
        rules: &RoomVersionRules,
        graph: &mut AuthGraph<'_>,
        node: Node,
        event: &Pdu,
    ) -> Result<Vec<Arc<Pdu>>, ResolveError> {
        let own = graph.auth_events(node)?;
        let keys = auth_keys(rules, &event.kind, &event.sender, event.state_key.as_deref(), &event.content);
        let mut found = Vec::with_capacity(keys.len() + 1);
        for (kind, state_key) in keys {
            let in_state = self.get(graph, kind, &state_key)?.filter(|node| !graph.is_rejected(*node));
            let is_own = |node: &Node| {
                let auth = graph.event(*node);
                &*auth.kind == kind && auth.state_key.as_deref() == Some(&*state_key) && !graph.is_rejected(*node)
            };
            if let Some(node) = in_state.or_else(|| own.iter().copied().find(is_own)) {
                found.push(Arc::clone(graph.event(node)));
            }
        }
        if &*event.kind != CREATE
            && let Some(create) = rules.room_id_is_create_hash.then(|| event.room_id.create_event_id()).flatten()
        {
            let create = graph.node(&create)?;
            found.push(Arc::clone(graph.event(create)));
        }
        Ok(found)
    }
}

/// The event for a key among a few.
pub(super) fn find(events: &[Arc<Pdu>], kind: &str, state_key: &str) -> Option<Arc<Pdu>> {
    events.iter().find(|event| &*event.kind == kind && event.state_key.as_deref() == Some(state_key)).cloned()
}

/// The keys of `event` that authorise it, for the algorithm of room version 1.
pub(super) fn keys_of<'e>(rules: &RoomVersionRules, event: &'e Pdu) -> Vec<(&'static str, Cow<'e, str>)> {
    auth_keys(rules, &event.kind, &event.sender, event.state_key.as_deref(), &event.content)
}
