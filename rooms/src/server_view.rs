//! A room as another server may see it: the capability that every read for another server starts from.
//!
//! What a server may not see but needs, because the room's graph would have a hole without it, is given
//! to it redacted ([`ServerView::pdu_json`]). Rejected events are given to nobody.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use spec::ids::{EventId, RoomId, ServerName};

use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq};
use crate::rooms::Rooms;
use crate::visibility::HistoryVisibility;

mod auth_chain;
mod history;
mod lens;
mod state;

use lens::ServerLens;
pub use state::JoinState;

/// One room, bound to one other server and to what it may see of it.
pub struct ServerView {
    rooms: Rooms,
    room: RoomNid,
    server: ServerName,
    head: Arc<Head>,
    joined: bool,
    lens: Mutex<ServerLens>,
}

impl Rooms {
    /// A room as the server may see it: servers with a joined user, and every server if the room is
    /// world-readable now. What only servers in the room may ask for asks [`ServerView::is_joined`].
    ///
    /// # Errors
    /// [`RoomError::RoomNotFound`]; [`RoomError::NotInRoom`] for servers that are not in the room.
    pub fn as_server(&self, room: &RoomId, server: &ServerName) -> Result<ServerView, RoomError> {
        let room = self.known_room(room)?;
        let head = self.head(room)?;
        let joined = self.is_server_joined(room, server)?;
        if !joined {
            let event = self.state_event(room, head.state(), "m.room.history_visibility", "")?;
            if HistoryVisibility::of(event.as_ref()) != HistoryVisibility::WorldReadable {
                return Err(RoomError::NotInRoom);
            }
        }
        let lens = Mutex::new(ServerLens::default());
        Ok(ServerView { rooms: self.clone(), room, server: server.clone(), head, joined, lens })
    }
}

impl ServerView {
    /// The room's number.
    #[must_use]
    pub fn room(&self) -> RoomNid {
        self.room
    }

    /// The server it is shown to.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// The room's head.
    #[must_use]
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// Whether a user of the server is joined now.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// An event by its id: one that the server may see, or, to a server in the room, a state event, which others are
    /// authorised by, or one of the timeline, which others follow: who is given a state without its members asks for the
    /// state after those. Write it with [`ServerView::pdu_json`], which redacts what the server may not see.
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] if there is none, or the server may not have it.
    pub fn event(&self, id: &EventId) -> Result<Event, RoomError> {
        let event = self.find(id.as_str())?.ok_or(RoomError::EventNotFound)?;
        let is_needed = self.joined && is_served(&event) && (event.state_key().is_some() || is_in_timeline(&event));
        if is_needed || self.may_see(&event)? { Ok(event) } else { Err(RoomError::EventNotFound) }
    }

    /// Whether the server may see the event: its own users' events and memberships always, others by
    /// the history visibility at the event, and messages only until they expire. Soft-failed events count as others, rejected ones are
    /// seen by nobody; of outliers, whose place in the room is not known, state alone is.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn may_see(&self, event: &Event) -> Result<bool, RoomError> {
        if !is_served(event) || event.room() != self.room {
            return Ok(false);
        }
        self.lens.lock().can_see(self, event)
    }

    /// The event in the federation format, redacted if the server may not see it and was not given it with a state.
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] for a rejected event; otherwise storage errors only.
    pub fn pdu_json(&self, event: &Event) -> Result<Box<RawValue>, RoomError> {
        if !is_served(event) {
            return Err(RoomError::EventNotFound);
        }
        let json = if self.may_see(event)? || self.is_given_with_state(event)? {
            event.json().to_owned()
        } else {
            let object = serde_json::from_str(event.json())
                .map_err(|_| RoomError::Inconsistent("a stored event is no object"))?;
            let redacted = spec::redact::redact_event(&object, self.head.rules());
            String::from_utf8(spec::canonical::write(&redacted))
                .map_err(|_| RoomError::Inconsistent("a redacted event is no text"))?
        };
        RawValue::from_string(json).map_err(|_| RoomError::Inconsistent("a stored event is no JSON"))
    }

    /// Whether a server in the room has the event from its answer to the join, or could have it from `/state`: who left
    /// members out of that answer asks for them one by one, and would lose their names.
    fn is_given_with_state(&self, event: &Event) -> Result<bool, RoomError> {
        let Some(state_key) = event.state_key().filter(|_| self.joined) else { return Ok(false) };
        let stays = self.rooms.room_servers(self.room)?;
        let join = match stays.get(&self.server) {
            Some(stay) => self.rooms.find_event_at(self.room, stay.since)?,
            None => None,
        };
        for state in [Some(self.head.state()), join.map(|join| join.state_before())].into_iter().flatten() {
            let named = self.rooms.state_event(self.room, state, event.kind(), state_key)?;
            if named.is_some_and(|named| named.event_id() == event.event_id()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An event of this room, whoever may see it.
    fn find(&self, id: &str) -> Result<Option<Event>, RoomError> {
        match self.rooms.find_event(id)?.filter(|place| place.room == self.room) {
            Some(place) => self.rooms.event_at(self.room, place.seq).map(Some),
            None => Ok(None),
        }
    }

    /// An event of the timeline that may be served to this server, if only redacted.
    fn find_in_timeline(&self, id: &EventId) -> Result<Event, RoomError> {
        let event = self.find(id.as_str())?.filter(|event| is_in_timeline(event) && is_served(event));
        let event = event.ok_or(RoomError::EventNotFound)?;
        if self.joined || self.may_see(&event)? { Ok(event) } else { Err(RoomError::EventNotFound) }
    }
}

/// Whether an event is given to other servers at all.
fn is_served(event: &Event) -> bool {
    !event.flags().has(EventFlags::REJECTED)
}

fn is_in_timeline(event: &Event) -> bool {
    event.seq() < RoomSeq::FIRST_OUTLIER && !event.flags().has(EventFlags::OUTLIER)
}

/// The ids in `auth_events` or `prev_events` of a stored event.
pub(crate) fn cited_ids(event: &Event, key: Citation) -> Result<Vec<String>, RoomError> {
    #[derive(serde::Deserialize)]
    struct Auth<'a> {
        #[serde(borrow, default)]
        auth_events: Vec<&'a RawValue>,
    }
    #[derive(serde::Deserialize)]
    struct Prev<'a> {
        #[serde(borrow, default)]
        prev_events: Vec<&'a RawValue>,
    }
    let damaged = |_| RoomError::Inconsistent("a stored event cites what are no events");
    let found = match key {
        Citation::Auth => serde_json::from_str::<Auth<'_>>(event.json()).map_err(damaged)?.auth_events,
        Citation::Prev => serde_json::from_str::<Prev<'_>>(event.json()).map_err(damaged)?.prev_events,
    };
    let ids = found.into_iter().map(|reference| match reference.get() {
        // Room versions 1 and 2: the id, then its hashes.
        pair if pair.starts_with('[') => {
            let pair: Vec<&RawValue> = serde_json::from_str(pair)?;
            serde_json::from_str(pair.first().map_or("null", |id| id.get()))
        }
        id => serde_json::from_str(id),
    });
    ids.collect::<Result<_, _>>().map_err(damaged)
}

/// Which events an event cites.
#[derive(Clone, Copy)]
pub(crate) enum Citation {
    Auth,
    Prev,
}

fn event_id(event: &Event) -> Result<EventId, RoomError> {
    EventId::parse(event.event_id()).map_err(|_| RoomError::Inconsistent("malformed event id"))
}
