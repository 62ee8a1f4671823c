//! Whom a user began or ceased to share rooms with, for the tracking of device lists
//! (Client-Server API §"Tracking the device list for a user").

use std::collections::BTreeSet;

use spec::ids::UserId;
use storage::StreamPos;

use crate::error::RoomError;
use crate::ids::{RoomNid, UserNid};
use crate::membership::Membership;
use crate::rooms::Rooms;

impl Rooms {
    /// The users that `user` may have begun to share a room with after `since` and up to `until`, and those that they
    /// shared one with then and share none with now.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn encounters_since(
        &self,
        user: UserNid,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<(BTreeSet<UserNid>, BTreeSet<UserNid>), RoomError> {
        let (mut met, mut parted) = (BTreeSet::new(), BTreeSet::new());
        for (&room, row) in self.user_rooms(user)?.iter() {
            let own_change = row.pos > since && row.pos <= until;
            if row.membership == Membership::Join {
                self.collect_member_changes(room, since, until, &mut met, &mut parted)?;
                met.extend(self.members_found_between(room, since, until)?.iter().copied());
            }
            if own_change && row.was_joined() {
                let affected = if row.membership == Membership::Join { &mut met } else { &mut parted };
                affected.extend(self.joined_members(room)?.iter().copied());
            }
        }
        met.remove(&user);
        parted.remove(&user);
        let mut apart = BTreeSet::new();
        for other in parted {
            if !self.shares_room(user, other)? {
                apart.insert(other);
            }
        }
        met.retain(|other| !apart.contains(other));
        Ok((met, apart))
    }

    fn collect_member_changes(
        &self,
        room: RoomNid,
        since: StreamPos,
        until: StreamPos,
        joined: &mut BTreeSet<UserNid>,
        left: &mut BTreeSet<UserNid>,
    ) -> Result<(), RoomError> {
        for seq in self.state_changes(room, since, until)? {
            let event = self.event_at(room, seq)?;
            if event.kind() != "m.room.member" {
                continue;
            }
            let Some(member) = event.state_key().and_then(|key| UserId::parse(key).ok()) else { continue };
            let Some(member) = self.user_nid(&member)? else { continue };
            match crate::visibility::membership_of(&event) {
                Some(Membership::Join) => joined.insert(member),
                _ => left.insert(member),
            };
        }
        Ok(())
    }
}
