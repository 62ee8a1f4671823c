//! Stripped state: what someone who is not in a room is shown of it (Client-Server API §Stripped state).

use rooms::{Event, Renderer, Rooms};

use crate::error::SyncError;
use crate::json::Array;

const SHOWN: &[&str] = &[
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
];

/// Writes an array: the room's outline as it was at an invite or knock, its sender's membership, and the event itself.
pub(crate) fn write_stripped_state(rooms: &Rooms, member: &Event, out: &mut Vec<u8>) -> Result<(), SyncError> {
    let (room, snapshot) = (member.room(), member.state_after());
    let mut array = Array::open(out);
    for kind in SHOWN {
        if let Some(event) = rooms.state_event(room, snapshot, kind, "")? {
            Renderer::render_stripped(&event, array.item());
        }
    }
    if member.state_key() != Some(member.sender())
        && let Some(event) = rooms.state_event(room, snapshot, "m.room.member", member.sender())?
    {
        Renderer::render_stripped(&event, array.item());
    }
    Renderer::render_stripped(member, array.item());
    array.close();
    Ok(())
}
