//! From drafts to one batch: builds each event on the room's head, authorises it, and collects the
//! rows that it changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use spec::ids::{EventId, UserId};
use spec::pdu::Pdu;
use spec::power::PowerLevels;
use spec::redact;
use storage::{Batch, Read, Stamped, StreamPos, Topic};

use crate::draft::{Draft, Transaction};
use crate::error::RoomError;
use crate::event::{DELAYED_MARK, Event, EventFlags, EventRow};
use crate::head::Head;
use crate::ids::{RoomSeq, TOPIC_MEMBERSHIP, TOPIC_ROOM, UserNid};
use crate::keyspaces::{
    HEADS, MembershipRow, PROMOTED, ROOM_MEMBERS, SERVER_MEMBERS, STATE_NODES, SlotKey, TIMELINE, TRANSACTIONS,
    TRANSACTIONS_BY_TIME, TransactionRow, USER_ROOMS,
};
use crate::membership::Membership;
use crate::place::Stored;
use crate::rooms::Rooms;
use crate::servers::ServerStay;
use crate::snapshot::{self, NewNodes};
use crate::sticky::STICKY;

/// More nodes of states than this are written in batches before the one that names them.
const MAX_NODES_AT_ONCE: usize = 1000;
/// The size of such a batch in bytes, about.
const NODES_BYTES: usize = 1024 * 1024;

/// What a group of commands changes.
pub(crate) struct Change {
    /// To be written first, in order.
    pub before: Vec<Batch>,
    pub batch: Batch,
    pub head: Arc<Head>,
    /// Whether the room's members or servers are others now.
    pub members_changed: bool,
    /// Whether the room is a partial one no longer.
    pub ends_partial: bool,
    /// Whether the head stays as it is.
    pub is_quiet: bool,
}

/// A room's head on its way to the next one.
pub(crate) struct Append<'a> {
    pub(crate) rooms: &'a Rooms,
    pub(crate) head: Head,
    pub(crate) batch: Batch,
    pub(crate) nodes: NewNodes,
    pub(crate) slots: HashMap<(Box<str>, Box<str>), u32>,
    /// Events of this batch.
    pub(crate) events: HashMap<RoomSeq, EventRow>,
    pub(crate) ids: HashMap<Box<str>, RoomSeq>,
    /// Stored events that this batch has looked at.
    pub(crate) looked_at: RefCell<HashMap<RoomSeq, Stored>>,
    /// Batches that have to be written before this one: a head that names their rows comes last.
    pub(crate) before: Vec<Batch>,
    /// Memberships as this batch changes them; `None` where it takes one out.
    pub(crate) members: HashMap<UserNid, Option<MembershipRow>>,
    pub(crate) servers: HashMap<Box<str>, ServerStay>,
    /// Whether the servers that are said to be in a partial room change.
    pub(crate) servers_changed: bool,
    pub(crate) ends_partial: bool,
    /// Whether nothing changes that anybody is told of: only old rows do.
    pub(crate) is_quiet: bool,
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
            looked_at: RefCell::default(),
            before: Vec::new(),
            members: HashMap::new(),
            servers: HashMap::new(),
            servers_changed: false,
            ends_partial: false,
            is_quiet: false,
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

    pub(crate) fn find_transaction(
        &self,
        transaction: Option<&(UserNid, Transaction)>,
    ) -> Result<Option<EventId>, RoomError> {
        let Some((user, transaction)) = transaction else { return Ok(None) };
        let key = (*user, transaction.device.clone(), transaction.key());
        if let Some(id) = self.transactions.get(&key) {
            return Ok(Some(id.clone()));
        }
        let row = self.rooms.store.get(&TRANSACTIONS, &(key.0, key.1.into(), key.2))?;
        Ok(row.and_then(|row| EventId::parse(&row.event_id).ok()))
    }

    pub(crate) fn add_transaction(&mut self, user: UserNid, transaction: &Transaction, id: &EventId) {
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
        let mark = match (&draft.delay_id, transaction) {
            (Some(id), _) => Some((DELAYED_MARK.into(), id.clone())),
            (None, Some((_, transaction))) => Some((transaction.device.clone(), transaction.id.clone())),
            (None, None) => None,
        };
        let pdu = self.build(draft)?;
        self.authorise(&pdu)?;
        let member = self.read_member(&pdu)?;
        let seq = self.add_event(&pdu, sender, mark)?;
        if let Some((user, membership)) = member {
            self.add_membership(user, membership, seq)?;
        }
        match target {
            Some(target) => self.redact(target, seq)?,
            None => self.note_early_redaction(&pdu, seq),
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

    pub(crate) fn member_row(&self, user: UserNid) -> Result<Option<MembershipRow>, RoomError> {
        match self.members.get(&user) {
            Some(row) => Ok(*row),
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
        self.keep_server(user, old.map(|row| row.membership), membership)?;
        let left_at = match old {
            // A place in the timeline, also where the member event is not part of it.
            Some(row) if row.membership == Membership::Join && membership != Membership::Join => {
                Some(seq.min(self.head.last_seq()))
            }
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
        self.members.insert(user, Some(row));
        Ok(())
    }

    /// Takes out a membership: nothing in the room's state says anything of the user any more.
    pub(crate) fn take_out_membership(&mut self, user: UserNid) -> Result<(), RoomError> {
        let room = self.head.room;
        let Some(row) = self.member_row(user)? else { return Ok(()) };
        // Counted out like one who leaves; then the rows go.
        self.add_membership(user, Membership::Leave, row.seq)?;
        self.members.insert(user, None);
        let server = self.rooms.user_id(user)?.server_name().to_owned();
        self.batch.delete(&ROOM_MEMBERS, &(room, user)).delete(&USER_ROOMS, &(user, room));
        self.batch.delete(&SERVER_MEMBERS, &(room, server, user));
        Ok(())
    }

    /// Finds what a redaction is to empty, and whether its sender may.
    fn check_redaction(&self, draft: &Draft) -> Result<Option<RoomSeq>, RoomError> {
        let Some(redacts) = &draft.redacts else { return Ok(None) };
        let Some(place) = self.place_of(redacts.as_str())? else {
            // Other servers may have what is not here; they judge, as this server does when it comes.
            return if self.is_elsewhere()? { Ok(None) } else { Err(RoomError::EventNotFound) };
        };
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

    /// Whether other servers are in the room.
    fn is_elsewhere(&self) -> Result<bool, RoomError> {
        let stays = self.rooms.room_servers(self.head.room)?;
        Ok(stays.iter().any(|(server, stay)| stay.joined > 0 && server != self.rooms.server_name()))
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
        self.batch.delete(&STICKY, &(self.head.room, target));
        // States from before it became part of the timeline name the row that it had as an outlier.
        let outlier = self.rooms.store.get(&PROMOTED, &(self.head.room, target))?;
        for seq in [Some(target), outlier].into_iter().flatten() {
            self.change_row(seq, |row| {
                row.pdu = redacted(&row.pdu)?;
                row.flags = row.flags.with(EventFlags::REDACTED);
                row.redacted_by = Some(by);
                Ok(())
            })?;
        }
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
        self.looked_at.get_mut().remove(&seq);
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
        if self.events.is_empty() && self.batch.is_empty() {
            return None;
        }
        let room = self.head.room;
        for (seq, row) in self.events {
            self.batch.put(&TIMELINE, &(room, seq), &Stamped::pending(row));
        }
        for (seq, (pos, row)) in self.rewritten {
            self.batch.put(&TIMELINE, &(room, seq), &Stamped { pos, value: row });
        }
        // Nobody reads nodes that no head and no event names yet: those of a large state are written first.
        let is_large = self.nodes.made.len() > MAX_NODES_AT_ONCE;
        let mut part = Batch::new();
        for (id, node) in self.nodes.made {
            let batch = if is_large { &mut part } else { &mut self.batch };
            batch.put(&STATE_NODES, &(room, id), node.as_ref());
            if part.size() > NODES_BYTES {
                self.before.push(std::mem::take(&mut part));
            }
        }
        if !part.is_empty() {
            self.before.push(part);
        }
        self.head.row.last_node = self.nodes.next;
        if !self.is_quiet {
            self.batch.put(&HEADS, &room, &self.head.row);
            self.batch.touch(Topic::new(TOPIC_ROOM, room.0));
        }
        Some(Change {
            is_quiet: self.is_quiet,
            before: self.before,
            batch: self.batch,
            head: Arc::new(self.head),
            members_changed: !self.members.is_empty() || self.servers_changed,
            ends_partial: self.ends_partial,
        })
    }
}
