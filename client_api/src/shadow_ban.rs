//! What shadow-banned users write: it is answered as if it had been done, and reaches nobody.
//!
//! They may read, join and leave as before, and change what is their own. What would reach others ends here, where a
//! client asks for it: events and redactions get an event ID that no event has, invitations, kicks and bans are only
//! said to be done, rooms are made without those who were to be invited, typing, changed profiles and messages to the
//! devices of others are dropped. What they had scheduled is not sent when its time comes (`Users::may_send`).

use rooms::{Membership, RoomError, Rooms};
use spec::ids::RoomId;
use users::Users;

use crate::error::ApiError;
use crate::extract::User;
use crate::send::find_room;

/// The event ID that a shadow-banned user is told for an event of theirs; `None` for anybody else, whose event is sent.
/// A repeated `transaction` gets the same one.
///
/// # Errors
/// As for an event that is sent, where the user is not in the room.
pub(crate) fn pretend_to_send(
    user: &User,
    rooms: &Rooms,
    users: &Users,
    room: &RoomId,
    transaction: Option<&str>,
) -> Result<Option<String>, ApiError> {
    if !user.is_shadow_banned {
        return Ok(None);
    }
    let nid = find_room(rooms, room)?;
    if rooms.membership(nid, user.user)?.map(|row| row.membership) != Some(Membership::Join) {
        return Err(RoomError::NotInRoom.into());
    }
    let scope = transaction.map(|transaction| format!("{} {} {transaction}", user.device.0, nid.0));
    Ok(Some(users.pretend_event_id(user.user, scope.as_deref())))
}
