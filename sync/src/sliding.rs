//! Simplified sliding sync (MSC4186, in its accepted form and in the draft form that clients speak).
//!
//! A request selects rooms ([`lists`]); of those, the ones that the connection has not sent, or that changed since it
//! did, are told ([`room`]); the rest of the answer comes from extensions ([`extensions`]).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rooms::{RoomNid, RoomSeq, TOPIC_MEMBERSHIP};
use storage::{StreamPos, Topic};
use users::{PresenceState, Session};

use crate::account_data::AccountDataChanges;
use crate::error::SyncError;
use crate::feed::RoomChanges;
use crate::json::Object;
use crate::meters::Form;
use crate::sync::{Found, Inner, Rows, Sync};
use crate::token::{SyncToken, decimal};

pub(crate) mod connection;
mod departed;
mod extensions;
pub(crate) mod facts;
mod lists;
pub(crate) mod request;
mod room;
mod sticky;

use connection::{Addition, Connection, Pos};
use lists::DirectChats;
use request::SlidingRequest;

impl Sync {
    /// Answers a sliding sync request with the JSON of the response, as soon as there is news, or
    /// after the timeout. `set_presence` is what the edge made of the request's own. Cancel-safe: a
    /// request that is dropped changes nothing that a repeated one would miss.
    ///
    /// # Errors
    /// [`SyncError::UnknownPos`]: the client has to start again without `pos`;
    /// [`SyncError::Invalid`]; else storage errors.
    pub async fn sliding(
        &self,
        caller: &Session,
        request: &SlidingRequest,
        set_presence: PresenceState,
    ) -> Result<Vec<u8>, SyncError> {
        let inner = &*self.0;
        let pos = request.pos.as_deref().map(Pos::parse).transpose()?;
        let connection = match &pos {
            Some(pos) => inner.connections.find(caller.device, &request.conn_id, pos)?,
            None => inner.connections.begin(caller.device, &request.conn_id),
        };
        // Refuse at once what would be refused after the wait.
        connection.lock().go_to(pos.as_ref())?;
        let _syncing = inner.users.begin_sync(caller.user, set_presence);
        let delivered = read_delivered(request)?;
        if request.extensions.to_device.enabled {
            self.acknowledge_messages(caller, delivered)?;
        }
        let wait = pos.and(request.timeout).map_or(Duration::ZERO, Duration::from_millis);
        let immediate = wait.is_zero();
        inner
            .look_until(Form::Sliding, caller, wait, |rows, until, last| {
                let mut connection = connection.lock();
                connection.go_to(pos.as_ref())?;
                let look = Look::load(inner, caller, request, rows, until, &pos, delivered, &connection)?;
                let (answer, found, addition) = look.write()?;
                if immediate || last || matches!(found, Found::News) {
                    connection.answered(addition);
                }
                Ok((answer, found))
            })
            .await
    }
}

/// `d1_<position>`: `next_batch` of the to-device extension.
fn read_delivered(request: &SlidingRequest) -> Result<StreamPos, SyncError> {
    let Some(since) = request.extensions.to_device.since.as_deref() else { return Ok(StreamPos::ZERO) };
    let pos = since.strip_prefix("d1_").and_then(decimal);
    pos.map(StreamPos).ok_or(SyncError::Invalid("malformed to_device.since"))
}

/// One look: everything that one answer is made from.
struct Look<'a> {
    sync: &'a Inner,
    caller: &'a Session,
    request: &'a SlidingRequest,
    rows: &'a Rows,
    since: Option<StreamPos>,
    until: StreamPos,
    /// To-device messages were delivered up to here.
    delivered: StreamPos,
    connection: &'a Connection,
    changes: RoomChanges,
    account_data: AccountDataChanges,
    direct: DirectChats<'a>,
    typing_since: u64,
    pos: Pos,
    /// Of the request's lists and subscriptions.
    selection_hash: u64,
}

/// A room that the answer tells.
struct ToldRoom {
    room: RoomNid,
    initial: bool,
    /// When the oldest of its events in the answer came.
    oldest: Option<StreamPos>,
    /// The events of its timeline in the answer.
    timeline: Vec<RoomSeq>,
}

impl<'a> Look<'a> {
    #[allow(clippy::too_many_arguments, reason = "called from one place, with what that has at hand")]
    fn load(
        sync: &'a Inner,
        caller: &'a Session,
        request: &'a SlidingRequest,
        rows: &'a Rows,
        until: StreamPos,
        pos: &Option<Pos>,
        delivered: StreamPos,
        connection: &'a Connection,
    ) -> Result<Look<'a>, SyncError> {
        let since = pos.as_ref().map(|pos| pos.token.pos);
        let (typing, epoch) = sync.rooms.typing_counter();
        let token = SyncToken { pos: until, to_device: until, epoch, typing, presence: 0 };
        Ok(Look {
            sync,
            caller,
            request,
            rows,
            since,
            until,
            delivered,
            connection,
            changes: since.map(|since| sync.feed.room_changes(since, rows)).unwrap_or_default(),
            account_data: match since {
                Some(_) => sync.read_account_data(caller, since, until)?,
                None => AccountDataChanges::default(),
            },
            direct: DirectChats::new(sync, caller),
            typing_since: pos.as_ref().map_or(0, |pos| pos.token.counters(epoch).0),
            pos: Pos { generation: connection.generation, number: connection.next_number(), token },
            selection_hash: hash_selection(request),
        })
    }

    fn write(&self) -> Result<(Vec<u8>, Found, Addition), SyncError> {
        let mut out = Vec::with_capacity(if self.since.is_some() { 512 } else { 32 * 1024 });
        let mut addition =
            Addition { rooms: Vec::new(), served: self.selection_hash, counts: self.connection.counts.clone() };
        let mut told = Vec::new();
        let mut answer = Object::open(&mut out);
        answer.text("pos", &self.pos.to_string());
        if let Some(txn_id) = &self.request.txn_id {
            answer.text("txn_id", txn_id);
        }
        let mut rooms = Vec::new();
        if !self.is_settled() {
            self.write_rooms(&mut rooms, &mut addition, &mut told)?;
        }
        let mut lists = Object::open(answer.key("lists"));
        for (name, count) in addition.counts.iter() {
            let mut list = Object::open(lists.key(name));
            list.number("count", *count);
            list.close();
        }
        lists.close();
        let rooms_out = answer.key("rooms");
        match rooms.is_empty() {
            true => rooms_out.extend_from_slice(b"{}"),
            false => rooms_out.append(&mut rooms),
        }
        let extension_news = self.write_extensions(answer.key("extensions"), &told)?;
        answer.close();
        let news = self.since.is_none() || !addition.rooms.is_empty() || extension_news;
        Ok((out, if news { Found::News } else { Found::Nothing }, addition))
    }

    /// Whether the client has all that the selection is about: it had at its last answer, the selection is the same,
    /// and nothing has changed that a room's place or content depends on.
    fn is_settled(&self) -> bool {
        let Some(since) = self.since else { return false };
        let memberships = Topic::new(TOPIC_MEMBERSHIP, self.caller.user.0);
        self.connection.served == self.selection_hash
            && self.changes.timelines.is_empty()
            && self.account_data.global.is_empty()
            && self.account_data.rooms.is_empty()
            && !self.sync.feed.may_have_changed(memberships, since)
    }

    fn write_rooms(
        &self,
        out: &mut Vec<u8>,
        addition: &mut Addition,
        told: &mut Vec<ToldRoom>,
    ) -> Result<(), SyncError> {
        let sent = &self.connection.rooms;
        let selection = self.sync.select_rooms(self.caller, self.request, self.rows, sent, &self.direct)?;
        addition.counts = Arc::new(selection.counts);
        let mut rooms = Object::open(out);
        for (listed, wish) in &selection.rooms {
            if let Some((sent, room)) = self.write_room(&mut rooms, listed, wish)? {
                addition.rooms.push((listed.room, sent));
                told.push(room);
            }
        }
        for departure in self.find_departures()? {
            addition.rooms.push((departure.room, self.write_departure(&mut rooms, &departure)));
        }
        rooms.close();
        Ok(())
    }
}

fn hash_selection(request: &SlidingRequest) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.lists.hash(&mut hasher);
    request.room_subscriptions.hash(&mut hasher);
    hasher.finish()
}
