//! Checks of what is kept about servers in rooms, and about rooms that this server is not in.

use std::collections::BTreeMap;

use spec::ids::UserId;
use storage::{Read, Store};

use super::Findings;
use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::ids::RoomNid;
use crate::keyspaces::{EVENT_IDS, ROOM_MEMBERS, ROOM_SERVERS, SERVER_MEMBERS, SERVER_ROOMS, STRIPPED, USER_IDS};
use crate::membership::Membership;

/// Whether a member event is one that only stands for a membership of a room that this server is not in: no state
/// has it, and it is not found by its id.
pub(super) fn is_outside(store: &Store, event: &Event) -> Result<bool, RoomError> {
    let found = store.get(&EVENT_IDS, &event.event_id().to_owned())?;
    let is_found = found.is_some_and(|found| found.room == event.room() && found.seq == event.seq());
    Ok(event.flags().has(EventFlags::OUTLIER) && !is_found)
}

/// The servers of a room, against its members.
pub(super) fn check_room_servers(
    store: &Store,
    room: RoomNid,
    place: &str,
    findings: &mut Findings,
) -> Result<(), RoomError> {
    let mut joined: BTreeMap<String, u32> = BTreeMap::new();
    for row in store.scan(&ROOM_MEMBERS, &room).iter() {
        let ((_, user), row) = row?;
        let id = store.get(&USER_IDS, &user)?.and_then(|id| UserId::parse(id).ok());
        let Some(id) = id else { continue };
        let server = id.server_name().to_owned();
        findings.expect(store.contains(&SERVER_MEMBERS, &(room, server.clone(), user))?, place, || {
            format!("member {id} is not among those of their server")
        });
        if row.membership == Membership::Join {
            *joined.entry(server).or_default() += 1;
        }
    }
    for row in store.scan(&ROOM_SERVERS, &room).iter() {
        let ((_, server), stay) = row?;
        let counted = joined.remove(&server).unwrap_or_default();
        findings.expect(stay.joined == counted, place, || {
            format!("{counted} users of {server} are joined, and {} are counted", stay.joined)
        });
        findings.expect((stay.joined == 0) == stay.until.is_some(), place, || {
            format!("{server} has {} joined users and left at {:?}", stay.joined, stay.until)
        });
        let listed = store.contains(&SERVER_ROOMS, &(server.clone(), room))?;
        findings.expect(listed == (stay.joined > 0), place, || {
            format!("{server} has {} joined users, and the room is in its list: {listed}", stay.joined)
        });
    }
    for server in joined.keys() {
        findings.add(place, format!("users of {server} are joined, and it is not among the servers"));
    }
    Ok(())
}

/// Rows that belong to no room that was checked, or to no membership.
pub(super) fn check_strays(store: &Store, findings: &mut Findings) -> Result<(), RoomError> {
    for key in store.scan(&SERVER_ROOMS, &()).keys() {
        let (server, room) = key?;
        let known = store.contains(&ROOM_SERVERS, &(room, server.clone()))?;
        findings.expect(known, &server, || format!("it is in room {}, which does not know it", room.0));
    }
    for key in store.scan(&STRIPPED, &()).keys() {
        let (room, user) = key?;
        let row = store.get(&ROOM_MEMBERS, &(room, user))?;
        let waits = row.is_some_and(|row| matches!(row.membership, Membership::Invite | Membership::Knock));
        findings.expect(waits, &format!("room {}", room.0), || {
            format!("state is kept for user {}, who is neither invited nor knocking", user.0)
        });
    }
    Ok(())
}
