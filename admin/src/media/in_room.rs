//! Which media a room's events name.

use std::collections::BTreeSet;

use ::media::Mxc;
use rooms::{RoomNid, RoomSeq, Rooms};
use serde_json::Value;

use crate::error::AdminError;

/// How many events are read at a time.
const PAGE: usize = 500;
/// How deep the content of an event is looked into.
const MAX_DEPTH: usize = 16;

/// The media that the content of an event names, in whatever field: the text of it in JSON.
#[must_use]
pub(super) fn find_media(content: &str) -> BTreeSet<Mxc> {
    let mut found = BTreeSet::new();
    if content.contains("mxc:") {
        collect(&serde_json::from_str(content).unwrap_or_default(), MAX_DEPTH, &mut found);
    }
    found
}

fn collect(value: &Value, depth: usize, found: &mut BTreeSet<Mxc>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::String(text) => found.extend(Mxc::parse(text)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, depth, found)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, depth, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The media that the next few hundred events of a room after `after` name, and where to go on; none at the end. What is
/// in encrypted events cannot be seen, and pictures of members are theirs rather than the room's.
///
/// # Errors
/// Storage errors only.
pub(crate) fn next_media(
    rooms: &Rooms,
    room: RoomNid,
    after: RoomSeq,
) -> Result<(BTreeSet<Mxc>, Option<RoomSeq>), AdminError> {
    let events = rooms.readable_events_after(room, after, PAGE)?;
    let next = events.last().filter(|_| events.len() == PAGE).map(rooms::Event::seq);
    let told = events.iter().filter(|event| !matches!(event.kind(), "m.room.member" | "m.room.encrypted"));
    Ok((told.flat_map(|event| find_media(event.content())).collect(), next))
}

/// All media that a room's events name. Reads the whole room.
///
/// # Errors
/// Storage errors only.
pub(crate) async fn all_media(rooms: &Rooms, room: RoomNid) -> Result<BTreeSet<Mxc>, AdminError> {
    let mut found = BTreeSet::new();
    let mut place = Some(RoomSeq::MIN);
    while let Some(after) = place {
        let (media, next) = next_media(rooms, room, after)?;
        found.extend(media);
        place = next;
        tokio::task::yield_now().await;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_wherever_they_stand() {
        let content = r#"{"url":"mxc://a.b/1","info":{"thumbnail_file":{"url":"mxc://a.b/2"}},"images":[{"x":"mxc://c.d/3"}],
            "body":"see mxc://a.b/4","bad":"mxc://a.b/../5"}"#;
        let found: Vec<String> = find_media(content).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["mxc://a.b/1", "mxc://a.b/2", "mxc://c.d/3"]);
        assert!(find_media("{").is_empty() && find_media("no JSON, mxc://").is_empty());
        let deep = format!("{}\"mxc://a.b/1\"{}", "[".repeat(40), "]".repeat(40));
        assert!(find_media(&deep).is_empty());
    }
}
