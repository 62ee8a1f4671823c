//! A room as one user may see it: the capability that all reads of events start from.

use std::sync::Arc;

use spec::ids::{EventId, RoomId, UserId};

use crate::error::RoomError;
use crate::event::Event;
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq, SnapshotId, UserNid};
use crate::membership::{Membership, UserRoom};
use crate::rooms::Rooms;
use crate::visibility::{HistoryVisibility, Lens};

/// One room, bound to one viewer and to what they may see of it.
pub struct RoomView {
    pub(crate) rooms: Rooms,
    pub(crate) room: RoomNid,
    pub(crate) viewer: UserNid,
    pub(crate) viewer_id: UserId,
    pub(crate) row: Option<UserRoom>,
    pub(crate) head: Arc<Head>,
    /// Whether nothing of the room is hidden from the viewer: whoever runs the server looks.
    pub(crate) sees_all: bool,
}

impl Rooms {
    /// A room as the user may see it: members, former members, and anyone if the room is world-readable.
    ///
    /// # Errors
    /// [`RoomError::NotInRoom`] for everybody else, whether or not the room exists.
    pub fn as_user(&self, room: &RoomId, viewer: UserNid) -> Result<RoomView, RoomError> {
        let room = self.room_nid(room)?.ok_or(RoomError::NotInRoom)?;
        let view = self.view(room, viewer)?;
        if view.row.is_some_and(|row| row.was_joined() && !row.forgotten) || view.is_world_readable()? {
            Ok(view)
        } else {
            Err(RoomError::NotInRoom)
        }
    }

    /// A room as the user may see it, however little that is: each event is still checked.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn view(&self, room: RoomNid, viewer: UserNid) -> Result<RoomView, RoomError> {
        let head = self.head(room)?;
        let row = self.membership(room, viewer)?;
        let viewer_id = self.user_id(viewer)?;
        Ok(RoomView { rooms: self.clone(), room, viewer, viewer_id, row, head, sees_all: false })
    }

    /// A room as whoever runs the server may see it: all of the timeline and the state, with no user's eyes.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn as_operator(&self, room: RoomNid) -> Result<RoomView, RoomError> {
        let head = self.head(room)?;
        let viewer_id = UserId::parse(format!("@operator:{}", self.server_name()))
            .map_err(|_| RoomError::Inconsistent("the server name makes no user ids"))?;
        // No user has this number.
        let viewer = UserNid(0);
        Ok(RoomView { rooms: self.clone(), room, viewer, viewer_id, row: None, head, sees_all: true })
    }
}

impl RoomView {
    /// The room's number.
    #[must_use]
    pub fn room(&self) -> RoomNid {
        self.room
    }

    /// The viewer's number.
    #[must_use]
    pub fn viewer(&self) -> UserNid {
        self.viewer
    }

    /// The room's head. Its present state is for members: see [`RoomView::state`].
    #[must_use]
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// The viewer's membership.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.row.map(|row| row.membership)
    }

    /// Whether the viewer is joined.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.membership() == Some(Membership::Join)
    }

    /// Whether an event has outlived what messages of the room are kept for: then nobody sees it any more.
    #[must_use]
    pub fn is_expired(&self, event: &Event) -> bool {
        self.rooms.is_expired(&self.head, event)
    }

    /// Whether the room shows its history to everybody now.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_world_readable(&self) -> Result<bool, RoomError> {
        let event = self.rooms.state_event(self.room, self.head.state(), "m.room.history_visibility", "")?;
        Ok(HistoryVisibility::of(event.as_ref()) == HistoryVisibility::WorldReadable)
    }

    pub(crate) fn lens(&self) -> Lens<'_> {
        Lens::new(&self.rooms, self.room, self.viewer_id.as_str(), self.row, self.sees_all)
    }

    /// The newest state the viewer may see: the present for members and in world-readable rooms, the
    /// state at their leaving for former members.
    ///
    /// # Errors
    /// [`RoomError::NotInRoom`] for those who were never in.
    pub fn state(&self) -> Result<SnapshotId, RoomError> {
        if self.is_joined() || self.sees_all || self.is_world_readable()? {
            return Ok(self.head.state());
        }
        let left_at = self.row.and_then(|row| row.left_at).ok_or(RoomError::NotInRoom)?;
        Ok(self.rooms.event_at(self.room, left_at)?.state_after())
    }

    /// The last event the viewer may see by membership: none for members, the leave event for former members.
    #[must_use]
    pub fn ends_at(&self) -> Option<RoomSeq> {
        if self.is_joined() { None } else { self.row.and_then(|row| row.left_at) }
    }

    /// An event of the room by its id.
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] if there is none, or the viewer may not see it.
    pub fn event(&self, id: &EventId) -> Result<Event, RoomError> {
        let place = self.rooms.find_event(id.as_str())?.filter(|place| place.room == self.room);
        let event = self.rooms.event_at(self.room, place.ok_or(RoomError::EventNotFound)?.seq)?;
        let is_visible = self.lens().can_see(&event)? || self.sees_as_sticky(&event)?;
        if is_visible { Ok(event) } else { Err(RoomError::EventNotFound) }
    }

    /// An event of the state the viewer may see.
    ///
    /// # Errors
    /// [`RoomError::StateNotFound`] if there is none.
    pub fn state_event(&self, kind: &str, state_key: &str) -> Result<Event, RoomError> {
        self.rooms.state_event(self.room, self.state()?, kind, state_key)?.ok_or(RoomError::StateNotFound)
    }

    /// The whole state the viewer may see.
    ///
    /// # Errors
    /// As [`RoomView::state`].
    pub fn state_events(&self) -> Result<Vec<Event>, RoomError> {
        self.state_events_at(self.state()?)
    }

    /// The events of a snapshot of this room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn state_events_at(&self, snapshot: SnapshotId) -> Result<Vec<Event>, RoomError> {
        let seqs = self.rooms.state_seqs(self.room, snapshot)?;
        seqs.into_iter().map(|seq| self.rooms.event_at(self.room, seq)).collect()
    }

    /// The events among `events` that the viewer may see.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn visible(&self, events: Vec<Event>) -> Result<Vec<Event>, RoomError> {
        let mut lens = self.lens();
        let mut visible = Vec::with_capacity(events.len());
        for event in events {
            if lens.can_see(&event)? {
                visible.push(event);
            }
        }
        Ok(visible)
    }
}
