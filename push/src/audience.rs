//! Who has pushers, and in which rooms they are: what decides whether an event is looked at at all.

use std::collections::HashMap;

use rooms::{RoomNid, UserNid};

use crate::rows::PusherKey;

/// Users with pushers. A room without any of them costs one look into a map, however many members it has.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    users: HashMap<UserNid, Listener>,
    /// Sorted, and none of them empty.
    rooms: HashMap<RoomNid, Vec<UserNid>>,
}

/// A user with pushers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Their pushers that are switched on.
    pub pushers: Vec<PusherKey>,
    /// The rooms that they are joined to, sorted.
    pub rooms: Vec<RoomNid>,
}

impl Audience {
    /// Replaces what is known of a user; without pushers they are forgotten. Gives back what was known.
    pub fn set(&mut self, user: UserNid, listener: Listener) -> Listener {
        let listener = if listener.pushers.is_empty() { Listener::default() } else { listener };
        let old = self.users.remove(&user).unwrap_or_default();
        for room in old.rooms.iter().filter(|room| listener.rooms.binary_search(room).is_err()) {
            self.remove(*room, user);
        }
        for room in listener.rooms.iter().filter(|room| old.rooms.binary_search(room).is_err()) {
            let members = self.rooms.entry(*room).or_default();
            if let Err(index) = members.binary_search(&user) {
                members.insert(index, user);
            }
        }
        if !listener.pushers.is_empty() {
            self.users.insert(user, listener);
        }
        old
    }

    fn remove(&mut self, room: RoomNid, user: UserNid) {
        let Some(members) = self.rooms.get_mut(&room) else { return };
        if let Ok(index) = members.binary_search(&user) {
            members.remove(index);
        }
        if members.is_empty() {
            self.rooms.remove(&room);
        }
    }

    /// The pushers of a user.
    pub fn pushers(&self, user: UserNid) -> &[PusherKey] {
        self.users.get(&user).map_or(&[], |listener| &listener.pushers)
    }

    /// The users with pushers who are joined to a room.
    pub fn members(&self, room: RoomNid) -> &[UserNid] {
        self.rooms.get(&room).map_or(&[], |members| members)
    }

    /// Whether anybody has pushers.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Everybody with pushers.
    pub fn users(&self) -> impl Iterator<Item = UserNid> + '_ {
        self.users.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(rooms: &[u64]) -> Listener {
        let pusher = PusherKey { user: UserNid(1), app_id: "app".into(), pushkey: "key".into() };
        Listener { pushers: vec![pusher], rooms: rooms.iter().map(|room| RoomNid(*room)).collect() }
    }

    #[test]
    fn rooms_are_known_while_a_listener_is_in_them() {
        let mut audience = Audience::default();
        audience.set(UserNid(1), listener(&[1, 2]));
        audience.set(UserNid(2), listener(&[2]));
        assert_eq!(audience.members(RoomNid(2)), [UserNid(1), UserNid(2)]);
        audience.set(UserNid(1), listener(&[1, 3]));
        assert_eq!(audience.members(RoomNid(2)), [UserNid(2)]);
        assert_eq!(audience.members(RoomNid(3)), [UserNid(1)]);
        let without = Listener { pushers: Vec::new(), ..listener(&[1]) };
        assert_eq!(audience.set(UserNid(1), without), listener(&[1, 3]));
        audience.set(UserNid(2), Listener::default());
        assert!(audience.is_empty() && audience.rooms.is_empty());
    }
}
