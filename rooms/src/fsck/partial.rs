//! Checks of partial rooms: what is provisional belongs to a room that says so.

use storage::{Read, Store};

use super::Findings;
use crate::error::RoomError;
use crate::head::HeadRow;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::{
    EVENT_IDS, HEADS, MISSED_SERVERS, PARTIAL_EVENTS, PARTIAL_ROOMS, PARTIAL_SERVERS, RESYNCED_ROOMS, TIMELINE,
};

pub(super) fn check_partial(
    store: &Store,
    room: RoomNid,
    head: &HeadRow,
    place: &str,
    findings: &mut Findings,
) -> Result<(), RoomError> {
    let partial = store.get(&PARTIAL_ROOMS, &room)?;
    if let Some(partial) = &partial {
        let join = store.get(&EVENT_IDS, &partial.join_id.to_string())?;
        findings.expect(join.is_some_and(|join| join.room == room && join.seq == partial.join), place, || {
            format!("the room is partial from event {} on, which is not our join {}", partial.join.0, partial.join_id)
        });
    }
    for key in store.scan(&PARTIAL_EVENTS, &room).keys() {
        let (_, seq) = key?;
        findings.expect(store.contains(&TIMELINE, &(room, seq))?, place, || {
            format!("event {} is marked, and is missing", seq.0)
        });
        findings.expect((RoomSeq::FIRST..head.next_seq).contains(&seq), place, || {
            format!("event {} is marked, and not of the timeline", seq.0)
        });
    }
    let named = store.scan(&PARTIAL_SERVERS, &room).is_empty()?;
    findings.expect(partial.is_some() || named, place, || {
        "servers are said to be in the room, which is not partial".into()
    });
    Ok(())
}

/// Rows of rooms that do not exist.
pub(super) fn check_strays(store: &Store, findings: &mut Findings) -> Result<(), RoomError> {
    let mut rooms = Vec::new();
    for (what, keys) in [
        ("is partial", store.scan(&PARTIAL_ROOMS, &()).keys().collect::<Result<Vec<_>, _>>()?),
        ("was partial", store.scan(&RESYNCED_ROOMS, &()).keys().collect::<Result<Vec<_>, _>>()?),
    ] {
        rooms.extend(keys.into_iter().map(|room| (what, room)));
    }
    for key in store.scan(&MISSED_SERVERS, &()).keys() {
        rooms.push(("has servers that were missed", key?.0));
    }
    for (what, room) in rooms {
        findings.expect(store.contains(&HEADS, &room)?, &format!("room {}", room.0), || {
            format!("it {what}, and does not exist")
        });
    }
    Ok(())
}
