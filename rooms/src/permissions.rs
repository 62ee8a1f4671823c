//! What a viewer could do in the room, for decisions that no event stands for.

use spec::ids::UserId;
use spec::power::PowerLevels;

use crate::error::RoomError;
use crate::head::Head;
use crate::ids::RoomNid;
use crate::membership::Membership;
use crate::rooms::Rooms;
use crate::view::RoomView;

/// Who has which power in a room now; `None` for a room known only from outside.
pub(crate) fn levels(head: &Head) -> Option<PowerLevels> {
    let create = head.create()?;
    Some(PowerLevels::from_state(head.power_levels().map(|event| &**event), create, head.rules()))
}

impl RoomView {
    /// Whether the viewer is joined and has the power to send state events of a type now.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn may_set_state(&self, kind: &str) -> Result<bool, RoomError> {
        let head = self.head();
        let Some(levels) = levels(head) else { return Ok(false) };
        Ok(self.is_joined() && levels.user(&self.viewer_id).at_least(levels.required_for_event(kind, true)))
    }
}

impl Rooms {
    /// Whether a user is joined and has the power to ban another, who need not be in the room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn may_ban(&self, room: RoomNid, user: &UserId, target: &UserId) -> Result<bool, RoomError> {
        let (head, nid) = (self.head(room)?, self.user_nid(user)?);
        let row = nid.map(|nid| self.membership(room, nid)).transpose()?.flatten();
        let Some(levels) = levels(&head).filter(|_| row.is_some_and(|row| row.membership == Membership::Join)) else {
            return Ok(false);
        };
        let power = levels.user(user);
        Ok(power.at_least(levels.ban()) && levels.user(target) < power)
    }
}
