//! What guests may do in rooms (Client-Server API §"Guest access").

use http::StatusCode;
use rooms::{Membership, MembershipChange, RoomNid, Rooms};
use runtime::Tasks;
use serde::Deserialize;
use serde_json::Map;
use spec::ids::RoomId;
use users::{AccountKind, Users};

use crate::error::ApiError;
use crate::extract::User;

#[derive(Deserialize)]
struct GuestAccess<'a> {
    guest_access: &'a str,
}

/// Whether the room lets guests in.
///
/// # Errors
/// Storage errors only.
fn admits_guests(rooms: &Rooms, room: RoomNid) -> Result<bool, ApiError> {
    let head = rooms.head(room)?;
    let event = rooms.state_event(room, head.state(), "m.room.guest_access", "")?;
    let access = event.as_ref().and_then(|event| event.content_as::<GuestAccess<'_>>());
    Ok(access.is_some_and(|access| access.guest_access == "can_join"))
}

/// Refuses a guest who wants to join a room that does not let guests in.
///
/// # Errors
/// `M_GUEST_ACCESS_FORBIDDEN`.
pub(crate) fn check_guest_access(user: &User, rooms: &Rooms, room: &RoomId) -> Result<(), ApiError> {
    if !user.is_guest {
        return Ok(());
    }
    match rooms.room_nid(room)? {
        Some(room) if admits_guests(rooms, room)? => Ok(()),
        _ => {
            let message = "this room does not let guests in";
            Err(ApiError::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", message))
        }
    }
}

/// After a change of `m.room.guest_access`: makes this server's guests leave, in the background, if they may be in the
/// room no longer.
pub(crate) fn remove_guests(rooms: &Rooms, users: &Users, tasks: &Tasks, room: RoomNid) {
    let (rooms, users) = (rooms.clone(), users.clone());
    tasks.spawn("guests leaving", async move {
        if let Err(error) = leave_as_guests(&rooms, &users, room).await {
            tracing::warn!(room = room.0, %error, "guests were not made to leave a room");
        }
    });
}

async fn leave_as_guests(rooms: &Rooms, users: &Users, room: RoomNid) -> Result<(), ApiError> {
    if admits_guests(rooms, room)? {
        return Ok(());
    }
    let room_id = rooms.room_id(room)?;
    for member in rooms.joined_members(room)?.iter() {
        let Some(account) = users.account(*member)?.filter(|account| account.kind == AccountKind::Guest) else {
            continue;
        };
        let (sender, target) = (account.user_id.clone(), account.user_id);
        let change = MembershipChange { sender, target, membership: Membership::Leave, content: Map::new() };
        rooms.change_membership(&room_id, change).await?;
    }
    Ok(())
}
