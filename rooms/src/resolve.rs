//! One state out of several, and the current state of a room whose extremities have moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spec::ids::EventId;
use spec::pdu::Pdu;
use spec::state_res::{EventSource, StateMap, resolve_differences};
use storage::{Read, StreamPos};

use crate::append::Append;
use crate::error::RoomError;
use crate::event::EventFlags;
use crate::ids::{RoomSeq, SnapshotId};
use crate::keyspaces::{SLOT_KEYS, STATE_LOG, SlotKey};
use crate::snapshot;

/// The stored events of a room, and those of the batch under way, for state resolution.
struct Events<'a, 'b> {
    append: &'a Append<'b>,
    /// One of the states that are resolved: where they agree, it says what all of them say.
    any: SnapshotId,
    /// Where they do not.
    differing: &'a BTreeSet<u32>,
}

impl EventSource for Events<'_, '_> {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.append.stored_by_id(id).ok().flatten().map(|stored| stored.pdu)
    }

    fn is_rejected(&self, id: &EventId) -> bool {
        matches!(self.append.stored_by_id(id), Ok(Some(stored)) if stored.flags.has(EventFlags::REJECTED))
    }

    fn arrival(&self, id: &EventId) -> Option<u64> {
        // Auth events are always stored before the events that cite them.
        self.append.stored_by_id(id).ok().flatten().map(|stored| stored.arrival)
    }

    fn agreed(&self, kind: &str, state_key: &str) -> Option<EventId> {
        let event = self.append.state_pdu(self.any, kind, state_key).ok().flatten();
        event.map(|event| event.event_id.clone())
    }

    fn all_agreed(&self) -> Vec<(EventId, Option<u64>)> {
        self.append.events_beside(self.any, self.differing).unwrap_or_default()
    }
}

impl Append<'_> {
    /// The state before an event all of whose previous events are part of the room here.
    pub(crate) fn state_before(&mut self, pdu: &Pdu) -> Result<SnapshotId, RoomError> {
        let mut places = Vec::with_capacity(pdu.prev_events.len());
        for id in &pdu.prev_events {
            places.push(self.anchored_with_states(id)?.ok_or_else(|| RoomError::Missing(vec![id.clone()]))?);
        }
        if places.is_empty() {
            return Err(RoomError::Invalid("only the create event has no previous events"));
        }
        let roots = self.states_after(places)?;
        self.resolve(&roots)
    }

    /// The snapshot of a state that another server gave. Shares with `base` what is the same.
    pub(crate) fn state_on(&mut self, ids: &[EventId], base: SnapshotId) -> Result<SnapshotId, RoomError> {
        let mut wanted = BTreeMap::new();
        for id in ids {
            let seq = self.place_of(id.as_str())?.ok_or_else(|| RoomError::Missing(vec![id.clone()]))?;
            let (key, flags) = self.outline_of(seq)?;
            let Some(SlotKey { kind, state_key }) = key else {
                return Err(RoomError::Invalid("an event of the state is no state event"));
            };
            if flags.has(EventFlags::REJECTED) {
                continue;
            }
            let slot = self.intern_slot(&kind, &state_key)?;
            if wanted.insert(slot, seq).is_some() {
                return Err(RoomError::Invalid("the state has two events of one type and state key"));
            }
        }
        let room = self.head.room;
        let current: BTreeMap<u32, RoomSeq> =
            snapshot::full(&self.rooms.nodes(room).with(&self.nodes), base)?.into_iter().collect();
        let mut changes = Vec::new();
        for (slot, seq) in &current {
            match wanted.get(slot) {
                Some(new) if self.is_same_event(*seq, *new)? => {}
                new => changes.push((*slot, new.copied())),
            }
        }
        changes.extend(
            wanted.iter().filter(|(slot, _)| !current.contains_key(slot)).map(|(slot, seq)| (*slot, Some(*seq))),
        );
        if changes.len() > wanted.len() / 2 {
            let entries: Vec<_> = wanted.into_iter().collect();
            return Ok(snapshot::build(&mut self.nodes, &entries));
        }
        let mut root = base;
        for (slot, seq) in changes {
            root = snapshot::set(&self.rooms.nodes(room), &mut self.nodes, root, slot, seq)?;
        }
        Ok(root)
    }

    /// The key that a state event sets, and its flags, without keeping the event: a state has very many.
    fn outline_of(&self, seq: RoomSeq) -> Result<(Option<SlotKey>, EventFlags), RoomError> {
        let key = |kind: &str, state_key: Option<&str>| {
            state_key.map(|state_key| SlotKey { kind: kind.into(), state_key: state_key.into() })
        };
        if let Some(row) = self.events.get(&seq) {
            return Ok((key(&row.pdu.kind, row.pdu.state_key.as_deref()), row.flags));
        }
        let event = self.rooms.event_at(self.head.room, seq)?;
        Ok((key(event.kind(), event.state_key()), event.flags()))
    }

    /// Whether two numbers are of one event, as an outlier and in the timeline.
    pub(crate) fn is_same_event(&self, a: RoomSeq, b: RoomSeq) -> Result<bool, RoomError> {
        let outlier = a >= RoomSeq::FIRST_OUTLIER || b >= RoomSeq::FIRST_OUTLIER;
        Ok(a == b || outlier && self.stored(a)?.pdu.event_id == self.stored(b)?.pdu.event_id)
    }

    pub(crate) fn states_after(
        &self,
        events: impl IntoIterator<Item = RoomSeq>,
    ) -> Result<BTreeSet<SnapshotId>, RoomError> {
        events.into_iter().map(|seq| Ok(self.stored(seq)?.after)).collect()
    }

    /// One state out of several, by the algorithm of the room version. Looks only at what differs.
    pub(crate) fn resolve(&mut self, roots: &BTreeSet<SnapshotId>) -> Result<SnapshotId, RoomError> {
        let mut rest = roots.iter();
        let Some(&first) = rest.next() else { return Ok(SnapshotId::EMPTY) };
        let nodes = self.rooms.nodes(self.head.room).with(&self.nodes);
        let mut differing = BTreeSet::new();
        for root in rest {
            differing.extend(snapshot::diff(&nodes, first, *root)?.into_iter().map(|(slot, _, _)| slot));
        }
        if differing.is_empty() {
            return Ok(first);
        }
        let began = self.rooms.clock.monotonic();
        let sets = roots.iter().map(|root| self.state_at(*root, &differing)).collect::<Result<Vec<_>, _>>()?;
        let resolution =
            resolve_differences(self.head.rules(), &sets, &Events { append: self, any: first, differing: &differing })?;
        let mut resolved = first;
        for ((kind, key), winner) in resolution.decided {
            let slot = self.intern_slot(&kind, &key)?;
            let seq = match winner {
                Some(id) => Some(self.place_of(id.as_str())?.ok_or_else(|| RoomError::Missing(vec![id.clone()]))?),
                None => None,
            };
            let nodes = self.rooms.nodes(self.head.room);
            if snapshot::get(&nodes, &self.nodes, resolved, slot)? != seq {
                resolved = snapshot::set(&nodes, &mut self.nodes, resolved, slot, seq)?;
            }
        }
        let took = self.rooms.clock.monotonic().saturating_sub(began);
        self.rooms.meters.resolution.observe_duration(took);
        Ok(resolved)
    }

    /// What a state says about some slots.
    fn state_at(&self, root: SnapshotId, slots: &BTreeSet<u32>) -> Result<StateMap<EventId>, RoomError> {
        let nodes = self.rooms.nodes(self.head.room);
        let mut map = StateMap::new();
        for slot in slots {
            if let Some(seq) = snapshot::get(&nodes, &self.nodes, root, *slot)? {
                let SlotKey { kind, state_key } = self.slot_key(*slot)?;
                map.insert((kind, state_key), self.stored(seq)?.pdu.event_id.clone());
            }
        }
        Ok(map)
    }

    /// The events of a state in all other slots, with their arrival. Reads of each no more than that.
    fn events_beside(&self, root: SnapshotId, slots: &BTreeSet<u32>) -> Result<Vec<(EventId, Option<u64>)>, RoomError> {
        let all = snapshot::full(&self.rooms.nodes(self.head.room).with(&self.nodes), root)?;
        let mut events = Vec::with_capacity(all.len());
        for (_, seq) in all.into_iter().filter(|(slot, _)| !slots.contains(slot)) {
            events.push(match self.events.get(&seq) {
                Some(row) => (row.pdu.event_id.clone(), Some(row.arrival)),
                None => {
                    let event = self.rooms.event_at(self.head.room, seq)?;
                    let id = EventId::parse(event.event_id());
                    (id.map_err(|_| RoomError::Inconsistent("malformed event id"))?, Some(event.arrival()))
                }
            });
        }
        Ok(events)
    }

    /// The state event of a key in any snapshot.
    pub(crate) fn state_pdu(&self, state: SnapshotId, kind: &str, key: &str) -> Result<Option<Arc<Pdu>>, RoomError> {
        let Some(slot) = self.known_slot(kind, key)? else { return Ok(None) };
        match snapshot::get(&self.rooms.nodes(self.head.room), &self.nodes, state, slot)? {
            Some(seq) => Ok(Some(self.stored(seq)?.pdu)),
            None => Ok(None),
        }
    }

    pub(crate) fn slot_key(&self, slot: u32) -> Result<SlotKey, RoomError> {
        if let Some(key) = self.new_slot_key(slot) {
            return Ok(key);
        }
        let key = self.rooms.store.get(&SLOT_KEYS, &(self.head.room, slot))?;
        key.ok_or(RoomError::Inconsistent("state slot without a key"))
    }

    /// The state after all forward extremities becomes the current one.
    pub(crate) fn resolve_current_state(&mut self) -> Result<(), RoomError> {
        let extremities: Vec<RoomSeq> = self.head.row.extremities.iter().map(|(_, seq)| *seq).collect();
        let roots = self.states_after(extremities)?;
        let current = self.resolve(&roots)?;
        self.move_current_state(current)
    }

    /// Makes a state the current one: the log, the memberships and the head follow what differs.
    fn move_current_state(&mut self, current: SnapshotId) -> Result<(), RoomError> {
        let room = self.head.room;
        let changes = snapshot::diff(&self.rooms.nodes(room).with(&self.nodes), self.head.row.state, current)?;
        self.head.row.state = current;
        for (slot, _, seq) in changes {
            let SlotKey { kind, state_key } = self.slot_key(slot)?;
            let Some(seq) = seq else {
                self.head.forget_state(&kind, &state_key);
                if &*kind == "m.room.member" {
                    self.remove_membership(&state_key)?;
                }
                continue;
            };
            self.batch.put(&STATE_LOG, &(room, StreamPos::PENDING, slot), &seq);
            let pdu = self.stored(seq)?.pdu;
            self.head.remember_state(&pdu);
            self.cancel_overtaken(&pdu)?;
            if let Ok(Some((user, membership))) = self.read_member(&pdu) {
                self.add_membership(user, membership, seq)?;
            }
        }
        Ok(())
    }

    /// Takes out a membership that the state no longer has: state resolution decided that its event was never allowed.
    pub(crate) fn remove_membership(&mut self, user: &str) -> Result<(), RoomError> {
        let user = spec::ids::UserId::parse(user).ok().map(|user| self.rooms.user_nid(&user)).transpose()?.flatten();
        user.map_or(Ok(()), |user| self.take_out_membership(user))
    }
}
