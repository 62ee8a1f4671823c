//! Walks along `auth_events`.

use std::collections::{HashMap, HashSet};

use spec::ids::EventId;

use super::{Citation, ServerView, cited_ids, is_served};
use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq};
use crate::rooms::Rooms;

/// How many ids are remembered with their numbers: most events cite the same few.
const REMEMBERED_IDS: usize = 4096;

/// The events that authorise others, and those that authorise them, each once. Takes eight bytes for
/// each event it has met, and holds one event at a time.
pub(crate) struct AuthWalk {
    rooms: Rooms,
    room: RoomNid,
    met: HashSet<RoomSeq>,
    waiting: Vec<RoomSeq>,
    ids: HashMap<String, RoomSeq>,
}

impl AuthWalk {
    pub fn new(rooms: &Rooms, room: RoomNid) -> AuthWalk {
        let (rooms, waiting, ids) = (rooms.clone(), Vec::new(), HashMap::new());
        AuthWalk { rooms, room, met: HashSet::new(), waiting, ids }
    }

    /// An event that the walk does not return, should it meet it; what that cites it then does not know.
    pub fn leave_out(&mut self, seq: RoomSeq) {
        self.met.insert(seq);
    }

    /// Adds what the event cites to what the walk returns.
    pub fn cite(&mut self, event: &Event) -> Result<(), RoomError> {
        for id in cited_ids(event, Citation::Auth)? {
            let seq = match self.ids.get(&id) {
                Some(seq) => *seq,
                None => {
                    let place = self.rooms.find_event(&id)?.filter(|place| place.room == self.room);
                    let Some(place) = place else { continue };
                    if self.ids.len() >= REMEMBERED_IDS {
                        self.ids.clear();
                    }
                    self.ids.insert(id, place.seq);
                    place.seq
                }
            };
            if self.met.insert(seq) {
                self.waiting.push(seq);
            }
        }
        Ok(())
    }

    /// The next event of the chain; `None` at its end.
    pub fn advance(&mut self) -> Result<Option<Event>, RoomError> {
        while let Some(seq) = self.waiting.pop() {
            let event = self.rooms.event_at(self.room, seq)?;
            self.cite(&event)?;
            if is_served(&event) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

impl ServerView {
    /// The auth chain of an event, without the event (Server-Server API `GET
    /// /event_auth/{roomId}/{eventId}`).
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] as for [`ServerView::event`].
    pub fn auth_chain_of(&self, id: &EventId) -> Result<Vec<Event>, RoomError> {
        let event = match self.find_in_timeline(id) {
            Err(RoomError::EventNotFound) => self.event(id)?,
            found => found?,
        };
        let mut walk = AuthWalk::new(&self.rooms, self.room);
        walk.cite(&event)?;
        let mut chain = Vec::new();
        while let Some(event) = walk.advance()? {
            chain.push(event);
        }
        Ok(chain)
    }
}
