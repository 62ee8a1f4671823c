//! Entering a room of other servers: its state, stored as outliers before, becomes the current one, and the join that
//! another server accepted the end of its timeline.

use std::collections::{BTreeMap, BTreeSet};

use spec::ids::EventId;
use storage::Read;

use crate::append::Append;
use crate::checked::CheckedPdu;
use crate::error::RoomError;
use crate::event::{EventFlags, bounded_depth};
use crate::head::AT_HAND;
use crate::ids::{RoomNid, RoomSeq, UserNid};
use crate::keyspaces::{MembershipRow, ROOM_MEMBERS, SERVER_MEMBERS};
use crate::membership::Membership;
use crate::partial::PartialRow;
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

/// Which memberships stay although the state that replaces the others says nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// None: the state is whole.
    Nothing,
    /// Those of users of this server who are not joined: unknown is not gone.
    Local,
    /// Those that stand for a membership from outside of the room ([`crate::invites`]).
    Outside,
}

/// The members that a state names, with their member events.
pub(crate) type Members = BTreeMap<UserNid, (Membership, RoomSeq)>;

impl Append<'_> {
    pub(crate) fn enter(&mut self, join: &CheckedPdu, state: &[EventId]) -> Result<(), RoomError> {
        let was_partial = self.head.is_partial();
        if self.enter_by(join, state, Keep::Nothing, None)? && was_partial {
            self.replace_named_servers(&[])?;
        }
        Ok(())
    }

    /// Enters the room, as a partial one if there is a row for that. Says whether there was anything to do.
    pub(crate) fn enter_by(
        &mut self,
        join: &CheckedPdu,
        state: &[EventId],
        keep: Keep,
        partial: Option<PartialRow>,
    ) -> Result<bool, RoomError> {
        let join = join.pdu();
        let promoted = match self.find_known(join)? {
            Known::Placed => return Ok(false),
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
        // Members that were left out are who the join says they are, its inviter's invite above all.
        let lenient = partial.is_some().then_some(&*auth_events);
        self.check_by_state(join, before, lenient)??;
        // Servers in the room have the join already from the one that took it in: their stay begins with it.
        let join_seq = self.head.row.next_seq;
        self.head.row.next_seq = join_seq.next();
        self.replace_members(&members, keep, &BTreeSet::new())?;
        self.head.row.next_seq = join_seq;
        if partial.is_some() || self.head.partial.is_some() {
            self.set_partial(partial);
        }
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
        Ok(true)
    }

    /// The slots of a state, sorted, and its members.
    fn read_state(&mut self, state: &[EventId]) -> Result<(Vec<(u32, RoomSeq)>, Members), RoomError> {
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

    /// The memberships of the state instead of those that were known, in batches that are written first; of the users
    /// in `later` nothing is changed, and only the counts are theirs too.
    pub(crate) fn replace_members(
        &mut self,
        members: &Members,
        keep: Keep,
        later: &BTreeSet<UserNid>,
    ) -> Result<(), RoomError> {
        let room = self.head.room;
        let kept = self.kept_members(members, keep)?;
        let mut gone = Vec::new();
        for row in self.rooms.store.scan(&ROOM_MEMBERS, &room).iter() {
            let ((_, user), _) = row?;
            if !members.contains_key(&user) && !kept.contains_key(&user) && !later.contains(&user) {
                gone.push(user);
            }
        }
        for user in gone {
            self.take_out_membership(user)?;
            self.split_members();
        }
        for (user, (membership, seq)) in members {
            let is_same = |row: MembershipRow| row.membership == *membership && row.seq == *seq;
            let stays = later.contains(user) || kept.contains_key(user);
            if !stays && !self.member_row(*user)?.is_some_and(is_same) {
                self.add_membership(*user, *membership, *seq)?;
                self.split_members();
            }
        }
        // Counted anew: of an attempt that was cut off the rows may be here, and the head is not.
        let of_state =
            members.iter().filter(|(user, _)| !kept.contains_key(user)).map(|(_, (membership, _))| membership);
        let all: Vec<Membership> = of_state.chain(kept.values()).copied().collect();
        let count = |wanted| u32::try_from(all.iter().filter(|is| **is == wanted).count()).unwrap_or(u32::MAX);
        (self.head.row.joined, self.head.row.invited) = (count(Membership::Join), count(Membership::Invite));
        Ok(())
    }

    fn split_members(&mut self) {
        if self.batch.size() > MEMBERS_BYTES {
            self.before.push(std::mem::take(&mut self.batch));
        }
    }

    /// The users of this server whose membership stays.
    fn kept_members(&self, members: &Members, keep: Keep) -> Result<BTreeMap<UserNid, Membership>, RoomError> {
        let mut kept = BTreeMap::new();
        if keep == Keep::Nothing {
            return Ok(kept);
        }
        let (room, us) = (self.head.room, self.rooms.server_name().as_str().to_owned());
        let is_resident = self.rooms.is_resident(room)?;
        for key in self.rooms.store.scan(&SERVER_MEMBERS, &(room, us)).keys() {
            let (_, _, user) = key?;
            let Some(row) = self.member_row(user)? else { continue };
            let is_told = members.contains_key(&user);
            let stays = match keep {
                Keep::Nothing => false,
                Keep::Local => !is_told && row.membership != Membership::Join,
                Keep::Outside => (!is_told || !is_resident) && self.is_outside(row.seq)?,
            };
            if stays {
                kept.insert(user, row.membership);
            }
        }
        Ok(kept)
    }

    /// Whether a member event is one that nothing here could judge ([`crate::invites`]).
    fn is_outside(&self, seq: RoomSeq) -> Result<bool, RoomError> {
        if seq < RoomSeq::FIRST_OUTLIER {
            return Ok(false);
        }
        let event = self.rooms.event_at(self.head.room, seq)?;
        Ok(self.rooms.find_event(event.event_id())?.is_none_or(|place| place.seq != seq))
    }
}
