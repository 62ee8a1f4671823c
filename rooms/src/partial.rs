//! Partial rooms: rooms that were entered before all of their state was here (MSC3706, MSC3902).
//!
//! The snapshots of such a room hold no member that was not told: a member who is absent is unknown. Whatever is placed
//! in it is marked, and judged again once the state is here ([`crate::replay`]). Servers that the other one named count
//! as present until then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spec::ids::{EventId, ServerName};
use storage::{Batch, Read, StreamPos, stored};

use crate::append::Append;
use crate::checked::CheckedPdu;
use crate::enter::Keep;
use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, RoomSeq, SnapshotId, UserNid};
use crate::keyspaces::{MISSED_SERVERS, PARTIAL_EVENTS, PARTIAL_ROOMS, PARTIAL_SERVERS, RESYNCED_ROOMS};
use crate::rooms::Rooms;
use crate::server_view::{Citation, cited_ids};

/// How many servers of a partial room are kept: the first of those that were named.
const MAX_SERVERS: usize = 20_000;
/// How many bytes of their names: they are replaced in one batch.
const MAX_SERVER_BYTES: usize = 1024 * 1024;

/// See [`PARTIAL_ROOMS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartialRow {
    /// Our join: the first event the states around which are provisional.
    pub join: RoomSeq,
    pub join_id: Box<str>,
    /// Through whom the room was entered.
    pub via: Box<str>,
    /// When, in milliseconds since the Unix epoch.
    pub begun_ms: u64,
    /// The state before the join, once it is here: from then on the room is being replayed.
    pub full: Option<SnapshotId>,
}
stored!(PartialRow, 1);

/// A state that another server gave.
#[derive(Clone, Debug)]
pub struct GivenState {
    /// Its events, all of them stored; those that were rejected do not count.
    pub state: Vec<EventId>,
    /// An event on top of it, stored too: the state that is meant is the one after this event.
    pub then: Option<EventId>,
}

/// What there is to know of a partial room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialRoom {
    /// Our join: what is missing is the state before it.
    pub join: EventId,
    /// The events that it follows, known here or not.
    pub follows: Vec<EventId>,
    /// The server through which the room was entered.
    pub via: ServerName,
    /// Whether the state is here, and only the events that came meanwhile are still to be judged by it.
    pub is_replaying: bool,
}

impl Rooms {
    /// Enters a room without all of its members: as [`Rooms::enter`], but of members the state holds only those that were
    /// told, and all others are unknown until [`Rooms::finish_partial`]. `servers` are those that are said to be in the
    /// room; of very many the last are left out. Cancel-safe: once submitted, it is carried out.
    ///
    /// # Errors
    /// As [`Rooms::enter`]; [`RoomError::Invalid`] in room versions 1 and 2, where servers choose the ids of their events
    /// and so could have them follow each other in a circle.
    pub async fn enter_partial(
        &self,
        room: RoomNid,
        join: CheckedPdu,
        state: Vec<EventId>,
        via: &ServerName,
        servers: Vec<ServerName>,
    ) -> Result<(), RoomError> {
        self.intern_people([&join]).await?;
        let via = via.as_str().into();
        self.submit_job(room, move |append| append.enter_partial(&join, &state, via, &servers)).await
    }

    /// The partial rooms.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn partial_rooms(&self) -> Result<Vec<RoomNid>, RoomError> {
        Ok(self.store.scan(&PARTIAL_ROOMS, &()).keys().collect::<Result<_, _>>()?)
    }

    /// What is missing of a partial room; `None` for a room with its full state.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn partial_room(&self, room: RoomNid) -> Result<Option<PartialRoom>, RoomError> {
        let Some(row) = self.store.get(&PARTIAL_ROOMS, &room)? else { return Ok(None) };
        let join = EventId::parse(&row.join_id).map_err(|_| RoomError::Inconsistent("malformed event id"))?;
        let via = ServerName::parse(&row.via).map_err(|_| RoomError::Inconsistent("malformed server name"))?;
        let follows = self.event_at(room, row.join)?.to_pdu()?.prev_events;
        Ok(Some(PartialRoom { join, follows, via, is_replaying: row.full.is_some() }))
    }

    /// Whether the server is, as far as one can say, in some partial room: then a user of it may share that with us
    /// although no member event of theirs is here.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_in_partial_room(&self, server: &ServerName) -> Result<bool, RoomError> {
        for room in self.partial_rooms()? {
            if self.is_server_joined(room, server)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the states around an event of the timeline are what they will always be: not provisional.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_state_known(&self, event: &Event) -> Result<bool, RoomError> {
        if self.store.contains(&PARTIAL_EVENTS, &(event.room(), event.seq()))? {
            return Ok(false);
        }
        // What was judged again stays open until all is: only then is it known that nothing is missing.
        let head = self.head(event.room())?;
        Ok(head.partial.as_ref().is_none_or(|partial| event.seq() < partial.join))
    }

    /// The position of the commit by which the room's state became full the last time; zero if it always was.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn resynced_at(&self, room: RoomNid) -> Result<StreamPos, RoomError> {
        Ok(self.store.get(&RESYNCED_ROOMS, &room)?.map_or(StreamPos::ZERO, |row| row.pos))
    }

    /// Whether the room's state became full after `since` and up to `until`.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_resynced_between(&self, room: RoomNid, since: StreamPos, until: StreamPos) -> Result<bool, RoomError> {
        let at = self.resynced_at(room)?;
        Ok(at > since && at <= until)
    }

    /// The joined users of an encrypted room whose state became full after `since` and up to `until`: to their devices a
    /// client has to encrypt from then on, and most of them it did not know.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn members_found_between(
        &self,
        room: RoomNid,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Arc<Vec<UserNid>>, RoomError> {
        let is_encrypted = |state| self.state_seq(room, state, "m.room.encryption", "").map(|event| event.is_some());
        if self.is_resynced_between(room, since, until)? && is_encrypted(self.head(room)?.state())? {
            return self.joined_members(room);
        }
        Ok(Arc::default())
    }

    /// The member event of its sender that an event cites to be allowed: who that is, where the state does not say.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn cited_member(&self, event: &Event) -> Result<Option<RoomSeq>, RoomError> {
        for id in cited_ids(event, Citation::Auth)? {
            let Some(place) = self.find_event(&id)?.filter(|place| place.room == event.room()) else { continue };
            let cited = self.event_at(place.room, place.seq)?;
            if cited.kind() == "m.room.member" && cited.state_key() == Some(event.sender()) {
                return Ok(Some(place.seq));
            }
        }
        Ok(None)
    }

    /// Waits until all of the room's state is here, at most for `limit`; says whether it is. Does not wait in a room that
    /// this server has left, as nobody fetches the state of that. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn wait_full_state(&self, room: RoomNid, limit: Duration) -> Result<bool, RoomError> {
        let waiting = async {
            loop {
                let finished = self.full_state.notified();
                tokio::pin!(finished);
                // Registered before the look, so that no finish goes unnoticed between the two.
                finished.as_mut().enable();
                if !self.head(room)?.is_partial() || !self.is_resident(room)? {
                    return Ok(());
                }
                finished.await;
            }
        };
        match self.clock.timeout(limit, waiting).await {
            Some(outcome) => outcome.map(|()| true),
            None => Ok(false),
        }
    }

    /// The servers that were in the room without our knowing it, and since when: they have not been told what they
    /// should have been. Stays until [`Rooms::forget_missed`].
    ///
    /// # Errors
    /// Storage errors only.
    pub fn missed_servers(&self, room: RoomNid) -> Result<Vec<(ServerName, StreamPos)>, RoomError> {
        let mut missed = Vec::new();
        for row in self.store.scan(&MISSED_SERVERS, &room).iter() {
            let ((_, server), since) = row?;
            let server = ServerName::parse(&server).map_err(|_| RoomError::Inconsistent("malformed server name"))?;
            missed.push((server, since));
        }
        Ok(missed)
    }

    /// The rooms with missed servers that have not been told yet.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn rooms_with_missed_servers(&self) -> Result<Vec<RoomNid>, RoomError> {
        let mut rooms = Vec::new();
        for key in self.store.scan(&MISSED_SERVERS, &()).keys() {
            rooms.push(key?.0);
        }
        rooms.dedup();
        Ok(rooms)
    }

    /// Forgets missed servers that have been told. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn forget_missed(&self, room: RoomNid, servers: &[ServerName]) -> Result<(), RoomError> {
        let mut batch = Batch::new();
        for server in servers {
            batch.delete(&MISSED_SERVERS, &(room, server.as_str().to_owned()));
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    /// Whether the server is one of those that are said to be in a partial room.
    pub(crate) fn is_named_server(&self, room: RoomNid, server: &ServerName) -> Result<bool, RoomError> {
        Ok(self.store.contains(&PARTIAL_SERVERS, &(room, server.as_str().to_owned()))?)
    }
}

impl Append<'_> {
    fn enter_partial(
        &mut self,
        join: &CheckedPdu,
        state: &[EventId],
        via: Box<str>,
        servers: &[ServerName],
    ) -> Result<(), RoomError> {
        if self.head.rules().pair_references {
            return Err(RoomError::Invalid("rooms of this version are not entered without their members"));
        }
        let join_seq = self.head.row.next_seq;
        let row = PartialRow {
            join: join_seq,
            join_id: join.pdu().event_id.as_str().into(),
            via,
            begun_ms: self.rooms.clock.now_ms(),
            full: None,
        };
        if !self.enter_by(join, state, Keep::Local, Some(row))? {
            return Ok(());
        }
        self.replace_named_servers(servers)
    }

    /// Makes the room partial, or a room with its full state, with the commit under way.
    pub(crate) fn set_partial(&mut self, row: Option<PartialRow>) {
        match &row {
            Some(row) => self.batch.put(&PARTIAL_ROOMS, &self.head.room, row),
            None => self.batch.delete(&PARTIAL_ROOMS, &self.head.room),
        };
        self.ends_partial |= row.is_none();
        self.head.partial = row.map(Arc::new);
    }

    /// The servers that are said to be in the room, instead of those of an earlier time.
    pub(crate) fn replace_named_servers(&mut self, servers: &[ServerName]) -> Result<(), RoomError> {
        let room = self.head.room;
        let (mut named, mut bytes) = (BTreeSet::new(), 0usize);
        for server in servers.iter().filter(|server| **server != self.rooms.server_name).take(MAX_SERVERS) {
            bytes = bytes.saturating_add(server.as_str().len());
            if bytes > MAX_SERVER_BYTES {
                break;
            }
            named.insert(server.as_str());
        }
        for key in self.rooms.store.scan(&PARTIAL_SERVERS, &room).keys() {
            let key = key?;
            if !named.contains(key.1.as_str()) {
                self.batch.delete(&PARTIAL_SERVERS, &key);
            }
        }
        for server in named {
            self.batch.put(&PARTIAL_SERVERS, &(room, server.to_owned()), &());
        }
        self.servers_changed = true;
        Ok(())
    }
}
