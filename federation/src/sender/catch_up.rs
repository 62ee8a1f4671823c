//! Telling servers what they should have been told while it was not known here that they are in a partial room: changes
//! of our users' devices (MSC3902).

use std::collections::BTreeSet;

use rooms::RoomNid;
use spec::ids::ServerName;
use storage::StreamPos;

use super::follow::Found;
use super::{SendError, Sender};

impl Sender {
    /// Has the follower tell the servers that a room's state has shown to be, or to have been, in it. What is to be done
    /// stands in rows of the room until it is: nothing is lost by a restart.
    pub fn tell_missed(&self, room: RoomNid) {
        self.arrivals.note_missed([room]);
    }

    /// Notes what such servers missed. Returns them.
    pub(super) fn look_at_missed(
        &self,
        rooms: &BTreeSet<RoomNid>,
        found: &mut Found,
    ) -> Result<Vec<(RoomNid, Vec<ServerName>)>, SendError> {
        let mut looked_at = Vec::new();
        for room in rooms {
            let missed = self.rooms.missed_servers(*room)?;
            let mut local = Vec::new();
            if !missed.is_empty() {
                for member in self.rooms.local_members(*room)? {
                    // Who never changed a device has nothing to tell.
                    if self.users.device_list_version(member.user)? > StreamPos::ZERO {
                        local.push(member.user);
                    }
                }
            }
            for (server, since) in missed.iter().filter(|(server, _)| self.destinations.is_allowed(server)) {
                let mut is_concerned = false;
                for user in &local {
                    // It may be out of the room again, or the user.
                    if self.shares_room(*user, server)? {
                        found.whole_lists.insert((server.clone(), *user));
                        is_concerned = true;
                    }
                }
                if is_concerned {
                    let earliest = found.missed_devices.entry(server.clone()).or_insert(*since);
                    *earliest = (*earliest).min(*since);
                }
            }
            looked_at.push((*room, missed.into_iter().map(|(server, _)| server).collect()));
        }
        Ok(looked_at)
    }
}
