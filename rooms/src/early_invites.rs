//! Invitations of users who seem joined here: the event that ended their stay is still on its way, or came to nothing
//! while a room was partial. They are kept, and shown if this server turns out to be out of the room.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spec::ids::{EventId, UserId};
use spec::pdu::Pdu;
use storage::{Read, stored};

use crate::append::Append;
use crate::error::RoomError;
use crate::ids::{RoomNid, UserNid};
use crate::keyspaces::{EARLY_INVITES, STRIPPED};
use crate::membership::Membership;
use crate::rooms::Rooms;

/// See [`EARLY_INVITES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EarlyInvite {
    event_id: Box<str>,
    /// The event, signed by both servers.
    json: Vec<u8>,
    /// What was told of the room: see [`STRIPPED`].
    stripped: Vec<u8>,
}
stored!(EarlyInvite, 1);

/// What is to be done with a kept invitation.
enum Fate {
    /// The user seems joined still, or somebody else of this server is, so that the event comes with the room's others.
    Waits,
    /// The user's membership has changed since, by this event or another.
    IsOver,
    /// Nobody here is in the room, and the invitation is the last that is known.
    Shows,
}

impl Rooms {
    /// Whether an invitation of the user is told by the room's other events: this server is in the room, and the user is
    /// not, so that nothing speaks against the event when it comes.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn hears_of_invitation(&self, room: RoomNid, user: &UserId) -> Result<bool, RoomError> {
        let user = self.user_nid(user)?;
        let row = user.map(|user| self.membership(room, user)).transpose()?.flatten();
        Ok(self.is_resident(room)? && row.is_none_or(|row| row.membership != Membership::Join))
    }

    /// Looks again at all invitations that are kept. To be called once at the start: later each change of members does.
    ///
    /// # Errors
    /// Storage errors; [`RoomError::Busy`].
    pub fn look_at_early_invites(&self) -> Result<(), RoomError> {
        let mut rooms = Vec::new();
        for key in self.store.scan(&EARLY_INVITES, &()).keys() {
            rooms.push(key?.0);
        }
        rooms.dedup();
        rooms.into_iter().try_for_each(|room| self.show_early_invites(room))
    }

    /// Has the room's writer look at the invitations that are kept, if there are any.
    pub(crate) fn show_early_invites(&self, room: RoomNid) -> Result<(), RoomError> {
        if self.store.scan(&EARLY_INVITES, &room).is_empty()? {
            return Ok(());
        }
        self.submit_unwatched(room, "showing invitations", |append| append.show_early_invites())
    }
}

impl Append<'_> {
    /// Keeps an invitation of a user who seems joined, unless it is older than what makes them so.
    pub(crate) fn keep_early_invite(
        &mut self,
        pdu: &Arc<Pdu>,
        user: UserNid,
        stripped: Vec<u8>,
    ) -> Result<(), RoomError> {
        if !matches!(self.fate_of(pdu, user)?, Fate::Waits) {
            return Ok(());
        }
        let row = EarlyInvite { event_id: pdu.event_id.as_str().into(), json: pdu.json.to_vec(), stripped };
        self.batch.put(&EARLY_INVITES, &(self.head.room, user), &row);
        Ok(())
    }

    fn show_early_invites(&mut self) -> Result<(), RoomError> {
        let room = self.head.room;
        let kept: Vec<_> = self.rooms.store.scan(&EARLY_INVITES, &room).iter().collect::<Result<_, _>>()?;
        for (key, row) in kept {
            let user = key.1;
            let id = EventId::parse(&row.event_id).map_err(|_| RoomError::Inconsistent("malformed event id"))?;
            let pdu = Arc::new(Pdu::from_trusted(id, &row.json)?);
            match self.fate_of(&pdu, user)? {
                Fate::Waits => continue,
                Fate::IsOver => {}
                Fate::Shows => {
                    self.place_outside(&pdu, user, Membership::Invite)?;
                    self.batch.put(&STRIPPED, &(room, user), &row.stripped);
                }
            }
            self.batch.delete(&EARLY_INVITES, &key);
        }
        Ok(())
    }

    fn fate_of(&self, pdu: &Pdu, user: UserNid) -> Result<Fate, RoomError> {
        let is_resident = self.rooms.is_resident(self.head.room)?;
        let Some(row) = self.member_row(user)? else {
            return Ok(if is_resident { Fate::Waits } else { Fate::Shows });
        };
        let since = self.stored(row.seq)?.pdu.depth;
        Ok(match row.membership {
            _ if since >= pdu.depth => Fate::IsOver,
            _ if is_resident => Fate::Waits,
            Membership::Leave => Fate::Shows,
            _ => Fate::IsOver,
        })
    }
}
