//! Which servers are in which room: kept by the writer beside the memberships, for those who send to
//! and answer other servers.
//!
//! A server is in a room as long as a user of it is joined. The rows of servers that have gone stay,
//! so that one can tell whether they were there when something happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spec::acl::ServerAcl;
use spec::ids::ServerName;
use storage::{Read, stored};

use crate::append::Append;
use crate::error::RoomError;
use crate::event::EventFlags;
use crate::ids::{RoomNid, RoomSeq, UserNid};
use crate::keyspaces::{PARTIAL_ROOMS, PARTIAL_SERVERS, ROOM_SERVERS, SERVER_MEMBERS, SERVER_ROOMS, STRIPPED};
use crate::membership::Membership;
use crate::rooms::Rooms;

/// A server's being in a room: now, or the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStay {
    /// How many of its users are joined; none if it has gone.
    pub joined: u32,
    /// The last event of the timeline when its first user joined; that is their join, unless it came
    /// with the state of a gap.
    pub since: RoomSeq,
    /// The last event of the timeline when its last user went, if they have gone since.
    pub until: Option<RoomSeq>,
}
stored!(ServerStay, 1);

impl Rooms {
    /// Whether a user of this server is joined to the room: only then is it told what happens there.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_resident(&self, room: RoomNid) -> Result<bool, RoomError> {
        self.is_server_joined(room, self.server_name())
    }

    /// Whether a user of the server is joined to the room; in a partial room also whether that is said of it.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_server_joined(&self, room: RoomNid, server: &ServerName) -> Result<bool, RoomError> {
        let stay = self.store.get(&ROOM_SERVERS, &(room, server.as_str().to_owned()))?;
        Ok(stay.is_some_and(|stay| stay.joined > 0) || self.is_named_server(room, server)?)
    }

    /// Every server that is, or was, in the room, as of now or later than any visible position. Those
    /// with `joined` 0 have gone. In a partial room those that are said to be in it are, from our join on, with one user
    /// more than is known. Cheap: shared with the cache.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn room_servers(&self, room: RoomNid) -> Result<Arc<BTreeMap<ServerName, ServerStay>>, RoomError> {
        self.memory.room_servers.get_or_load(room, || {
            let mut servers = BTreeMap::new();
            for row in self.store.scan(&ROOM_SERVERS, &room).iter() {
                let ((_, server), stay) = row?;
                let server =
                    ServerName::parse(&server).map_err(|_| RoomError::Inconsistent("malformed server name"))?;
                servers.insert(server, stay);
            }
            self.add_named_servers(room, &mut servers)?;
            Ok(Arc::new(servers))
        })
    }

    /// The servers that are said to be in a partial room are in it.
    fn add_named_servers(
        &self,
        room: RoomNid,
        servers: &mut BTreeMap<ServerName, ServerStay>,
    ) -> Result<(), RoomError> {
        // The row and not the head: the cache of heads may be corrected after that of servers.
        let Some(partial) = self.store.get(&PARTIAL_ROOMS, &room)? else { return Ok(()) };
        for key in self.store.scan(&PARTIAL_SERVERS, &room).keys() {
            let (_, server) = key?;
            let server = ServerName::parse(&server).map_err(|_| RoomError::Inconsistent("malformed server name"))?;
            let known = servers.get(&server).map_or(0, |stay| stay.joined);
            servers.insert(server, ServerStay { joined: known.saturating_add(1), since: partial.join, until: None });
        }
        Ok(())
    }

    /// The rooms with a joined user of the server.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn server_rooms(&self, server: &ServerName) -> Result<Vec<RoomNid>, RoomError> {
        let rooms = self.store.scan(&SERVER_ROOMS, &server.as_str().to_owned());
        let rooms: Result<Vec<_>, _> = rooms.keys().map(|key| key.map(|(_, room)| room)).collect();
        Ok(rooms?)
    }

    /// Every server with a joined user in a room, this one too. Reads a row for each.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn servers(&self) -> Result<BTreeSet<ServerName>, RoomError> {
        let mut servers = BTreeSet::new();
        let mut last: Option<String> = None;
        loop {
            let scan = self.store.scan(&SERVER_ROOMS, &());
            let scan = match &last {
                Some(last) => scan.after_prefix(last),
                None => scan,
            };
            let Some(key) = scan.keys().next() else { return Ok(servers) };
            let (server, _) = key?;
            servers.extend(ServerName::parse(&server));
            last = Some(server);
        }
    }

    /// Whether the room's access control list lets the server take part (Server-Server API §Server
    /// Access Control Lists). A room without a list lets everyone.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_server_allowed(&self, room: RoomNid, server: &ServerName) -> Result<bool, RoomError> {
        let Some(event) = self.state_event(room, self.head(room)?.state(), "m.room.server_acl", "")? else {
            return Ok(true);
        };
        // A redacted list keeps its number and loses its content.
        let version = (event.seq(), event.flags().has(EventFlags::REDACTED));
        if let Some((known, acl)) = self.memory.acls.get(&room)
            && known == version
        {
            return Ok(acl.allows(server));
        }
        let acl = Arc::new(ServerAcl::parse(event.content()));
        self.memory.acls.insert(room, (version, acl.clone()));
        Ok(acl.allows(server))
    }

    /// Whether events may be added to the room here: a user of this server is in it, or nobody at all
    /// is in it any more and it lives nowhere else.
    pub(crate) fn expect_resident(&self, room: RoomNid) -> Result<(), RoomError> {
        if self.is_resident(room)? {
            return Ok(());
        }
        let elsewhere = self.room_servers(room)?.values().any(|stay| stay.joined > 0);
        if elsewhere || self.head(room)?.create().is_none() { Err(RoomError::NotResident) } else { Ok(()) }
    }
}

impl Append<'_> {
    /// Keeps the index of servers in step with a membership that changes, and drops what was kept for
    /// an invitation or a knock that it answers.
    pub(crate) fn keep_server(
        &mut self,
        user: UserNid,
        old: Option<Membership>,
        new: Membership,
    ) -> Result<(), RoomError> {
        let room = self.head.room;
        if old.is_some_and(|old| old == new && old == Membership::Join) {
            return Ok(());
        }
        let user_id = self.rooms.user_id(user)?;
        let server = user_id.server_name();
        if old.is_none() {
            self.batch.put(&SERVER_MEMBERS, &(room, server.to_owned(), user), &());
        }
        if matches!(old, Some(Membership::Invite | Membership::Knock)) && server == self.rooms.server_name.as_str() {
            self.batch.delete(&STRIPPED, &(room, user));
        }
        let (was, is) = (old == Some(Membership::Join), new == Membership::Join);
        if was == is {
            return Ok(());
        }
        let stay = match self.servers.get(server) {
            Some(stay) => Some(*stay),
            None => self.rooms.store.get(&ROOM_SERVERS, &(room, server.to_owned()))?,
        };
        let at = self.head.last_seq();
        let stay = match stay {
            Some(stay) if is && stay.joined > 0 => ServerStay { joined: stay.joined.saturating_add(1), ..stay },
            _ if is => ServerStay { joined: 1, since: at, until: None },
            Some(stay) if stay.joined > 1 => ServerStay { joined: stay.joined - 1, ..stay },
            Some(stay) => ServerStay { joined: 0, until: Some(at), ..stay },
            None => return Err(RoomError::Inconsistent("a member's server is not in the room")),
        };
        match stay.joined {
            0 => drop(self.batch.delete(&SERVER_ROOMS, &(server.to_owned(), room))),
            1 if is => drop(self.batch.put(&SERVER_ROOMS, &(server.to_owned(), room), &())),
            _ => {}
        }
        self.batch.put(&ROOM_SERVERS, &(room, server.to_owned()), &stay);
        self.servers.insert(server.into(), stay);
        Ok(())
    }
}
