//! Through which servers to enter a room, and in which order.

use std::cmp::Reverse;
use std::collections::HashSet;

use rooms::{RoomError, RoomNid};
use serde::Deserialize;
use spec::ids::{RoomId, ServerName, UserId};
use spec::power::PowerLevels;

use crate::Federation;

/// The most servers that are tried.
pub(crate) const MAX_CANDIDATES: usize = 10;
/// The most of them that the client names: there is always room for those that are known to be in the room.
const MAX_VIA: usize = 7;

/// The servers to try: those the client names, the inviter's, the room's own, and others that are known. Each once,
/// never this server.
pub(crate) fn order_candidates(
    own: &ServerName,
    via: &[ServerName],
    inviter: Option<ServerName>,
    room: &RoomId,
    known: impl IntoIterator<Item = ServerName>,
) -> Vec<ServerName> {
    let of_room = room.server_name().and_then(|server| ServerName::parse(server).ok());
    let mut seen = HashSet::from([own.clone()]);
    let mut named: Vec<ServerName> = via.iter().filter(|server| seen.insert((*server).clone())).cloned().collect();
    named.truncate(MAX_VIA);
    // Those that were cut off may come back as servers that are known.
    let mut seen: HashSet<ServerName> = named.iter().cloned().chain([own.clone()]).collect();
    let others = inviter.into_iter().chain(of_room).chain(known);
    named.extend(others.filter(|server| seen.insert(server.clone())).take(MAX_CANDIDATES));
    named.truncate(MAX_CANDIDATES);
    named
}

impl Federation {
    /// The servers through which `user` may enter or leave a room that this server is not in. Servers that failed
    /// lately come last.
    ///
    /// # Errors
    /// Storage errors only.
    pub(crate) fn entry_candidates(
        &self,
        room: &RoomId,
        user: &UserId,
        via: &[ServerName],
    ) -> Result<Vec<ServerName>, RoomError> {
        let (mut inviter, mut known) = (None, Vec::new());
        if let Some(nid) = self.rooms.room_nid(room)? {
            inviter = self.find_inviter(nid, user)?;
            known = self.servers_of_room(nid)?;
            known.extend(self.servers_of_stripped_state(nid, user)?);
        }
        let ordered = order_candidates(&self.server_name, via, inviter, room, known);
        Ok(self.sort_by_reach(ordered))
    }

    /// The servers that might let a user into a restricted room: those of users who may invite, then those that have
    /// been in the room longest.
    ///
    /// # Errors
    /// Storage errors only.
    pub(crate) fn authorising_candidates(
        &self,
        nid: RoomNid,
        room: &RoomId,
        via: &[ServerName],
    ) -> Result<Vec<ServerName>, RoomError> {
        let in_room = self.servers_of_room(nid)?;
        let mut known: Vec<ServerName> = self.servers_of_inviters(nid)?;
        known.retain(|server| in_room.contains(server));
        known.extend(in_room.iter().cloned());
        let ordered = order_candidates(&self.server_name, via, None, room, known);
        Ok(self.sort_by_reach(ordered.into_iter().filter(|server| in_room.contains(server)).collect()))
    }

    /// The servers with joined users, the oldest residents first, this one left out.
    ///
    /// # Errors
    /// Storage errors only.
    pub(crate) fn servers_of_room(&self, room: RoomNid) -> Result<Vec<ServerName>, RoomError> {
        let stays = self.rooms.room_servers(room)?;
        let mut servers: Vec<_> = stays
            .iter()
            .filter(|(server, stay)| stay.joined > 0 && **server != self.server_name)
            .map(|(server, stay)| (stay.since, Reverse(stay.joined), server.clone()))
            .collect();
        servers.sort();
        Ok(servers.into_iter().map(|(_, _, server)| server).collect())
    }

    /// Puts servers last that are left alone at present; they may have come back.
    pub(crate) fn sort_by_reach(&self, servers: Vec<ServerName>) -> Vec<ServerName> {
        let (reachable, failed): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|server| self.destinations.check(server).is_ok());
        reachable.into_iter().chain(failed).collect()
    }

    fn find_inviter(&self, room: RoomNid, user: &UserId) -> Result<Option<ServerName>, RoomError> {
        let Some(user) = self.rooms.user_nid(user)? else { return Ok(None) };
        let Some(row) = self.rooms.membership(room, user)? else { return Ok(None) };
        // A membership of a room that nobody here is in may have no event that is stored.
        let Ok(event) = self.rooms.event_at(room, row.seq) else { return Ok(None) };
        Ok(server_of(event.sender()))
    }

    fn servers_of_stripped_state(&self, room: RoomNid, user: &UserId) -> Result<Vec<ServerName>, RoomError> {
        #[derive(Deserialize)]
        struct Sent {
            sender: String,
        }
        let Some(user) = self.rooms.user_nid(user)? else { return Ok(Vec::new()) };
        let state = self.rooms.stripped_state(room, user)?.unwrap_or_default();
        let senders = state.iter().filter_map(|event| serde_json::from_str::<Sent>(event.get()).ok());
        Ok(senders.filter_map(|event| server_of(&event.sender)).collect())
    }

    fn servers_of_inviters(&self, room: RoomNid) -> Result<Vec<ServerName>, RoomError> {
        #[derive(Deserialize)]
        struct Levels {
            #[serde(default)]
            users: serde_json::Map<String, serde_json::Value>,
        }
        let head = self.rooms.head(room)?;
        let Some(create) = head.create() else { return Ok(Vec::new()) };
        let event = head.power_levels().map(|event| &**event);
        let levels = PowerLevels::from_state(event, create, head.rules());
        let listed = event.and_then(|event| event.content::<Levels>().ok()).map(|levels| levels.users);
        let listed = listed.into_iter().flatten().filter_map(|(user, _)| UserId::parse(user).ok());
        let users = levels.creators().iter().cloned().chain([create.sender.clone()]).chain(listed);
        let able = users.filter(|user| levels.user(user).at_least(levels.invite()));
        Ok(able.filter_map(|user| server_of(user.as_str())).collect())
    }
}

/// The server of a user id.
pub(crate) fn server_of(user: &str) -> Option<ServerName> {
    let user = UserId::parse(user).ok()?;
    ServerName::parse(user.server_name()).ok()
}

#[cfg(test)]
mod tests;
