//! On which keys the states differ.

use std::collections::BTreeMap;

use super::StateMap;
use crate::ids::EventId;

/// A type and a state key, borrowed from one of the states.
pub(super) type KeyRef<'a> = (&'a str, &'a str);

/// The states, and what each of them says about the keys on which not all agree.
pub(super) struct Conflicts<'a> {
    sets: &'a [StateMap<EventId>],
    differing: BTreeMap<KeyRef<'a>, Vec<Option<&'a EventId>>>,
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
        Self { sets, differing }
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
    pub(super) fn agreed(&self, kind: &str, state_key: &str) -> Option<&'a EventId> {
        if self.contains((kind, state_key)) {
            return None;
        }
        self.sets.first()?.get(&(Box::from(kind), Box::from(state_key)))
    }

    /// Every event that all states have for its key.
    pub(super) fn all_agreed(&self) -> impl Iterator<Item = &'a EventId> {
        let first = self.sets.first().into_iter().flatten();
        first.filter(|(key, _)| !self.contains((&*key.0, &*key.1))).map(|(_, id)| id)
    }
}
