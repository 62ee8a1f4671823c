//! Stripped state: what someone who is not in a room is shown of it (Client-Server API §Stripped state).

use rooms::{Event, EventFlags, Renderer, Rooms, UserNid};
use serde::Deserialize;

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

/// Writes an array: the room's outline as it was at the user's invite or knock, its sender's membership, and the event
/// itself. Of a room that this server is not in, what another server told of it.
pub(crate) fn write_stripped_state(
    rooms: &Rooms,
    member: &Event,
    user: UserNid,
    out: &mut Vec<u8>,
) -> Result<(), SyncError> {
    let room = member.room();
    let mut array = Array::open(out);
    if let Some(told) = rooms.stripped_state(room, user)? {
        let others = told.iter().filter(|event| !is_member_event(event.get(), member.state_key()));
        others.for_each(|event| array.raw(event.get()));
        Renderer::render_stripped(member, array.item());
        array.close();
        return Ok(());
    }
    // An outlier came with the room's state: what was before it is not known.
    let is_outlier = member.flags().has(EventFlags::OUTLIER);
    let snapshot = if is_outlier { rooms.head(room)?.state() } else { member.state_after() };
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

/// Whether a stripped event is the membership of the user with this id.
fn is_member_event(json: &str, user: Option<&str>) -> bool {
    #[derive(Deserialize)]
    struct Keys<'a> {
        #[serde(borrow, rename = "type")]
        kind: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        state_key: std::borrow::Cow<'a, str>,
    }
    let keys: Option<Keys<'_>> = serde_json::from_str(json).ok();
    keys.is_some_and(|keys| keys.kind == "m.room.member" && Some(&*keys.state_key) == user)
}
