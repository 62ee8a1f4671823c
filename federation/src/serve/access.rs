//! Who may ask about which room.

use rooms::{RoomError, RoomNid, ServerView};
use spec::ids::{RoomId, ServerName};

use crate::Federation;
use crate::inbound::error::ServeError;

/// A room that is known here and whose access control list lets the server take part (Server-Server API §Server Access
/// Control Lists).
///
/// # Errors
/// `M_NOT_FOUND`; `M_FORBIDDEN`.
pub(crate) fn find_room(federation: &Federation, room_id: &RoomId, origin: &ServerName) -> Result<RoomNid, ServeError> {
    let room = federation.rooms.room_nid(room_id)?.ok_or(RoomError::RoomNotFound)?;
    if !federation.rooms.is_server_allowed(room, origin)? {
        tracing::debug!(%room_id, %origin, "a server is kept out by the room's access control list");
        return Err(ServeError::forbidden("the room's access control list keeps your server out"));
    }
    Ok(room)
}

/// As [`find_room`], of a room that this server is in, so that it can let others in.
///
/// # Errors
/// As [`find_room`].
pub(crate) fn find_resident_room(
    federation: &Federation,
    room_id: &RoomId,
    origin: &ServerName,
) -> Result<RoomNid, ServeError> {
    let room = find_room(federation, room_id, origin)?;
    if federation.rooms.is_resident(room)? { Ok(room) } else { Err(RoomError::NotResident.into()) }
}

/// What the server may see of a room.
///
/// # Errors
/// As [`find_room`]; `M_FORBIDDEN` if the server is not in the room.
pub(crate) fn view_room(
    federation: &Federation,
    room_id: &RoomId,
    origin: &ServerName,
) -> Result<ServerView, ServeError> {
    find_room(federation, room_id, origin)?;
    Ok(federation.rooms.as_server(room_id, origin)?)
}

/// The servers that are in a room.
///
/// # Errors
/// Storage errors only.
pub(crate) fn joined_servers(federation: &Federation, room: RoomNid) -> Result<Vec<ServerName>, ServeError> {
    let servers = federation.rooms.room_servers(room)?;
    Ok(servers.iter().filter(|(_, stay)| stay.joined > 0).map(|(server, _)| server.clone()).collect())
}
