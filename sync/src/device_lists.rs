//! Whose device lists a client should fetch anew, or need track no longer (Client-Server API
//! §Tracking the device list for a user).

use std::collections::{BTreeMap, BTreeSet};

use rooms::{Membership, RoomNid, TOPIC_MEMBERSHIP, UserNid, UserRoom};
use storage::{StreamPos, Topic};
use users::Session;

use crate::error::SyncError;
use crate::feed::RoomChanges;
use crate::json::{Array, Object};
use crate::sync::Inner;
use crate::timeline::membership_of;

/// The `device_lists` of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceLists {
    pub changed: BTreeSet<UserNid>,
    pub left: BTreeSet<UserNid>,
}

impl DeviceLists {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }
}

fn is_joined(rows: &BTreeMap<RoomNid, UserRoom>, room: &RoomNid) -> bool {
    rows.get(room).is_some_and(|row| row.membership == Membership::Join)
}

impl Inner {
    /// What changed after `since`: lists of users who share a room with the caller, users who have come to share one,
    /// and users who no longer do.
    pub fn read_device_lists(
        &self,
        caller: &Session,
        rows: &BTreeMap<RoomNid, UserRoom>,
        changes: &RoomChanges,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<DeviceLists, SyncError> {
        let mut lists = DeviceLists::default();
        let mut moved = BTreeSet::new();
        match &changes.members {
            Some(members) => moved.extend(members.iter().copied()),
            None => self.look_up_moved(changes, since, until, &mut moved)?,
        }
        if self.feed.may_have_changed(Topic::new(TOPIC_MEMBERSHIP, caller.user.0), since) {
            for (room, row) in rows.iter().filter(|(_, row)| row.pos > since && row.pos <= until) {
                // Everyone in a room that the caller came to, or left.
                if row.was_joined() {
                    moved.extend(self.rooms.joined_members(*room)?.iter().map(|member| (*room, *member)));
                }
            }
        }
        for room in changes.timelines.iter().filter(|room| is_joined(rows, room)) {
            let found = self.rooms.members_found_between(*room, since, until)?;
            lists.changed.extend(found.iter().copied().filter(|member| *member != caller.user));
        }
        for (room, member) in moved {
            self.sort_in(caller, room, member, since, &mut lists)?;
        }
        for user in self.users.users_with_changed_devices(caller.user, since, until)? {
            if user == caller.user || self.rooms.shares_room(caller.user, user)? {
                lists.changed.insert(user);
            }
        }
        Ok(lists)
    }

    fn look_up_moved(
        &self,
        changes: &RoomChanges,
        since: StreamPos,
        until: StreamPos,
        moved: &mut BTreeSet<(RoomNid, UserNid)>,
    ) -> Result<(), SyncError> {
        for &room in &changes.timelines {
            for seq in self.rooms.state_changes(room, since, until)? {
                let event = self.rooms.event_at(room, seq)?;
                let target = event.state_key().filter(|_| event.kind() == "m.room.member");
                let Some(target) = target.and_then(|target| spec::ids::UserId::parse(target).ok()) else { continue };
                moved.extend(self.rooms.user_nid(&target)?.map(|target| (room, target)));
            }
        }
        Ok(())
    }

    fn sort_in(
        &self,
        caller: &Session,
        room: RoomNid,
        member: UserNid,
        since: StreamPos,
        lists: &mut DeviceLists,
    ) -> Result<(), SyncError> {
        if member == caller.user {
            return Ok(());
        }
        if !self.rooms.shares_room(caller.user, member)? {
            lists.left.insert(member);
        } else if self.has_come(caller, room, member, since)? {
            lists.changed.insert(member);
        }
        Ok(())
    }

    /// Whether two users are in the room together, and were not at `since`. A new profile brings nobody.
    fn has_come(&self, caller: &Session, room: RoomNid, member: UserNid, since: StreamPos) -> Result<bool, SyncError> {
        for user in [caller.user, member] {
            let Some(row) = self.rooms.membership(room, user)? else { return Ok(false) };
            if row.membership != Membership::Join {
                return Ok(false);
            }
            let mut next = Some(row.seq).filter(|_| row.pos > since);
            while let Some(seq) = next {
                let event = self.rooms.event_at(room, seq)?;
                if membership_of(&event) != Some(Membership::Join) {
                    return Ok(true);
                }
                if event.pos() <= since {
                    break;
                }
                next = event.replaces();
                if next.is_none() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    pub fn write_device_lists(&self, lists: &DeviceLists, out: &mut Vec<u8>) -> Result<(), SyncError> {
        let mut object = Object::open(out);
        for (name, users) in [("changed", &lists.changed), ("left", &lists.left)] {
            let mut array = Array::open(object.key(name));
            for user in users {
                array.text(self.rooms.user_id(*user)?.as_str());
            }
            array.close();
        }
        object.close();
        Ok(())
    }
}
