//! On which keys the states differ.

use std::collections::BTreeMap;

use super::{EventSource, StateMap};
use crate::ids::EventId;

/// A type and a state key, borrowed from one of the states.
pub(super) type KeyRef<'a> = (&'a str, &'a str);

/// The states, and what each of them says about the keys on which not all agree.
pub(super) struct Conflicts<'a> {
    sets: &'a [StateMap<EventId>],
    differing: BTreeMap<KeyRef<'a>, Vec<Option<&'a EventId>>>,
    /// Who knows of the keys that `sets` leave out because all states agree on them.
    beyond: Option<&'a dyn EventSource>,
}

impl<'a> Conflicts<'a> {
    /// Walks the states in step: they are sorted, so equal keys meet.
    pub(super) fn find(sets: &'a [StateMap<EventId>]) -> Self {
        let mut differing = BTreeMap::new();
        let mut cursors: Vec<_> = sets.iter().map(|set| set.iter().peekable()).collect();
        let mut row = Vec::with_capacity(sets.len());
        while let Some(key) = cursors.iter_mut().filter_map(|cursor| cursor.peek().map(|(key, _)| *key)).min() {
            row.clear();
            row.extend(cursors.iter_mut().map(|cursor| cursor.next_if(|(next, _)| *next == key).map(|(_, id)| id)));
            if row.windows(2).any(|pair| matches!(pair, [a, b] if a != b)) {
                differing.insert((&*key.0, &*key.1), row.clone());
            }
        }
        Self { sets, differing, beyond: None }
    }

    /// The same, where keys that are in none of the sets are asked of `source`.
    pub(super) fn agreeing_by(self, source: &'a dyn EventSource) -> Self {
        Self { beyond: Some(source), ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.differing.is_empty()
    }

    pub(super) fn set_count(&self) -> usize {
        self.sets.len()
    }

    /// The keys that differ, each with the event that each state has for it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyRef<'a>, &[Option<&'a EventId>])> {
        self.differing.iter().map(|(key, row)| (*key, &**row))
    }

    pub(super) fn contains(&self, key: KeyRef<'_>) -> bool {
        self.differing.contains_key(&key)
    }

    /// The event that all states have for this key.
    pub(super) fn agreed(&self, kind: &str, state_key: &str) -> Option<EventId> {
        if self.contains((kind, state_key)) {
            return None;
        }
        let in_sets = self.sets.first()?.get(&(Box::from(kind), Box::from(state_key))).cloned();
        in_sets.or_else(|| self.beyond?.agreed(kind, state_key))
    }

    /// Every event that all states have for its key, with its arrival.
    pub(super) fn all_agreed<'s>(
        &'s self,
        source: &'s dyn EventSource,
    ) -> impl Iterator<Item = (EventId, Option<u64>)> + 's {
        let first = self.sets.first().into_iter().flatten();
        let in_sets = first.filter(|(key, _)| !self.contains((&*key.0, &*key.1)));
        let in_sets = in_sets.map(|(_, id)| (id.clone(), source.arrival(id)));
        // Asked for only when the sets did not settle it.
        in_sets.chain(std::iter::once(self.beyond).flatten().flat_map(|source| source.all_agreed()))
    }
}
