//! Deleting a room: all rows of it, in small steps, once nobody of this server is in it any more.
//!
//! From the first step on the room is unknown here: its id leads nowhere, its writer takes nothing, and should it be
//! entered again it gets another number. Each step looks at what is left, so that a deletion that was cut off goes on
//! wherever it was. Who was in it is told so later too (`departures.rs`). What other crates keep about rooms they take out themselves: they are told by [`RoomData`]. A row
//! stays behind that says which number is used up.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use spec::ids::RoomId;
use storage::{Batch, KeyPrefix, Keyspace, Read, RowKey, StorageError, Topic, stored};

use crate::append::Append;
use crate::delayed::DelayError;
use crate::error::RoomError;
use crate::event::Event;
use crate::ids::{RoomNid, TOPIC_ALIASES, TOPIC_MEMBERSHIP, TOPIC_ROOM_GONE, UserNid};
use crate::keyspaces::{
    ALIASES, BACKWARD, DELAYED_OF_STATE, DELETING, EARLY_INVITES, EARLY_REDACTIONS, EVENT_IDS, EVENTS_BY_TIME, HEADS,
    MISSED_SERVERS, NETWORK_ROOMS, ORDER, PARTIAL_EVENTS, PARTIAL_ROOMS, PARTIAL_SERVERS, PROMOTED, PUBLIC_ROOMS,
    PURGED, RECEIPT_LOG, RECEIPTS, RELATIONS, RESYNCED_ROOMS, RETENTION, ROOM_ALIASES, ROOM_MEMBERS, ROOM_NIDS,
    ROOM_SERVERS, SERVER_MEMBERS, SERVER_ROOMS, SLOT_KEYS, STATE_LOG, STATE_NODES, STATE_SLOTS, STRIPPED, THREADS,
    THREADS_BY_LATEST, TIMELINE, USER_ROOMS,
};
use crate::membership::{Membership, MembershipChange};
use crate::rooms::Rooms;
use crate::sticky::STICKY;

/// How many rows one commit takes out.
const ROWS: usize = 500;
/// How many bytes of events one commit looks at, about.
const BYTES: usize = 2 * 1024 * 1024;

/// A room whose rows are taken out, or were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeletingRow {
    pub room_id: Box<str>,
    /// Whether nothing of it is left.
    pub is_done: bool,
}
stored!(DeletingRow, 1);

/// Why what is kept about a room could not be taken out.
pub type RoomDataError = Box<dyn std::error::Error + Send + Sync>;

/// What another part of the server keeps about rooms. It is told when a room is deleted; the memberships of the room's
/// local users can still be read then.
pub trait RoomData: Send + Sync {
    /// Of whom, in logs.
    fn name(&self) -> &'static str;

    /// Whether it still has something to do with the room that cannot be done once it is gone, such as telling others
    /// that everybody has left.
    fn is_busy_with(&self, _room: RoomNid) -> bool {
        false
    }

    /// Takes out a part of what it keeps about the room, in one commit or a few; says whether nothing is left.
    fn forget_room<'a>(&'a self, room: RoomNid, room_id: &'a RoomId) -> BoxFuture<'a, Result<bool, RoomDataError>>;
}

impl Rooms {
    /// Gives the room's aliases of this server to another room, or to nobody, and takes it from the list of public rooms.
    /// Returns the aliases. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn unlist(&self, room: RoomNid, successor: Option<RoomNid>) -> Result<Vec<String>, RoomError> {
        let aliases = self.aliases(room)?;
        self.set_public(&self.room_id(room)?, false).await?;
        match successor {
            Some(successor) => self.move_aliases(room, successor).await?,
            None => {
                let mut batch = Batch::new();
                for alias in &aliases {
                    batch.delete(&ALIASES, alias).delete(&ROOM_ALIASES, &(room, alias.clone()));
                }
                batch.touch(Topic::new(TOPIC_ALIASES, room.0));
                self.store.commit(batch).await?;
            }
        }
        Ok(aliases)
    }

    /// Takes a user of this server out of a room, by their own leave event: from a join, an invitation or a knock. For
    /// others nothing happens. Cancel-safe.
    ///
    /// # Errors
    /// What keeps the user from leaving.
    pub async fn remove_local_user(&self, room: RoomNid, user: UserNid) -> Result<(), RoomError> {
        let row = self.membership(room, user)?;
        if !row.is_some_and(|row| matches!(row.membership, Membership::Join | Membership::Invite | Membership::Knock)) {
            return Ok(());
        }
        let user_id = self.user_id(user)?;
        let (sender, target, membership) = (user_id.clone(), user_id.clone(), Membership::Leave);
        let leave = MembershipChange { sender, target, membership, content: Map::new() };
        match self.change_membership(&self.room_id(room)?, leave).await {
            Err(RoomError::NotResident) => self.leave_unresident(&user_id, room, None).await,
            left => left,
        }
    }

    /// Begins to delete a room: it is unknown from now on. Does nothing if it was begun already. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Refused`] while users of this server are in it, unless `force`; [`RoomError::Busy`].
    pub async fn begin_deletion(&self, room: RoomNid, force: bool) -> Result<(), RoomError> {
        if self.is_deleting(room)? {
            return Ok(());
        }
        let is_in = |membership| matches!(membership, Membership::Join | Membership::Invite | Membership::Knock);
        if !force && self.local_members(room)?.iter().any(|member| is_in(member.membership)) {
            return Err(RoomError::Refused("users of this server are still in the room"));
        }
        self.cancel_delayed_of(room).await?;
        self.submit_job(room, |append| append.begin_deletion()).await
    }

    /// Whether the room is being deleted, or was.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_deleting(&self, room: RoomNid) -> Result<bool, RoomError> {
        Ok(self.store.contains(&DELETING, &room)?)
    }

    /// What its users scheduled for the room is not sent any more.
    async fn cancel_delayed_of(&self, room: RoomNid) -> Result<(), RoomError> {
        for member in self.local_members(room)? {
            for event in self.delayed_events(member.user)? {
                if event.room == room && event.outcome.is_none() {
                    match self.cancel_delayed(&event.id).await {
                        Ok(()) | Err(DelayError::Ended | DelayError::NotFound) => {}
                        Err(error) => return Err(of_delay(error)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes out the next part of a room whose deletion was begun, first of what others keep about it; says whether
    /// nothing is left. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Invalid`] if it was not begun; storage errors. It can be tried again.
    pub async fn delete_on(&self, room: RoomNid, others: &[Arc<dyn RoomData>]) -> Result<bool, RoomError> {
        let row = self.store.get(&DELETING, &room)?.ok_or(RoomError::Invalid("the room is not being deleted"))?;
        if row.is_done {
            return Ok(true);
        }
        let room_id = RoomId::parse(&row.room_id).map_err(|_| RoomError::Inconsistent("malformed room id"))?;
        if !forget_data(room, &room_id, others).await? {
            return Ok(false);
        }
        let mut batch = self.rows_of_members(room, &row.room_id)?;
        if batch.is_empty() {
            batch = self.rows_of_events(room)?;
        }
        if batch.is_empty() {
            batch = self.rows_beside(room)?;
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
            return Ok(false);
        }
        self.compact_room(room).await?;
        batch
            .delete(&PARTIAL_ROOMS, &room)
            .delete(&RESYNCED_ROOMS, &room)
            .delete(&PURGED, &room)
            .delete(&RETENTION, &room);
        batch.delete(&HEADS, &room).put(&DELETING, &room, &DeletingRow { is_done: true, ..row });
        batch.touch(Topic::new(TOPIC_ROOM_GONE, room.0));
        self.store.commit(batch).await?;
        Ok(true)
    }

    fn rows_of_members(&self, room: RoomNid, room_id: &str) -> Result<Batch, RoomError> {
        let mut batch = Batch::new();
        for key in self.store.scan(&ROOM_MEMBERS, &room).keys().take(ROWS) {
            let (_, user) = key?;
            let user_id = self.user_id(user)?;
            let server = user_id.server_name().to_owned();
            if server == self.server_name().as_str() {
                self.note_departure(room, room_id, (user, &user_id), &mut batch)?;
            }
            batch.delete(&ROOM_MEMBERS, &(room, user)).delete(&USER_ROOMS, &(user, room));
            batch.delete(&SERVER_MEMBERS, &(room, server, user)).delete(&STRIPPED, &(room, user));
            batch.touch(Topic::new(TOPIC_MEMBERSHIP, user.0));
        }
        Ok(batch)
    }

    fn rows_of_events(&self, room: RoomNid) -> Result<Batch, RoomError> {
        let (mut batch, mut bytes, mut damaged) = (Batch::new(), 0, None);
        let mut found = Vec::new();
        self.store.scan(&TIMELINE, &room).for_each_raw(|key, row| {
            let seq = key.get(8..16).and_then(|raw| raw.try_into().ok()).map(u64::from_be_bytes);
            let seq = crate::ids::RoomSeq((seq.unwrap_or_default() ^ 1 << 63) as i64);
            match Event::from_stored(room, seq, row) {
                Ok(event) => found.push((seq, Some(event.event_id().to_owned()))),
                Err(_) => {
                    damaged = Some(seq);
                    found.push((seq, None));
                }
            }
            bytes += row.len();
            match found.len() >= ROWS || bytes > BYTES {
                true => std::ops::ControlFlow::Break(()),
                false => std::ops::ControlFlow::Continue(()),
            }
        })?;
        for (seq, id) in found {
            // What came with an invitation is not found by its id.
            if let Some(id) = id
                && self.find_event(&id)?.is_some_and(|place| place.room == room && place.seq == seq)
            {
                batch.delete(&EVENT_IDS, &id);
            }
            batch.delete(&TIMELINE, &(room, seq));
        }
        if let Some(seq) = damaged {
            tracing::warn!(room = room.0, seq = seq.0, "an event that cannot be read is deleted; its id may stay");
        }
        Ok(batch)
    }

    /// Rows of the first keyspace that has any.
    fn rows_beside(&self, room: RoomNid) -> Result<Batch, RoomError> {
        let mut batch = Batch::new();
        for key in self.store.scan(&ROOM_SERVERS, &room).keys().take(ROWS) {
            let (_, server) = key?;
            batch.delete(&SERVER_ROOMS, &(server.clone(), room)).delete(&ROOM_SERVERS, &(room, server));
        }
        macro_rules! take_first {
            ($($keyspace:ident),*) => { $(if batch.is_empty() { self.take_rows(&$keyspace, room, &mut batch)?; })* };
        }
        take_first!(ORDER, EVENTS_BY_TIME, STATE_SLOTS, SLOT_KEYS, STATE_NODES, STATE_LOG, SERVER_MEMBERS, STRIPPED);
        take_first!(RELATIONS, THREADS, THREADS_BY_LATEST, PROMOTED, BACKWARD, EARLY_REDACTIONS, RECEIPTS, RECEIPT_LOG);
        take_first!(STICKY, DELAYED_OF_STATE, PARTIAL_SERVERS, PARTIAL_EVENTS, MISSED_SERVERS, EARLY_INVITES);
        Ok(batch)
    }

    fn take_rows<K: RowKey, V>(
        &self,
        keyspace: &Keyspace<K, V>,
        room: RoomNid,
        batch: &mut Batch,
    ) -> Result<(), StorageError>
    where
        RoomNid: KeyPrefix<K>,
    {
        for key in self.store.scan(keyspace, &room).keys().take(ROWS) {
            batch.delete(keyspace, &key?);
        }
        Ok(())
    }
}

impl Append<'_> {
    /// The room is known no more: neither by its id nor by an alias, and in no list.
    fn begin_deletion(&mut self) -> Result<(), RoomError> {
        let (rooms, room) = (self.rooms, self.head.room);
        let room_id = self.head.room_id.as_str();
        self.batch.delete(&ROOM_NIDS, &room_id.to_owned());
        self.batch.put(&DELETING, &room, &DeletingRow { room_id: room_id.into(), is_done: false });
        for alias in rooms.aliases(room)? {
            self.batch.delete(&ALIASES, &alias).delete(&ROOM_ALIASES, &(room, alias));
        }
        self.batch.delete(&PUBLIC_ROOMS, &room);
        for key in rooms.store.scan(&NETWORK_ROOMS, &()).keys() {
            let key = key?;
            if key.1 == room {
                self.batch.delete(&NETWORK_ROOMS, &key);
            }
        }
        self.batch.touch(Topic::new(TOPIC_ALIASES, room.0)).touch(Topic::new(TOPIC_ROOM_GONE, room.0));
        Ok(())
    }
}

fn of_delay(error: DelayError) -> RoomError {
    match error {
        DelayError::Room(error) => error,
        DelayError::TooLong { .. }
        | DelayError::TooMany { .. }
        | DelayError::Off
        | DelayError::NotFound
        | DelayError::Ended => RoomError::Busy,
    }
}

/// Has the others take out what they keep; says whether nothing is left of it.
async fn forget_data(room: RoomNid, room_id: &RoomId, others: &[Arc<dyn RoomData>]) -> Result<bool, RoomError> {
    for other in others {
        match other.forget_room(room, room_id).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                tracing::error!(part = other.name(), room = room.0, %error, "a deleted room is not forgotten");
                return Err(RoomError::Busy);
            }
        }
    }
    Ok(true)
}
