//! The end of a replay: one commit makes what was judged again the present of a room that was partial.

use std::collections::{BTreeSet, HashSet};

use spec::ids::UserId;
use storage::{Read, Stamped, StreamPos};

use crate::append::Append;
use crate::enter::{Keep, Members};
use crate::error::RoomError;
use crate::ids::{RoomNid, RoomSeq, SnapshotId, UserNid};
use crate::keyspaces::{
    MISSED_SERVERS, PARTIAL_EVENTS, PARTIAL_SERVERS, RESYNCED_ROOMS, ROOM_SERVERS, SERVER_MEMBERS, STATE_LOG, SlotKey,
};
use crate::membership::Membership;
use crate::partial::PartialRow;
use crate::replay::Finish;
use crate::rooms::Rooms;
use crate::server_view::{Citation, cited_ids};
use crate::servers::ServerStay;
use crate::snapshot;
use crate::visibility::membership_of;

/// Of more members than these it is not told together with the end that they are others now.
const MAX_CORRECTED: usize = 2000;

impl Rooms {
    /// Makes a partial room, all of whose events were judged again, one with its full state. Cancel-safe; after a crash
    /// it is called again.
    ///
    /// # Errors
    /// [`RoomError::Refused`] if the state before the join is not here; storage errors.
    pub async fn finish_partial(&self, room: RoomNid) -> Result<Finish, RoomError> {
        self.submit_job(room, |append| append.finish_partial()).await
    }
}

/// What is different in the full state from what was thought.
#[derive(Default)]
struct Corrections {
    slots: Vec<(u32, Option<RoomSeq>)>,
    /// The members among them.
    users: BTreeSet<UserNid>,
}

impl Append<'_> {
    fn finish_partial(&mut self) -> Result<Finish, RoomError> {
        let Some(partial) = self.head.partial.clone() else { return Ok(Finish::Done) };
        let full = partial.full.ok_or(RoomError::Refused("the state before the join is not here"))?;
        let room = self.head.room;
        if self.rooms.store.scan(&PARTIAL_EVENTS, &room).from(&(room, partial.join)).keys().next().is_some() {
            return Ok(Finish::More);
        }
        self.head.row.extremities = self.extremities_since(partial.join)?;
        self.drop_extremities()?;
        let extremities: Vec<RoomSeq> = self.head.row.extremities.iter().map(|(_, seq)| *seq).collect();
        let roots = self.states_after(extremities)?;
        let current = self.resolve(&roots)?;
        let members = self.members_of(current)?;
        let corrections = self.find_corrections(current)?;
        self.note_unheard(&partial, full, current, &members)?;

        // As when a room is entered: the stay of a server begins with our join.
        let last = std::mem::replace(&mut self.head.row.next_seq, partial.join.next());
        let kept_back = std::mem::take(&mut self.batch);
        self.replace_members(&members, Keep::Outside, &corrections.users)?;
        // Apart from the last batch, so that no client is told that all of these have come just now.
        if !self.batch.is_empty() {
            self.before.push(std::mem::take(&mut self.batch));
        }
        self.batch = kept_back;
        self.head.row.next_seq = last;
        let counts = (self.head.row.joined, self.head.row.invited);
        self.correct(current, &members, &corrections)?;
        (self.head.row.joined, self.head.row.invited) = counts;

        self.extend_stays(&partial, full)?;
        self.replace_named_servers(&[])?;
        self.batch.put(&RESYNCED_ROOMS, &room, &Stamped::pending(()));
        self.set_partial(None);
        Ok(Finish::Done)
    }

    /// The accepted events from `join` on that no other of them follows.
    fn extremities_since(&self, join: RoomSeq) -> Result<Vec<(Box<str>, RoomSeq)>, RoomError> {
        let (mut ends, mut followed) = (Vec::new(), HashSet::new());
        let mut next = join;
        while next < self.head.row.next_seq {
            let events = self.rooms.scan_events(self.head.room, next, self.head.row.next_seq, 500, false)?;
            let Some(last) = events.last() else { break };
            next = last.seq().next();
            for event in events.iter().filter(|event| event.flags().is_visible()) {
                for id in cited_ids(event, Citation::Prev)? {
                    followed.insert(id);
                }
                ends.push((Box::from(event.event_id()), event.seq()));
            }
            // What came is mostly followed by what came next.
            ends.retain(|(id, _): &(Box<str>, RoomSeq)| !followed.contains(&**id));
        }
        Ok(ends)
    }

    /// The members that a stored state names.
    fn members_of(&self, state: SnapshotId) -> Result<Members, RoomError> {
        let mut members = Members::new();
        for (_, seq) in snapshot::full(&self.rooms.nodes(self.head.room).with(&self.nodes), state)? {
            if let Some((user, membership)) = self.member_at(seq)? {
                members.insert(user, (membership, seq));
            }
        }
        Ok(members)
    }

    fn member_at(&self, seq: RoomSeq) -> Result<Option<(UserNid, Membership)>, RoomError> {
        let event = self.rooms.event_at(self.head.room, seq)?;
        if event.kind() != "m.room.member" {
            return Ok(None);
        }
        let user = event.state_key().and_then(|user| UserId::parse(user).ok());
        let user = user.map(|user| self.rooms.user_nid(&user)).transpose()?.flatten();
        Ok(user.zip(membership_of(&event)))
    }

    /// Where the current state as it was thought to be was wrong: not where it did not know a member.
    fn find_corrections(&self, current: SnapshotId) -> Result<Corrections, RoomError> {
        let nodes = self.rooms.nodes(self.head.room).with(&self.nodes);
        let mut corrections = Corrections::default();
        for (slot, old, new) in snapshot::diff(&nodes, self.head.row.state, current)? {
            if let (Some(old), Some(new)) = (old, new)
                && self.is_same_event(old, new)?
            {
                continue;
            }
            let SlotKey { kind, state_key } = self.slot_key(slot)?;
            let is_member = &*kind == "m.room.member";
            if is_member && old.is_none() {
                continue;
            }
            if is_member && let Some(user) = UserId::parse(&*state_key).ok().map(|user| self.rooms.user_nid(&user)) {
                // Very many would not fit into one batch; their rows are written before, with those of all others.
                if corrections.users.len() < MAX_CORRECTED {
                    corrections.users.extend(user?);
                }
            }
            corrections.slots.push((slot, new));
        }
        Ok(corrections)
    }

    /// Makes the state the current one, and tells what is different.
    fn correct(&mut self, current: SnapshotId, members: &Members, corrections: &Corrections) -> Result<(), RoomError> {
        self.head.row.state = current;
        for (slot, seq) in &corrections.slots {
            let SlotKey { kind, state_key } = self.slot_key(*slot)?;
            let Some(seq) = *seq else {
                self.head.forget_state(&kind, &state_key);
                continue;
            };
            self.batch.put(&STATE_LOG, &(self.head.room, StreamPos::PENDING, *slot), &seq);
            let pdu = self.stored(seq)?.pdu;
            self.head.remember_state(&pdu);
            self.cancel_overtaken(&pdu)?;
        }
        for user in &corrections.users {
            match members.get(user) {
                Some((membership, seq)) => self.add_membership(*user, *membership, *seq)?,
                None => self.take_out_membership(*user)?,
            }
        }
        Ok(())
    }

    /// Notes the servers with a joined user of whom nothing was known.
    fn note_unheard(
        &mut self,
        partial: &PartialRow,
        full: SnapshotId,
        current: SnapshotId,
        members: &Members,
    ) -> Result<(), RoomError> {
        let room = self.head.room;
        let mut joined: BTreeSet<UserNid> =
            members.iter().filter(|(_, (is, _))| *is == Membership::Join).map(|(user, _)| *user).collect();
        let nodes = self.rooms.nodes(room);
        let differences = snapshot::diff(&nodes.with(&self.nodes), current, full)?;
        for seq in differences.into_iter().filter_map(|(_, _, before)| before) {
            joined.extend(self.member_at(seq)?.filter(|(_, is)| *is == Membership::Join).map(|(user, _)| user));
        }
        let since = self.rooms.event_at(room, partial.join)?.pos();
        let mut looked_at = HashSet::new();
        for user in joined {
            let server = self.rooms.user_id(user)?.server_name().to_owned();
            if !looked_at.insert(server.clone()) {
                continue;
            }
            let stay = self.rooms.store.get(&ROOM_SERVERS, &(room, server.clone()))?;
            // Whom we have seen go since we came has heard everything until then.
            let was_heard = |stay: ServerStay| stay.joined > 0 || stay.until.is_some_and(|until| until >= partial.join);
            if !stay.is_some_and(was_heard) {
                self.note_missed(&server, since)?;
            }
        }
        Ok(())
    }

    /// Notes that a server was in the room since a position and was not told what happened there.
    pub(crate) fn note_missed(&mut self, server: &str, since: StreamPos) -> Result<(), RoomError> {
        let room = self.head.room;
        let key = (room, server.to_owned());
        let stay = self.rooms.store.get(&ROOM_SERVERS, &key)?;
        // Those that count as present are told everything as it happens.
        let is_told = stay.is_some_and(|stay| stay.joined > 0)
            || self.rooms.store.contains(&PARTIAL_SERVERS, &key)?
            || server == self.rooms.server_name().as_str();
        let known = self.rooms.store.get(&MISSED_SERVERS, &key)?;
        if !is_told && known.is_none_or(|known| known > since) {
            self.batch.put(&MISSED_SERVERS, &key, &since);
        }
        Ok(())
    }

    /// Servers that counted as present all the time, and were: the stay of one whose user was seen to join begins with
    /// our join all the same, so that what waits to be sent to it is sent.
    fn extend_stays(&mut self, partial: &PartialRow, full: SnapshotId) -> Result<(), RoomError> {
        let room = self.head.room;
        for key in self.rooms.store.scan(&PARTIAL_SERVERS, &room).keys() {
            let key = key?;
            let stay = match self.servers.get(&*key.1) {
                Some(stay) => Some(*stay),
                None => self.rooms.store.get(&ROOM_SERVERS, &key)?,
            };
            let Some(stay) = stay.filter(|stay| stay.joined > 0 && stay.since > partial.join) else { continue };
            if self.was_joined_in(full, &key.1)? {
                let stay = ServerStay { since: partial.join, ..stay };
                self.batch.put(&ROOM_SERVERS, &key, &stay);
                self.servers.insert(key.1.into(), stay);
            }
        }
        Ok(())
    }

    /// Whether a user of the server is joined in a state.
    fn was_joined_in(&self, state: SnapshotId, server: &str) -> Result<bool, RoomError> {
        let room = self.head.room;
        for key in self.rooms.store.scan(&SERVER_MEMBERS, &(room, server.to_owned())).keys() {
            let user = self.rooms.user_id(key?.2)?;
            let Some(slot) = self.known_slot("m.room.member", user.as_str())? else { continue };
            let seq = snapshot::get(&self.rooms.nodes(room), &self.nodes, state, slot)?;
            let member = seq.map(|seq| self.member_at(seq)).transpose()?.flatten();
            if member.is_some_and(|(_, is)| is == Membership::Join) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
