//! Rooms of other servers: the implementation of [`rooms::RemoteRooms`].
//!
//! Invariants:
//! - What another server answers is checked for shape, size and signatures before anything of it is stored; what is
//!   wrong in it is that server's failure, and the next one is asked.
//! - A handshake, once begun, runs to its end as a task: a client that hangs up leaves nothing half done.
//! - One handshake a room at a time: who comes second finds the room entered and joins as anybody here would.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use rooms::{Direction, Remote, RemoteRooms, RoomError, RoomNid};
use runtime::Clock;
use serde_json::{Map, Value};
use spec::ids::{EventId, RoomAlias, RoomId, ServerName, UserId};
use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::Federation;

mod answer;
mod backfill;
mod candidates;
mod failure;
mod handshake;
mod invite;
mod join;
mod knock;
mod leave;
mod nearby;
mod pdus;
mod query;
mod restricted;
mod resync;
mod room_state;
mod spool;
mod take_in;

pub(crate) use answer::{Kind, parse_body, read_answer};
pub(crate) use room_state::check_room_state;
pub(crate) use spool::Spool;

/// A user who wants to enter a room, or to leave one, through another server.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Who.
    pub user: UserId,
    /// Which room.
    pub room: RoomId,
    /// The servers that the client names.
    pub via: Vec<ServerName>,
    /// The member event's content but `membership`.
    pub content: Map<String, Value>,
}

/// An answer, with when it came.
type Kept = (Duration, Arc<Map<String, Value>>);

/// What the port remembers between calls.
pub(crate) struct RemoteState {
    /// Handshakes and backfills under way: they queue here, a room's each.
    turns: Mutex<HashMap<RoomId, Weak<tokio::sync::Mutex<()>>>>,
    /// Hierarchy answers of other servers, by room and whether only suggested children are in them.
    hierarchies: Cache<(RoomId, bool), Kept>,
    /// When no server could give history of a room.
    futile: Cache<RoomNid, Duration>,
    /// Rooms whose state is being fetched.
    resyncs: resync::Resyncs,
}

/// How many hierarchy answers are kept.
const KEPT_HIERARCHIES: usize = 256;
/// Of how many rooms it is remembered that no history could be had.
const KEPT_FUTILE: usize = 4096;

impl Default for RemoteState {
    fn default() -> Self {
        RemoteState {
            turns: Mutex::default(),
            hierarchies: Cache::new(KEPT_HIERARCHIES),
            futile: Cache::new(KEPT_FUTILE),
            resyncs: resync::Resyncs::default(),
        }
    }
}

impl RemoteState {
    /// Waits until nobody else works on the room; others wait as long as the guard lives. Cancel-safe.
    async fn take_turn(&self, room: &RoomId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock();
            match turns.get(room).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    turns.retain(|_, turn| turn.strong_count() > 0);
                    let turn = Arc::default();
                    turns.insert(room.clone(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

/// When an operation of several requests has to be over.
#[derive(Clone)]
pub(crate) struct Deadline {
    clock: Clock,
    at: Duration,
}

impl Deadline {
    fn after(clock: &Clock, limit: Duration) -> Deadline {
        Deadline { clock: clock.clone(), at: clock.monotonic().saturating_add(limit) }
    }

    /// What is left, and at most `most`. Never zero: a request without time fails by itself.
    fn left(&self, most: Duration) -> Duration {
        self.at
            .saturating_sub(self.clock.monotonic())
            .clamp(Duration::from_millis(1), most.max(Duration::from_millis(1)))
    }

    fn is_over(&self) -> bool {
        self.clock.monotonic() >= self.at
    }
}

impl Federation {
    /// Runs work that has to come to its end even if nobody waits for it any more.
    fn detach<'a, T, F>(&'a self, name: &'static str, work: F) -> Remote<'a, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RoomError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.tasks.spawn(name, async move { drop(reply.send(work.await)) });
        Box::pin(async move { answer.await.unwrap_or(Err(RoomError::Busy)) })
    }
}

impl RemoteRooms for Federation {
    fn join<'a>(
        &'a self,
        user: &'a UserId,
        room: &'a RoomId,
        via: &'a [ServerName],
        content: Map<String, Value>,
    ) -> Remote<'a, ()> {
        let entry = Entry { user: user.clone(), room: room.clone(), via: via.to_vec(), content };
        self.detach("joining a room", join::join_room(self.clone(), entry))
    }

    fn knock<'a>(
        &'a self,
        user: &'a UserId,
        room: &'a RoomId,
        via: &'a [ServerName],
        content: Map<String, Value>,
    ) -> Remote<'a, ()> {
        let entry = Entry { user: user.clone(), room: room.clone(), via: via.to_vec(), content };
        self.detach("knocking on a room", knock::knock_on_room(self.clone(), entry))
    }

    fn leave<'a>(&'a self, user: &'a UserId, room: &'a RoomId, content: Map<String, Value>) -> Remote<'a, ()> {
        let entry = Entry { user: user.clone(), room: room.clone(), via: Vec::new(), content };
        self.detach("leaving a room", leave::leave_room(self.clone(), entry))
    }

    fn invite<'a>(
        &'a self,
        sender: &'a UserId,
        room: &'a RoomId,
        target: &'a UserId,
        content: Map<String, Value>,
    ) -> Remote<'a, ()> {
        let work = invite::invite_user(self.clone(), sender.clone(), room.clone(), target.clone(), content);
        self.detach("inviting a user", work)
    }

    fn resolve_alias<'a>(&'a self, alias: &'a RoomAlias) -> Remote<'a, (RoomId, Vec<ServerName>)> {
        Box::pin(query::resolve_alias(self, alias))
    }

    fn public_rooms<'a>(&'a self, server: &'a ServerName, query: Map<String, Value>) -> Remote<'a, Map<String, Value>> {
        Box::pin(query::ask_public_rooms(self, server, query))
    }

    fn hierarchy<'a>(
        &'a self,
        room: &'a RoomId,
        via: &'a [ServerName],
        suggested_only: bool,
    ) -> Remote<'a, Map<String, Value>> {
        Box::pin(query::ask_hierarchy(self, room, via, suggested_only))
    }

    fn backfill<'a>(&'a self, room: RoomNid, limit: usize) -> Remote<'a, bool> {
        self.detach("backfilling a room", backfill::backfill_room(self.clone(), room, limit))
    }

    fn event_near<'a>(
        &'a self,
        room: RoomNid,
        timestamp: i64,
        direction: Direction,
    ) -> Remote<'a, Option<(EventId, i64)>> {
        self.detach("looking for an event", nearby::find_event_near(self.clone(), room, timestamp, direction))
    }
}

#[cfg(test)]
mod tests;
