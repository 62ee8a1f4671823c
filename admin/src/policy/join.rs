//! The server's user enters and leaves the rooms of lists.

use rooms::{Membership, MembershipChange, RoomError};
use serde_json::Map;
use spec::ids::{RoomAlias, RoomId, ServerName, UserId};

use crate::admin::Admin;
use crate::error::AdminError;

/// The room of an id or an alias, which may be another server's, and the servers that the alias names.
///
/// # Errors
/// `Invalid` for neither; `NotFound`; `Unavailable` if the alias's server does not answer.
pub(super) async fn find_room(admin: &Admin, room: &str) -> Result<(RoomId, Vec<ServerName>), AdminError> {
    if !room.starts_with('#') {
        let id = RoomId::parse(room).map_err(|_| AdminError::invalid(format!("{room:?} is not a room")))?;
        return Ok((id, Vec::new()));
    }
    let alias = RoomAlias::parse(room).map_err(|_| AdminError::invalid(format!("{room:?} is not an alias")))?;
    if alias.server_name() == admin.rooms().server_name().as_str() {
        return Ok((admin.rooms().find_alias(&alias)?.0, Vec::new()));
    }
    let remote = admin.ports().remote_rooms.as_ref();
    let remote = remote.ok_or_else(|| AdminError::unavailable("this server does not reach other servers"))?;
    Ok(remote.resolve_alias(&alias).await?)
}

/// Has the server's user join a room, here or through other servers.
///
/// # Errors
/// What the room or the other servers say.
pub(super) async fn join(admin: &Admin, user: &UserId, room: &RoomId, via: &[ServerName]) -> Result<(), AdminError> {
    match change(admin, user, room, Membership::Join).await {
        Err(RoomError::NotResident | RoomError::RoomNotFound) => {}
        result => return Ok(result?),
    }
    match &admin.ports().remote_rooms {
        Some(remote) => Ok(remote.join(user, room, via, Map::new()).await?),
        None => Err(AdminError::not_found("this server does not know the room")),
    }
}

/// Has the server's user leave a room. In which it is not, nothing happens.
///
/// # Errors
/// What the room or the other servers say.
pub(super) async fn leave(admin: &Admin, user: &UserId, room: &RoomId) -> Result<(), AdminError> {
    let (Some(nid), Some(user_nid)) = (admin.rooms().room_nid(room)?, admin.rooms().user_nid(user)?) else {
        return Ok(());
    };
    let membership = admin.rooms().membership(nid, user_nid)?.map(|row| row.membership);
    if membership != Some(Membership::Join) {
        return Ok(());
    }
    Ok(change(admin, user, room, Membership::Leave).await?)
}

async fn change(admin: &Admin, user: &UserId, room: &RoomId, membership: Membership) -> Result<(), RoomError> {
    let change = MembershipChange { sender: user.clone(), target: user.clone(), membership, content: Map::new() };
    admin.rooms().change_membership(room, change).await
}
