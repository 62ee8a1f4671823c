//! What someone who is not in a room is shown of it, in the format of servers: whole events, so that they can be
//! verified (Server-Server API §Inviting to a room, §Knocking upon a room; Client-Server API §Stripped state).

use rooms::{RoomError, RoomNid};
use serde_json::value::RawValue;

use crate::Federation;

/// The state that is shown. The create event comes first: the id of newer rooms follows from it.
const SHOWN: [&str; 7] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
];

/// The room's outline as it is now.
///
/// # Errors
/// Storage errors only.
pub(crate) fn read_outline(federation: &Federation, room: RoomNid) -> Result<Vec<Box<RawValue>>, RoomError> {
    let state = federation.rooms.head(room)?.state();
    let mut events = Vec::with_capacity(SHOWN.len());
    for kind in SHOWN {
        if let Some(event) = federation.rooms.state_event(room, state, kind, "")? {
            let json = RawValue::from_string(event.json().to_owned());
            events.push(json.map_err(|_| RoomError::Inconsistent("a stored event is no JSON"))?);
        }
    }
    Ok(events)
}
