//! `required_state`: what is wanted of a room's state, or of what changed of it.

use std::collections::BTreeSet;

use rooms::{Event, RoomSeq, SnapshotId, UserNid};
use spec::ids::UserId;

use super::super::Look;
use super::super::request::RequiredState;
use super::{Occasion, Touched};
use crate::error::SyncError;
use crate::timeline::{Room, Timeline};

const MEMBER: &str = "m.room.member";

impl Look<'_> {
    pub(super) fn read_required_state(
        &self,
        room: &Room<'_>,
        timeline: &Timeline,
        occasion: &Occasion,
    ) -> Result<(Vec<Event>, Touched), SyncError> {
        let (nid, me) = (room.view.room(), self.caller.user_id.as_str());
        let mut events = Vec::new();
        let mut touched = Touched { members: occasion.resynced, ..Touched::default() };
        let lazy = occasion.state.iter().any(|state| state.lazy_members);
        if let Some(up_to) = occasion.up_to {
            for seq in room.rooms.state_changes(nid, up_to, room.until)? {
                let event = room.rooms.event_at(nid, seq)?;
                let (kind, key) = (event.kind(), event.state_key().unwrap_or_default());
                touched.members |= kind == MEMBER;
                touched.name |= kind == "m.room.name";
                touched.avatar |= kind == "m.room.avatar";
                // A client that has no gap keeps its list of members with this.
                let keeps_members = lazy && kind == MEMBER && !timeline.limited;
                if keeps_members || occasion.state.iter().any(|state| state.matches(kind, key, me)) {
                    events.push(event);
                }
            }
        }
        if occasion.all_state {
            events = self.read_matching_state(room, timeline.snapshot, &occasion.state)?;
        }
        if lazy {
            self.add_seen_members(room, timeline, occasion.initial, &mut events)?;
        }
        Ok((events, touched))
    }

    /// The events of a snapshot that match one of the wishes.
    fn read_matching_state(
        &self,
        room: &Room<'_>,
        snapshot: SnapshotId,
        wishes: &[RequiredState],
    ) -> Result<Vec<Event>, SyncError> {
        let (rooms, nid, me) = (room.rooms, room.view.room(), self.caller.user_id.as_str());
        let states = &self.sync.plain_states;
        let at_hand = states.read_if_cheap(rooms, nid, snapshot)?;
        let mut seqs: BTreeSet<RoomSeq> = BTreeSet::new();
        for (wish, element) in wishes.iter().flat_map(|wish| wish.include.iter().map(move |element| (wish, element))) {
            let key = element.key(me);
            let may_be_members = element.kind.as_deref().is_none_or(|kind| kind == MEMBER);
            match (&element.kind, key, &at_hand) {
                (Some(kind), Some(key), Some(state)) if kind != MEMBER => seqs.extend(state.find(kind, key)),
                (Some(kind), Some(key), _) => seqs.extend(rooms.state_seq(nid, snapshot, kind, key)?),
                _ if may_be_members && key.is_none() && !wish.lazy_members => {
                    seqs.extend(rooms.state_seqs(nid, snapshot)?);
                }
                _ => {
                    let state = match &at_hand {
                        Some(state) => state.clone(),
                        None => states.read(rooms, nid, snapshot)?,
                    };
                    let matching =
                        state.plain.iter().filter(|entry| element.matches(&entry.kind, &entry.state_key, me));
                    seqs.extend(matching.map(|entry| entry.seq));
                    if let Some(key) = key.filter(|_| may_be_members) {
                        seqs.extend(rooms.state_seq(nid, snapshot, MEMBER, key)?);
                    }
                }
            }
        }
        let mut events = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let event = rooms.event_at(nid, seq)?;
            let key = event.state_key().unwrap_or_default();
            if wishes.iter().any(|wish| wish.matches(event.kind(), key, me)) {
                events.push(event);
            }
        }
        Ok(events)
    }

    /// Adds the members that the timeline shows: who sent its events, and whom its member events are about.
    fn add_seen_members(
        &self,
        room: &Room<'_>,
        timeline: &Timeline,
        initial: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), SyncError> {
        let nid = room.view.room();
        let mut seen: Vec<UserNid> = Vec::new();
        for event in &timeline.events {
            seen.push(event.sender_nid());
            let target =
                event.state_key().filter(|_| event.kind() == MEMBER && event.state_key() != Some(event.sender()));
            if let Some(target) = target.and_then(|target| UserId::parse(target).ok()) {
                seen.extend(room.rooms.user_nid(&target)?);
            }
        }
        seen.sort_unstable();
        seen.dedup();
        let (to, since) = (self.connection.generation, self.since.unwrap_or_default());
        let mut sent = Vec::with_capacity(seen.len());
        for member in seen {
            let id = room.rooms.user_id(member)?;
            let Some(seq) = room.find_member(timeline, member, id.as_str())? else { continue };
            if self.sync.sent_members.has(to, nid, member, seq, since) {
                continue;
            }
            sent.push((member, seq));
            if !events.iter().any(|event| event.seq() == seq) {
                events.push(room.rooms.event_at(nid, seq)?);
            }
        }
        self.sync.sent_members.record(to, nid, &sent, self.until, initial);
        Ok(())
    }
}
