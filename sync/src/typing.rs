//! Typing as `m.typing` events (Client-Server API §Typing Notifications).

use rooms::{Rooms, UserNid};

use crate::error::SyncError;
use crate::json::{Array, Object};

/// Writes who types.
pub(crate) fn write_typing(rooms: &Rooms, typing: &[UserNid], out: &mut Vec<u8>) -> Result<(), SyncError> {
    let mut event = Object::open(out);
    let mut content = Object::open(event.key("content"));
    let mut users = Array::open(content.key("user_ids"));
    for user in typing {
        users.text(rooms.user_id(*user)?.as_str());
    }
    users.close();
    content.close();
    event.text("type", "m.typing");
    event.close();
    Ok(())
}
