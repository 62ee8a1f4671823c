//! What a viewer could do in the room, for decisions that no event stands for.

use spec::power::PowerLevels;

use crate::error::RoomError;
use crate::view::RoomView;

impl RoomView {
    /// Whether the viewer is joined and has the power to send state events of a type now.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn may_set_state(&self, kind: &str) -> Result<bool, RoomError> {
        let head = self.head();
        // A room known only from outside.
        let Some(create) = head.create() else { return Ok(false) };
        let levels = PowerLevels::from_state(head.power_levels().map(|event| &**event), create, head.rules());
        Ok(self.is_joined() && levels.user(&self.viewer_id).at_least(levels.required_for_event(kind, true)))
    }
}
