//! The port through which rooms reach other servers; the federation edge implements it, the
//! client-server edge calls it. Nothing in this crate waits for it inside a room's queue.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Map, Value};
use spec::ids::{EventId, RoomAlias, RoomId, ServerName, UserId};

use crate::error::RoomError;
use crate::ids::RoomNid;
use crate::timeline::Direction;

/// What a port returns: a boxed future.
pub type Remote<'a, T> = Pin<Box<dyn Future<Output = Result<T, RoomError>> + Send + 'a>>;

/// What other servers can be asked about rooms. Every method has its own time limit, and names in
/// its error whose fault a failure is: [`RoomError::RemoteRefused`] passes on what the other server
/// said, [`RoomError::RemoteUnavailable`] says that none answered.
pub trait RemoteRooms: Send + Sync {
    /// Joins a room in which this server has nobody, through one of `via`, tried in order; or a
    /// restricted room that another server has to let the user into. `content` is that of the
    /// member event but `membership`. Returns once the room can be used (Server-Server API §Joining
    /// Rooms).
    fn join<'a>(
        &'a self,
        user: &'a UserId,
        room: &'a RoomId,
        via: &'a [ServerName],
        content: Map<String, Value>,
    ) -> Remote<'a, ()>;

    /// Knocks on a room in which this server has nobody (§Knocking on a Room).
    fn knock<'a>(
        &'a self,
        user: &'a UserId,
        room: &'a RoomId,
        via: &'a [ServerName],
        content: Map<String, Value>,
    ) -> Remote<'a, ()>;

    /// Refuses an invitation to, or withdraws a knock on, a room in which this server has nobody
    /// (§Leaving Rooms). If no server can be reached the user has left all the same, here.
    fn leave<'a>(&'a self, user: &'a UserId, room: &'a RoomId, content: Map<String, Value>) -> Remote<'a, ()>;

    /// Invites a user of another server: their server signs the event first (§Inviting to a room).
    fn invite<'a>(
        &'a self,
        sender: &'a UserId,
        room: &'a RoomId,
        target: &'a UserId,
        content: Map<String, Value>,
    ) -> Remote<'a, ()>;

    /// Asks the alias's server (§Querying for information).
    fn resolve_alias<'a>(&'a self, alias: &'a RoomAlias) -> Remote<'a, (RoomId, Vec<ServerName>)>;

    /// The public rooms of another server: body and answer as in `POST /publicRooms`.
    fn public_rooms<'a>(&'a self, server: &'a ServerName, query: Map<String, Value>) -> Remote<'a, Map<String, Value>>;

    /// What a server in the room says of a space and its children: the answer of §Spaces
    /// `GET /hierarchy/{roomId}`, checked for shape.
    fn hierarchy<'a>(
        &'a self,
        room: &'a RoomId,
        via: &'a [ServerName],
        suggested_only: bool,
    ) -> Remote<'a, Map<String, Value>>;

    /// Fetches history before what is stored, about `limit` events. False if nothing new came
    /// (§Backfilling and retrieving missing events).
    fn backfill<'a>(&'a self, room: RoomNid, limit: usize) -> Remote<'a, bool>;

    /// Asks other servers in the room for the event closest to a time, stores it where it can be
    /// fetched, and returns its id and time.
    fn event_near<'a>(
        &'a self,
        room: RoomNid,
        timestamp: i64,
        direction: Direction,
    ) -> Remote<'a, Option<(EventId, i64)>>;
}
