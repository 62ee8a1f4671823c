//! From drafts to one batch: builds each event on the room's head, authorises it, and collects the
//! rows that it changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use spec::ids::{EventId, UserId};
use spec::pdu::Pdu;
use spec::power::PowerLevels;
use spec::{auth, redact};
use storage::{Batch, Read, Stamped, StreamPos, Topic};

use crate::draft::{Draft, Transaction};
use crate::error::RoomError;
use crate::event::{Event, EventFlags, EventRow};
use crate::head::Head;
use crate::ids::{RoomSeq, SnapshotId, TOPIC_MEMBERSHIP, TOPIC_ROOM, UserNid};
use crate::keyspaces::{
    EVENT_IDS, EVENTS_BY_TIME, EventPlace, HEADS, MembershipRow, ROOM_MEMBERS, SLOT_KEYS, STATE_LOG, STATE_NODES,
    STATE_SLOTS, SlotKey, TIMELINE, TRANSACTIONS, TRANSACTIONS_BY_TIME, TransactionRow, USER_ROOMS,
};
use crate::membership::Membership;
use crate::rooms::Rooms;
use crate::snapshot::{self, NewNodes};

/// What a group of commands changes.
pub(crate) struct Change {
    pub batch: Batch,
    pub head: Arc<Head>,
    pub members_changed: bool,
}

/// Where an event was put.
pub(crate) struct Placed {
    pub seq: RoomSeq,
    /// The state after it.
    pub after: SnapshotId,
    /// The slot of the state that it sets.
    pub slot: Option<u32>,
}

/// A room's head on its way to the next one.
pub(crate) struct Append<'a> {
    pub(crate) rooms: &'a Rooms,
    pub(crate) head: Head,
    pub(crate) batch: Batch,
    pub(crate) nodes: NewNodes,
    slots: HashMap<(Box<str>, Box<str>), u32>,
    /// Events of this batch.
    pub(crate) events: HashMap<RoomSeq, EventRow>,
    ids: HashMap<Box<str>, RoomSeq>,
    members: HashMap<UserNid, MembershipRow>,
    transactions: HashMap<(UserNid, Box<str>, String), EventId>,
    /// Stored events whose row changes: flags and bodies.
    pub(crate) rewritten: HashMap<RoomSeq, (StreamPos, EventRow)>,
}

impl<'a> Append<'a> {
    pub fn new(rooms: &'a Rooms, head: Head) -> Append<'a> {
        let nodes = NewNodes { next: head.row.last_node, ..NewNodes::default() };
        Append {
            rooms,
            head,
            batch: Batch::new(),
            nodes,
            slots: HashMap::new(),
            events: HashMap::new(),
            ids: HashMap::new(),
            members: HashMap::new(),
            transactions: HashMap::new(),
            rewritten: HashMap::new(),
        }
    }

    /// How many events were added so far. A command that fails and has changed this number has left
    /// rows behind: the whole append must then be dropped.
    pub fn added(&self) -> usize {
        self.events.len()
    }

    /// Adds the events of one command.
    pub fn add_command(
        &mut self,
        drafts: Vec<Draft>,
        transaction: Option<(UserNid, Transaction)>,
    ) -> Result<Vec<EventId>, RoomError> {
        if let Some(made) = self.find_transaction(transaction.as_ref())? {
            return Ok(vec![made]);
        }
        let mut ids = Vec::with_capacity(drafts.len());
        for draft in drafts {
            ids.push(self.add(draft, transaction.as_ref())?);
        }
        if let (Some((user, transaction)), Some(id)) = (transaction, ids.last()) {
            self.add_transaction(user, &transaction, id);
        }
        Ok(ids)
    }

    fn find_transaction(&self, transaction: Option<&(UserNid, Transaction)>) -> Result<Option<EventId>, RoomError> {
        let Some((user, transaction)) = transaction else { return Ok(None) };
        let key = (*user, transaction.device.clone(), transaction.key());
        if let Some(id) = self.transactions.get(&key) {
            return Ok(Some(id.clone()));
        }
        let row = self.rooms.store.get(&TRANSACTIONS, &(key.0, key.1.into(), key.2))?;
        Ok(row.and_then(|row| EventId::parse(&row.event_id).ok()))
    }

    fn add_transaction(&mut self, user: UserNid, transaction: &Transaction, id: &EventId) {
        let at = self.rooms.clock.now_ms() as i64;
        let (device, key) = (transaction.device.to_string(), transaction.key());
        let row = TransactionRow { event_id: id.as_str().into(), at };
        self.batch.put(&TRANSACTIONS, &(user, device.clone(), key.clone()), &row);
        self.batch.put(&TRANSACTIONS_BY_TIME, &(at, user, device, key.clone()), &());
        self.transactions.insert((user, transaction.device.clone(), key), id.clone());
    }

    /// The slot of a key, stored or of this batch.
    pub(crate) fn known_slot(&self, kind: &str, state_key: &str) -> Result<Option<u32>, RoomError> {
        match self.slots.get(&(kind.into(), state_key.into())) {
            Some(&slot) => Ok(Some(slot)),
            None => self.rooms.state_slot(self.head.room, kind, state_key),
        }
    }

    /// The key of a slot of this batch.
    pub(crate) fn new_slot_key(&self, slot: u32) -> Option<SlotKey> {
        let ((kind, state_key), _) = self.slots.iter().find(|(_, known)| **known == slot)?;
        Some(SlotKey { kind: kind.clone(), state_key: state_key.clone() })
    }

    /// The number of the current state event of a key.
    pub(crate) fn current_seq(&self, kind: &str, state_key: &str) -> Result<Option<RoomSeq>, RoomError> {
        match self.known_slot(kind, state_key)? {
            Some(slot) => snapshot::get(&self.rooms.nodes(self.head.room), &self.nodes, self.head.row.state, slot),
            None => Ok(None),
        }
    }

    /// The current state event of a key.
    pub(crate) fn current(&self, kind: &str, state_key: &str) -> Result<Option<Arc<Pdu>>, RoomError> {
        let at_hand = match kind {
            _ if !state_key.is_empty() => &None,
            "m.room.create" => &self.head.create,
            "m.room.power_levels" => &self.head.power_levels,
            "m.room.join_rules" => &self.head.join_rules,
            _ => &None,
        };
        if at_hand.is_some() {
            return Ok(at_hand.clone());
        }
        let Some(seq) = self.current_seq(kind, state_key)? else { return Ok(None) };
        if let Some(row) = self.events.get(&seq) {
            return Ok(Some(row.pdu.clone()));
        }
        Ok(Some(Arc::new(self.rooms.event_at(self.head.room, seq)?.to_pdu()?)))
    }

    fn add(&mut self, draft: Draft, transaction: Option<&(UserNid, Transaction)>) -> Result<EventId, RoomError> {
        let sender = self.rooms.user_nid(&draft.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        if draft.only_if_joined && self.member_row(sender)?.map(|row| row.membership) != Some(Membership::Join) {
            return Err(RoomError::NotInRoom);
        }
        if let Some(unchanged) = self.find_unchanged(&draft)? {
            return Ok(unchanged);
        }
        let target = self.check_redaction(&draft)?;
        let relation = self.check_relation(&draft, sender)?;
        let pdu = self.build(draft)?;
        self.authorise(&pdu)?;
        let member = self.read_member(&pdu)?;
        let seq = self.add_event(&pdu, sender, transaction)?;
        if let Some((user, membership)) = member {
            self.add_membership(user, membership, seq)?;
        }
        if let Some(target) = target {
            self.redact(target, seq)?;
        }
        if let Some(relation) = relation {
            self.add_relation(relation, &pdu, sender, seq)?;
        }
        Ok(pdu.event_id.clone())
    }

    fn find_unchanged(&self, draft: &Draft) -> Result<Option<EventId>, RoomError> {
        let Some(state_key) = draft.state_key.as_deref().filter(|_| draft.skip_if_unchanged) else { return Ok(None) };
        let Some(current) = self.current(&draft.kind, state_key)? else { return Ok(None) };
        let same = current.sender == draft.sender
            && current.content::<Map<String, Value>>().is_ok_and(|content| content == draft.content);
        Ok(same.then(|| current.event_id.clone()))
    }

    fn build(&self, draft: Draft) -> Result<Arc<Pdu>, RoomError> {
        let head = &self.head;
        let rules = head.rules();
        let content = serde_json::value::to_raw_value(&draft.content)
            .map_err(|_| RoomError::Invalid("content cannot be written"))?;
        let mut auth_events = Vec::new();
        for (kind, key) in auth::auth_types(rules, &draft.kind, &draft.sender, draft.state_key.as_deref(), &content) {
            if let Some(event) = self.current(&kind, &key)? {
                auth_events.push(Value::from(event.event_id.as_str()));
            }
        }
        let prev_events: Vec<Value> = head.row.extremities.iter().map(|(id, _)| Value::from(&**id)).collect();
        let mut object = Map::new();
        object.insert("auth_events".into(), reference(auth_events, rules));
        object.insert("prev_events".into(), reference(prev_events, rules));
        object.insert("content".into(), Value::Object(draft.content));
        object.insert("depth".into(), head.row.depth.saturating_add(1).min(spec::canonical::MAX_INTEGER).into());
        let now = draft.timestamp.unwrap_or(self.rooms.clock.now_ms() as i64);
        object.insert("origin_server_ts".into(), now.into());
        let creates = &*draft.kind == "m.room.create" && rules.room_id_is_create_hash;
        if !creates {
            object.insert("room_id".into(), head.room_id.as_str().into());
        }
        if rules.pair_references {
            let id = format!("${}:{}", self.rooms.random.token(24), self.rooms.server_name.as_str());
            object.insert("event_id".into(), id.into());
            object.insert("origin".into(), self.rooms.server_name.as_str().into());
        }
        object.insert("sender".into(), draft.sender.as_str().into());
        object.insert("type".into(), draft.kind.into_string().into());
        if let Some(state_key) = draft.state_key {
            object.insert("state_key".into(), state_key.into_string().into());
        }
        if let Some(redacts) = draft.redacts {
            if rules.redacts_in_content {
                object["content"]["redacts"] = redacts.as_str().into();
            } else {
                object.insert("redacts".into(), redacts.as_str().into());
            }
        }
        Ok(Arc::new(Pdu::sign(object, &self.rooms.server_name, &self.rooms.signing_key, rules)?))
    }

    fn authorise(&self, pdu: &Arc<Pdu>) -> Result<(), RoomError> {
        if &*pdu.kind == "m.room.create" {
            return Ok(auth::check_auth_events(self.head.rules(), pdu, &[])?);
        }
        let failed = RefCell::new(None);
        let state = |kind: &str, key: &str| match self.current(kind, key) {
            Ok(event) => event,
            Err(error) => {
                *failed.borrow_mut() = Some(error);
                None
            }
        };
        let verdict = auth::check_state(self.head.rules(), pdu, &state);
        match failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(verdict?),
        }
    }

    pub(crate) fn read_member(&self, pdu: &Pdu) -> Result<Option<(UserNid, Membership)>, RoomError> {
        let (Some(user), "m.room.member") = (pdu.state_key.as_deref(), &*pdu.kind) else { return Ok(None) };
        #[derive(serde::Deserialize)]
        struct Content<'a> {
            membership: std::borrow::Cow<'a, str>,
        }
        let membership = pdu.content::<Content<'_>>().ok().and_then(|content| Membership::parse(&content.membership));
        let membership = membership.ok_or(RoomError::Invalid("membership is missing or unknown"))?;
        let user = UserId::parse(user).map_err(|_| RoomError::Invalid("the state key is not a user id"))?;
        let nid = self.rooms.user_nid(&user)?.ok_or(RoomError::Inconsistent("member without a number"))?;
        Ok(Some((nid, membership)))
    }

    /// Stores an event of ours at the end of the room: the head moves onto it.
    pub(crate) fn add_event(
        &mut self,
        pdu: &Arc<Pdu>,
        sender: UserNid,
        transaction: Option<&(UserNid, Transaction)>,
    ) -> Result<RoomSeq, RoomError> {
        let before = self.head.row.state;
        let transaction = transaction.map(|(_, transaction)| (transaction.device.clone(), transaction.id.clone()));
        let placed = self.place_event(pdu, sender, before, EventFlags::default(), transaction)?;
        if let Some(slot) = placed.slot {
            self.batch.put(&STATE_LOG, &(self.head.room, StreamPos::PENDING, slot), &placed.seq);
            self.head.row.state = placed.after;
            self.head.remember_state(pdu);
        }
        self.head.row.depth = pdu.depth;
        self.head.row.extremities = vec![(pdu.event_id.as_str().into(), placed.seq)];
        Ok(placed.seq)
    }

    /// The rows every event brings: itself with the states around it, its id, its time. An event that
    /// was rejected changes no state.
    pub(crate) fn place_event(
        &mut self,
        pdu: &Arc<Pdu>,
        sender: UserNid,
        before: SnapshotId,
        flags: EventFlags,
        transaction: Option<(Box<str>, Box<str>)>,
    ) -> Result<Placed, RoomError> {
        let room = self.head.room;
        let seq = self.head.row.next_seq;
        let (mut after, mut replaces, mut changed) = (before, None, None);
        if let Some(state_key) = pdu.state_key.as_deref().filter(|_| !flags.has(EventFlags::REJECTED)) {
            let slot = self.intern_slot(&pdu.kind, state_key)?;
            let nodes = self.rooms.nodes(room);
            replaces = snapshot::get(&nodes, &self.nodes, before, slot)?;
            after = snapshot::set(&nodes, &mut self.nodes, before, slot, Some(seq))?;
            changed = Some(slot);
        }
        let row = EventRow { flags, sender, before, after, replaces, redacted_by: None, transaction, pdu: pdu.clone() };
        self.batch.expect_absent(&EVENT_IDS, &pdu.event_id.as_str().to_owned());
        self.batch.put(&EVENT_IDS, &pdu.event_id.as_str().to_owned(), &EventPlace { room, seq });
        self.batch.put(&EVENTS_BY_TIME, &(room, pdu.origin_server_ts, seq), &());
        self.events.insert(seq, row);
        self.ids.insert(pdu.event_id.as_str().into(), seq);
        self.head.row.next_seq = seq.next();
        if &*pdu.kind == "m.room.create" {
            self.head.room_id = pdu.room_id.clone();
            self.head.row.room_id = pdu.room_id.as_str().into();
        }
        Ok(Placed { seq, after, slot: changed })
    }

    pub(crate) fn intern_slot(&mut self, kind: &str, state_key: &str) -> Result<u32, RoomError> {
        let room = self.head.room;
        let key: (Box<str>, Box<str>) = (kind.into(), state_key.into());
        if let Some(&slot) = self.slots.get(&key) {
            return Ok(slot);
        }
        let slot = match self.rooms.state_slot(room, kind, state_key)? {
            Some(slot) => slot,
            None => {
                let slot = self.head.row.next_slot;
                self.head.row.next_slot =
                    slot.checked_add(1).ok_or(RoomError::Refused("the room has too much state"))?;
                let row = SlotKey { kind: kind.into(), state_key: state_key.into() };
                self.batch.put(&STATE_SLOTS, &(room, kind.to_owned(), state_key.to_owned()), &slot);
                self.batch.put(&SLOT_KEYS, &(room, slot), &row);
                slot
            }
        };
        self.slots.insert(key, slot);
        Ok(slot)
    }

    fn member_row(&self, user: UserNid) -> Result<Option<MembershipRow>, RoomError> {
        match self.members.get(&user) {
            Some(row) => Ok(Some(*row)),
            None => Ok(self.rooms.store.get(&ROOM_MEMBERS, &(self.head.room, user))?),
        }
    }

    pub(crate) fn add_membership(
        &mut self,
        user: UserNid,
        membership: Membership,
        seq: RoomSeq,
    ) -> Result<(), RoomError> {
        let room = self.head.room;
        let old = self.member_row(user)?;
        let left_at = match old {
            Some(row) if row.membership == Membership::Join && membership != Membership::Join => Some(seq),
            Some(row) => row.left_at,
            None => None,
        };
        let row = MembershipRow { membership, seq, forgotten: false, left_at };
        let head = &mut self.head.row;
        match old.map(|row| row.membership) {
            Some(Membership::Join) => head.joined = head.joined.saturating_sub(1),
            Some(Membership::Invite) => head.invited = head.invited.saturating_sub(1),
            _ => {}
        }
        match membership {
            Membership::Join => head.joined += 1,
            Membership::Invite => head.invited += 1,
            _ => {}
        }
        self.batch.put(&ROOM_MEMBERS, &(room, user), &row);
        self.batch.put(&USER_ROOMS, &(user, room), &Stamped::pending(row));
        self.batch.touch(Topic::new(TOPIC_MEMBERSHIP, user.0));
        self.members.insert(user, row);
        Ok(())
    }

    /// Finds what a redaction is to empty, and whether its sender may.
    fn check_redaction(&self, draft: &Draft) -> Result<Option<RoomSeq>, RoomError> {
        let Some(redacts) = &draft.redacts else { return Ok(None) };
        let place = self.place_of(redacts.as_str())?.ok_or(RoomError::EventNotFound)?;
        let (sender, kind) = match self.events.get(&place) {
            Some(row) => (row.pdu.sender.clone(), row.pdu.kind.clone()),
            None => {
                let event = self.rooms.event_at(self.head.room, place)?;
                let sender = event.sender_id().ok_or(RoomError::Inconsistent("malformed sender"))?;
                (sender, event.kind().into())
            }
        };
        if sender != draft.sender {
            let create = self.head.create.as_ref().ok_or(RoomError::Inconsistent("room without a create event"))?;
            let levels = PowerLevels::from_state(self.head.power_levels.as_deref(), create, self.head.rules());
            if !levels.user(&draft.sender).at_least(levels.redact()) {
                return Err(RoomError::Refused("you may redact only your own events in this room"));
            }
        }
        if &*kind == "m.room.create" {
            return Err(RoomError::Refused("the create event cannot be redacted"));
        }
        Ok(Some(place))
    }

    /// The number of an event of this room, stored or of this batch.
    pub(crate) fn place_of(&self, event_id: &str) -> Result<Option<RoomSeq>, RoomError> {
        if let Some(&seq) = self.ids.get(event_id) {
            return Ok(Some(seq));
        }
        let place = self.rooms.find_event(event_id)?;
        Ok(place.filter(|place| place.room == self.head.room).map(|place| place.seq))
    }

    pub(crate) fn redact(&mut self, target: RoomSeq, by: RoomSeq) -> Result<(), RoomError> {
        let rules = self.head.rules();
        let redacted = |pdu: &Pdu| -> Result<Arc<Pdu>, RoomError> {
            let object = pdu.to_object().map_err(|_| RoomError::Inconsistent("an event does not parse"))?;
            let json = spec::canonical::write(&redact::redact_event(&object, rules));
            Ok(Arc::new(Pdu::from_trusted(pdu.event_id.clone(), &json)?))
        };
        self.remove_relation(target)?;
        self.change_row(target, |row| {
            row.pdu = redacted(&row.pdu)?;
            row.flags = row.flags.with(EventFlags::REDACTED);
            row.redacted_by = Some(by);
            Ok(())
        })?;
        if let Some(pdu) = self.rewritten.get(&target).map(|(_, row)| row.pdu.clone())
            && let Some(state_key) = pdu.state_key.as_deref()
            && self.current_seq(&pdu.kind, state_key)? == Some(target)
        {
            self.head.remember_state(&pdu);
        }
        Ok(())
    }

    /// Changes the row of an event, of this batch or stored.
    pub(crate) fn change_row(
        &mut self,
        seq: RoomSeq,
        change: impl FnOnce(&mut EventRow) -> Result<(), RoomError>,
    ) -> Result<(), RoomError> {
        if let Some(row) = self.events.get_mut(&seq) {
            return change(row);
        }
        if !self.rewritten.contains_key(&seq) {
            let event = self.rooms.event_at(self.head.room, seq)?;
            self.rewritten.insert(seq, (event.pos(), event.to_row()?));
        }
        match self.rewritten.get_mut(&seq) {
            Some((_, row)) => change(row),
            None => Ok(()),
        }
    }

    /// A stored event of the room, or one of this batch as it will be stored.
    pub(crate) fn event(&self, seq: RoomSeq) -> Result<Option<Event>, RoomError> {
        if self.events.contains_key(&seq) {
            return Ok(None);
        }
        self.rooms.event_at(self.head.room, seq).map(Some)
    }

    /// The batch of everything added, unless nothing was.
    pub fn finish(mut self) -> Option<Change> {
        if self.events.is_empty() {
            return None;
        }
        let room = self.head.room;
        for (seq, row) in self.events {
            self.batch.put(&TIMELINE, &(room, seq), &Stamped::pending(row));
        }
        for (seq, (pos, row)) in self.rewritten {
            self.batch.put(&TIMELINE, &(room, seq), &Stamped { pos, value: row });
        }
        for (id, node) in self.nodes.made {
            self.batch.put(&STATE_NODES, &(room, id), node.as_ref());
        }
        self.head.row.last_node = self.nodes.next;
        self.batch.put(&HEADS, &room, &self.head.row);
        self.batch.touch(Topic::new(TOPIC_ROOM, room.0));
        Some(Change { batch: self.batch, head: Arc::new(self.head), members_changed: !self.members.is_empty() })
    }
}

/// `prev_events` and `auth_events`: ids, or in room versions 1 and 2 pairs of id and hashes.
fn reference(ids: Vec<Value>, rules: &spec::version::RoomVersionRules) -> Value {
    if rules.pair_references { ids.into_iter().map(|id| json!([id, {}])).collect() } else { ids.into() }
}
