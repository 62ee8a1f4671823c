//! The events that a user was, or would have been, notified of.
//!
//! Spec: Client-Server API §"Listing notifications". Nothing is stored for it (ADR 0014): the timelines of the user's
//! rooms are read from the newest event back, and judged by the push rules of now.

use std::{collections::HashMap, fmt, str::FromStr};

use rooms::{Event, EventFlags, Membership, RoomNid, UserNid};
use spec::{ids::EventId, push::Action};

use crate::{
    UserError, Users,
    notices::{NoticeRoom, notice_of},
    unread::ReadMarks,
};

/// How many events one page looks at before it answers with what it found.
const MAX_LOOKED_AT: usize = 2_000;

/// An event that notified.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The event.
    pub event: Event,
    /// All actions of the rule that matched.
    pub actions: Vec<Action>,
    /// Whether a receipt of the user covers the event.
    pub read: bool,
}

/// A part of the list, newest first.
#[derive(Clone, Debug)]
pub struct NotificationPage {
    /// What was found.
    pub notifications: Vec<Notification>,
    /// Where the next page begins; `None` if there is nothing beyond.
    pub next: Option<NotificationPlace>,
}

/// A place in the list: after this event. As text it is opaque to clients, and versioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationPlace(EventId);

impl fmt::Display for NotificationPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n1_{}", self.0.as_str())
    }
}

impl FromStr for NotificationPlace {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let id = text.strip_prefix("n1_").and_then(|id| EventId::parse(id).ok());
        id.map(NotificationPlace).ok_or(UserError::InvalidParam("malformed pagination token"))
    }
}

/// What is read once for each room of a page.
struct ListedRoom {
    notices: NoticeRoom,
    marks: ReadMarks,
}

impl Users {
    /// A page of at most `limit` events that notify the user, in the rooms that they are joined to. It may come short,
    /// even empty, and still have a next one: no more than 2,000 events are looked at for one page.
    ///
    /// # Errors
    /// `InvalidParam` for a place in no room of the user's.
    pub fn notifications(
        &self,
        user: UserNid,
        from: Option<&NotificationPlace>,
        limit: usize,
        only_highlights: bool,
    ) -> Result<NotificationPage, UserError> {
        let (rooms, reader) = (self.rooms(), self.notice_reader(user)?);
        let joined = rooms.joined_rooms(user)?;
        let recent = rooms.recent_events(&joined, from.map(|place| &place.0));
        let mut recent = recent.map_err(|error| match error {
            rooms::RoomError::EventNotFound => UserError::InvalidParam("a pagination token of no room of yours"),
            other => other.into(),
        })?;
        let mut listed: HashMap<RoomNid, ListedRoom> = HashMap::new();
        let (mut notifications, mut looked_at) = (Vec::new(), 0usize);
        while let Some(event) = recent.next().transpose()? {
            let room = match listed.entry(event.room()) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => entry.insert(self.list_room(event.room(), user)?),
            };
            let outcome = room.notices.event(&event).map(|prepared| prepared.outcome(&reader)).transpose()?;
            let notice = outcome.as_ref().and_then(notice_of).filter(|notice| notice.highlight || !only_highlights);
            looked_at += 1;
            let id = EventId::parse(event.event_id());
            if let Some(notice) = notice
                && self.reached(&event, user)?
            {
                let read = room.marks.covers(&event);
                notifications.push(Notification { event, actions: notice.actions, read });
            }
            if notifications.len() >= limit || looked_at >= MAX_LOOKED_AT {
                let id = id.map_err(|_| UserError::Inconsistent("a stored event id is malformed"))?;
                return Ok(NotificationPage { notifications, next: Some(NotificationPlace(id)) });
            }
        }
        Ok(NotificationPage { notifications, next: None })
    }

    fn list_room(&self, room: RoomNid, user: UserNid) -> Result<ListedRoom, UserError> {
        Ok(ListedRoom { notices: self.room_for_notices(room)?, marks: self.read_marks(room, user)? })
    }

    /// Whether a notification of the event is due no more: the user has read it, is no longer in the room, or was
    /// invited no longer; or the event was redacted. `event` as it is stored now.
    pub fn is_settled(&self, event: &Event, user: UserNid) -> Result<bool, UserError> {
        if event.flags().has(EventFlags::REDACTED) {
            return Ok(true);
        }
        let row = self.rooms().membership(event.room(), user)?;
        match row.map(|row| row.membership) {
            Some(Membership::Join) => Ok(self.read_marks(event.room(), user)?.covers(event)),
            Some(Membership::Invite) => Ok(row.is_some_and(|row| row.seq != event.seq())),
            _ => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests;
