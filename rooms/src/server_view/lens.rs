//! Which events a server may see.

use std::collections::HashMap;

use storage::Read;

use super::{ServerView, is_in_timeline};
use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomSeq, SnapshotId};
use crate::keyspaces::SERVER_MEMBERS;
use crate::membership::Membership;
use crate::snapshot::{self, NewNodes};
use crate::visibility::{HistoryVisibility, membership_of};

/// What a server had in a room at one snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Presence {
    Nobody,
    Invited,
    Joined,
}

/// One server's eye on one room. Remembers what it has looked up: neighbouring events mostly share
/// their state. It lives as long as one request.
#[derive(Default)]
pub(super) struct ServerLens {
    visibilities: HashMap<SnapshotId, HistoryVisibility>,
    presences: HashMap<SnapshotId, Presence>,
    /// The slots of the member events of the server's users; the one that answered last is first.
    slots: Option<Vec<u32>>,
    memberships: HashMap<RoomSeq, Option<Membership>>,
}

impl ServerLens {
    /// Whether the server may see an event that is not rejected.
    pub fn can_see(&mut self, view: &ServerView, event: &Event) -> Result<bool, RoomError> {
        if view.rooms.is_expired(&view.head, event) {
            return Ok(false);
        }
        let server = view.server.as_str();
        let is_theirs = |user: &str| user.split_once(':').is_some_and(|(_, of)| of == server);
        let their_member = event.kind() == "m.room.member" && event.state_key().is_some_and(is_theirs);
        if is_theirs(event.sender()) || their_member {
            return Ok(true);
        }
        if !is_in_timeline(event) {
            // No state before it is known. State was given to the server when it came into the room.
            return Ok(view.joined && event.state_key().is_some());
        }
        let before = event.state_before();
        let mut visibility = self.visibility(view, before)?;
        if event.kind() == "m.room.history_visibility" && event.state_key() == Some("") {
            visibility = visibility.max(HistoryVisibility::of(Some(event)));
        }
        Ok(match visibility {
            HistoryVisibility::WorldReadable => true,
            HistoryVisibility::Shared => view.joined || self.presence(view, before)? == Presence::Joined,
            HistoryVisibility::Invited => self.presence(view, before)? >= Presence::Invited,
            HistoryVisibility::Joined => self.presence(view, before)? == Presence::Joined,
        })
    }

    fn visibility(&mut self, view: &ServerView, at: SnapshotId) -> Result<HistoryVisibility, RoomError> {
        if let Some(known) = self.visibilities.get(&at) {
            return Ok(*known);
        }
        let event = view.rooms.state_event(view.room, at, "m.room.history_visibility", "")?;
        let visibility = HistoryVisibility::of(event.as_ref());
        self.visibilities.insert(at, visibility);
        Ok(visibility)
    }

    /// The most that any user of the server was.
    fn presence(&mut self, view: &ServerView, at: SnapshotId) -> Result<Presence, RoomError> {
        if let Some(known) = self.presences.get(&at) {
            return Ok(*known);
        }
        let mut slots = match self.slots.take() {
            Some(slots) => slots,
            None => find_slots(view)?,
        };
        let (nodes, new) = (view.rooms.nodes(view.room), NewNodes::default());
        let mut most = (Presence::Nobody, 0);
        for (index, slot) in slots.iter().enumerate() {
            let Some(seq) = snapshot::get(&nodes, &new, at, *slot)? else { continue };
            let presence = match self.membership(view, seq)? {
                Some(Membership::Join) => Presence::Joined,
                Some(Membership::Invite) => Presence::Invited,
                _ => Presence::Nobody,
            };
            if presence > most.0 {
                most = (presence, index);
            }
            if presence == Presence::Joined {
                slots.swap(0, most.1);
                break;
            }
        }
        self.slots = Some(slots);
        self.presences.insert(at, most.0);
        Ok(most.0)
    }

    fn membership(&mut self, view: &ServerView, seq: RoomSeq) -> Result<Option<Membership>, RoomError> {
        if let Some(known) = self.memberships.get(&seq) {
            return Ok(*known);
        }
        let membership = membership_of(&view.rooms.event_at(view.room, seq)?);
        self.memberships.insert(seq, membership);
        Ok(membership)
    }
}

fn find_slots(view: &ServerView) -> Result<Vec<u32>, RoomError> {
    let mut slots = Vec::new();
    for key in view.rooms.store.scan(&SERVER_MEMBERS, &(view.room, view.server.as_str().to_owned())).keys() {
        let user = view.rooms.user_id(key?.2)?;
        slots.extend(view.rooms.state_slot(view.room, "m.room.member", user.as_str())?);
    }
    Ok(slots)
}
