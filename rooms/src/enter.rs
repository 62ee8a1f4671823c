//! Entering a room of other servers: its state, stored as outliers before, becomes the current one, and the join that
//! another server accepted the end of its timeline.

use std::collections::BTreeMap;

use spec::ids::EventId;
use storage::Read;

use crate::append::Append;
use crate::checked::CheckedPdu;
use crate::error::RoomError;
use crate::event::{EventFlags, bounded_depth};
use crate::head::AT_HAND;
use crate::ids::{RoomNid, RoomSeq, UserNid};
use crate::keyspaces::ROOM_MEMBERS;
use crate::membership::Membership;
use crate::place::{Part, Placing};
use crate::receive::Known;
use crate::rooms::Rooms;
use crate::snapshot;
use crate::visibility::membership_of;

/// Members are indexed in batches of about this many bytes, before the one that makes the room visible.
const MEMBERS_BYTES: usize = 1024 * 1024;

impl Rooms {
    /// Enters a room: the state before the join, whose events are all stored (those that were rejected do not count),
    /// replaces what was known here, and the join is added. Cancel-safe: once submitted, it is carried out.
    ///
    /// # Errors
    /// [`RoomError::Missing`] if events are not stored; [`RoomError::Forbidden`] if the state does not allow the join;
    /// [`RoomError::Invalid`] for a state that cannot be one.
    pub async fn enter(&self, room: RoomNid, join: CheckedPdu, state: Vec<EventId>) -> Result<(), RoomError> {
        self.intern_people([&join]).await?;
        self.submit_enter(room, join, state).await
    }
}

impl Append<'_> {
    pub(crate) fn enter(&mut self, join: &CheckedPdu, state: &[EventId]) -> Result<(), RoomError> {
        let join = join.pdu();
        let promoted = match self.find_known(join)? {
            Known::Placed => return Ok(()),
            Known::Outlier(outlier) => Some(outlier),
            Known::No => None,
        };
        let (entries, members) = self.read_state(state)?;
        let before = snapshot::build(&mut self.nodes, &entries);
        for kind in AT_HAND {
            match self.state_pdu(before, kind, "")? {
                Some(event) => self.head.remember_state(&event),
                None if kind == "m.room.create" => {
                    return Err(RoomError::Invalid("the state has no create event"));
                }
                None => self.head.forget_state(kind, ""),
            }
        }
        let (auth_events, missing) = self.cited_auth_events(join)?;
        if !missing.is_empty() {
            return Err(RoomError::Missing(missing));
        }
        if let Some(failure) = self.judge_by_auth_events(join, &auth_events)? {
            return Err(failure.into());
        }
        self.check_by_state(join, before)??;
        // Servers in the room have the join already from the one that took it in: their stay begins with it.
        let join_seq = self.head.row.next_seq;
        self.head.row.next_seq = join_seq.next();
        self.replace_members(&members)?;
        self.head.row.next_seq = join_seq;
        let sender = self.rooms.user_nid(&join.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        let flags = EventFlags::default();
        let placed = self
            .place_event(join, Placing { part: Part::Timeline, sender, before, flags, transaction: None, promoted })?;
        self.head.row.state = placed.after;
        self.head.row.extremities = vec![(join.event_id.as_str().into(), placed.seq)];
        self.head.row.depth = self.head.row.depth.max(bounded_depth(join));
        self.move_backward_extremities(join)?;
        if let Some((user, membership)) = self.read_member(join)? {
            self.add_membership(user, membership, placed.seq)?;
        }
        Ok(())
    }

    /// The slots of a state, sorted, and its members.
    #[allow(clippy::type_complexity, reason = "two lists that are made in one pass over many rows")]
    fn read_state(
        &mut self,
        state: &[EventId],
    ) -> Result<(Vec<(u32, RoomSeq)>, BTreeMap<UserNid, (Membership, RoomSeq)>), RoomError> {
        let (mut entries, mut members, mut missing) = (Vec::with_capacity(state.len()), BTreeMap::new(), Vec::new());
        for id in state {
            let Some(seq) = self.place_of(id.as_str())? else {
                missing.push(id.clone());
                continue;
            };
            let event = self.rooms.event_at(self.head.room, seq)?;
            if event.flags().has(EventFlags::REJECTED) {
                continue;
            }
            let state_key = event.state_key().ok_or(RoomError::Invalid("an event of the state is no state event"))?;
            entries.push((self.intern_slot(event.kind(), state_key)?, seq));
            if event.kind() == "m.room.member"
                && let Ok(user) = spec::ids::UserId::parse(state_key)
                && let (Some(user), Some(membership)) = (self.rooms.user_nid(&user)?, membership_of(&event))
            {
                members.insert(user, (membership, seq));
            }
        }
        if !missing.is_empty() {
            return Err(RoomError::Missing(missing));
        }
        entries.sort_unstable();
        if entries.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
            return Err(RoomError::Invalid("the state has two events of one type and state key"));
        }
        Ok((entries, members))
    }

    /// The memberships of the state instead of those that were known, in batches that are written first.
    fn replace_members(&mut self, members: &BTreeMap<UserNid, (Membership, RoomSeq)>) -> Result<(), RoomError> {
        let room = self.head.room;
        let mut gone = Vec::new();
        for row in self.rooms.store.scan(&ROOM_MEMBERS, &room).iter() {
            let ((_, user), _) = row?;
            if !members.contains_key(&user) {
                gone.push(user);
            }
        }
        for user in gone {
            self.take_out_membership(user)?;
        }
        for (user, (membership, seq)) in members {
            if self.member_row(*user)?.is_some_and(|row| row.membership == *membership && row.seq == *seq) {
                continue;
            }
            self.add_membership(*user, *membership, *seq)?;
            if self.batch.size() > MEMBERS_BYTES {
                self.before.push(std::mem::take(&mut self.batch));
            }
        }
        // Counted anew: of an attempt that was cut off the rows may be here, and the head is not.
        let count = |wanted| members.values().filter(|(membership, _)| *membership == wanted).count();
        self.head.row.joined = u32::try_from(count(Membership::Join)).unwrap_or(u32::MAX);
        self.head.row.invited = u32::try_from(count(Membership::Invite)).unwrap_or(u32::MAX);
        Ok(())
    }
}
