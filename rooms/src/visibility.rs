//! Which events a user may see (Client-Server API §Room history visibility).

use std::sync::Arc;

use crate::error::RoomError;
use crate::event::Event;
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq, SnapshotId};
use crate::membership::{Membership, UserRoom};
use crate::rooms::Rooms;
use crate::timeline::Cursor;

/// `m.room.history_visibility`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HistoryVisibility {
    Joined,
    Invited,
    Shared,
    WorldReadable,
}

impl HistoryVisibility {
    /// Reads an `m.room.history_visibility` event; a room without one, or with nonsense in it, is `shared`.
    pub fn of(event: Option<&Event>) -> HistoryVisibility {
        #[derive(serde::Deserialize)]
        struct Content<'a> {
            history_visibility: &'a str,
        }
        match event.and_then(|event| event.content_as::<Content<'_>>()).map(|content| content.history_visibility) {
            Some("joined") => HistoryVisibility::Joined,
            Some("invited") => HistoryVisibility::Invited,
            Some("world_readable") => HistoryVisibility::WorldReadable,
            _ => HistoryVisibility::Shared,
        }
    }
}

/// What a viewer was, and the room allowed, at one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub visibility: HistoryVisibility,
    pub membership: Option<Membership>,
}

/// One viewer's eye on one room. Remembers its last answers: neighbouring events mostly share their state.
pub(crate) struct Lens<'a> {
    rooms: &'a Rooms,
    room: RoomNid,
    user_id: String,
    joined: bool,
    sees_all: bool,
    left_at: Option<RoomSeq>,
    /// The depth of the event at which they left, once it was asked for.
    left_depth: Option<i64>,
    memo: Option<(SnapshotId, Seen)>,
    /// The room's head, once it was asked for.
    head: Option<Arc<Head>>,
}

impl<'a> Lens<'a> {
    pub fn new(rooms: &'a Rooms, room: RoomNid, user_id: &str, row: Option<UserRoom>, sees_all: bool) -> Lens<'a> {
        let joined = row.is_some_and(|row| row.membership == Membership::Join);
        let left_at = row.and_then(|row| row.left_at);
        Lens {
            rooms,
            room,
            user_id: user_id.to_owned(),
            joined,
            sees_all,
            left_at,
            left_depth: None,
            memo: None,
            head: None,
        }
    }

    /// What held at a snapshot.
    pub fn seen_at(&mut self, snapshot: SnapshotId) -> Result<Seen, RoomError> {
        if let Some((known, seen)) = self.memo
            && known == snapshot
        {
            return Ok(seen);
        }
        let visibility = self.rooms.state_event(self.room, snapshot, "m.room.history_visibility", "")?;
        let member = self.rooms.state_event(self.room, snapshot, "m.room.member", &self.user_id)?;
        let seen = Seen {
            visibility: HistoryVisibility::of(visibility.as_ref()),
            membership: member.as_ref().and_then(membership_of),
        };
        self.memo = Some((snapshot, seen));
        Ok(seen)
    }

    /// Whether the viewer may see the event.
    pub fn can_see(&mut self, event: &Event) -> Result<bool, RoomError> {
        if !event.flags().is_visible() || self.is_purged(event)? {
            return Ok(false);
        }
        if self.sees_all {
            return Ok(true);
        }
        let mut seen = self.seen_at(event.state_before())?;
        match event.kind() {
            "m.room.history_visibility" if event.state_key() == Some("") => {
                seen.visibility = seen.visibility.max(HistoryVisibility::of(Some(event)));
            }
            // One's own membership is never hidden from one.
            "m.room.member" if event.state_key() == Some(&self.user_id) => return Ok(true),
            _ => {}
        }
        self.allows(seen, event)
    }

    /// Whether the event was purged, or is about to be: it goes with the states around it, or has expired.
    fn is_purged(&mut self, event: &Event) -> Result<bool, RoomError> {
        let head = match &self.head {
            Some(head) => head,
            None => &*self.head.insert(self.rooms.head(self.room)?),
        };
        let is_before = head.history_begins().is_some_and(|begins| Cursor::after(event) <= begins);
        Ok(is_before || self.rooms.is_expired(head, event))
    }

    fn allows(&mut self, seen: Seen, event: &Event) -> Result<bool, RoomError> {
        if seen.membership == Some(Membership::Join) {
            return Ok(true);
        }
        Ok(match seen.visibility {
            HistoryVisibility::WorldReadable => true,
            HistoryVisibility::Shared => self.joined || self.left_after(event)?,
            HistoryVisibility::Invited => seen.membership == Some(Membership::Invite),
            HistoryVisibility::Joined => false,
        })
    }

    /// Whether a former member left after the event. History that was fetched later may be of the time before they came
    /// or after they left: its numbers do not tell, so its depth has to.
    fn left_after(&mut self, event: &Event) -> Result<bool, RoomError> {
        let Some(left_at) = self.left_at else { return Ok(false) };
        if event.seq() >= RoomSeq::FIRST {
            return Ok(left_at > event.seq());
        }
        let depth = match self.left_depth {
            Some(depth) => depth,
            None => *self.left_depth.insert(self.rooms.event_at(self.room, left_at)?.depth()),
        };
        Ok(event.depth() < depth)
    }
}

/// The membership that a member event sets.
pub(crate) fn membership_of(event: &Event) -> Option<Membership> {
    #[derive(serde::Deserialize)]
    struct Content<'a> {
        membership: &'a str,
    }
    Membership::parse(event.content_as::<Content<'_>>()?.membership)
}
