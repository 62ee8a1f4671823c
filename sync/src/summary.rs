//! Heroes: whom a room without a name is named after (Client-Server API §Calculating the display name for a room).

use rooms::{Membership, RoomNid, Rooms, SnapshotId, UserNid};
use serde::Deserialize;

use crate::error::SyncError;

const HEROES: usize = 5;
/// Above this many members, heroes are taken from those joined, in the order in which this server came to know them.
const SORTED_MEMBERS: u32 = 100;

/// A text member of the content of a state event with an empty state key, if there is one and it is not empty.
pub(crate) fn state_text(
    rooms: &Rooms,
    room: RoomNid,
    snapshot: SnapshotId,
    kind: &str,
    read: impl FnOnce(&str) -> Option<String>,
) -> Result<Option<String>, SyncError> {
    let event = rooms.state_event(room, snapshot, kind, "")?;
    Ok(event.and_then(|event| read(event.content())).filter(|text| !text.is_empty()))
}

macro_rules! content_field {
    ($(#[$doc:meta])* $function:ident, $field:ident) => {
        $(#[$doc])*
        pub(crate) fn $function(content: &str) -> Option<String> {
            #[derive(Deserialize)]
            struct Content {
                $field: Option<String>,
            }
            serde_json::from_str::<Content>(content).ok()?.$field
        }
    };
}
content_field!(
    /// `name` of `m.room.name`.
    name_of, name
);
content_field!(
    /// `alias` of `m.room.canonical_alias`.
    alias_of, alias
);
content_field!(
    /// `url` of `m.room.avatar`.
    avatar_of, url
);

/// The heroes of a room that has neither name nor alias; `None` if it has one.
pub(crate) fn find_heroes(
    rooms: &Rooms,
    room: RoomNid,
    snapshot: SnapshotId,
    user: UserNid,
) -> Result<Option<Vec<UserNid>>, SyncError> {
    let is_named = state_text(rooms, room, snapshot, "m.room.name", name_of)?.is_some()
        || state_text(rooms, room, snapshot, "m.room.canonical_alias", alias_of)?.is_some();
    if is_named { Ok(None) } else { choose_heroes(rooms, room, user).map(Some) }
}

/// The first members besides the user: joined or invited ones, else those who left.
pub(crate) fn choose_heroes(rooms: &Rooms, room: RoomNid, user: UserNid) -> Result<Vec<UserNid>, SyncError> {
    let head = rooms.head(room)?;
    if head.joined_count() > SORTED_MEMBERS {
        let joined = rooms.joined_members(room)?;
        return Ok(joined.iter().copied().filter(|member| *member != user).take(HEROES).collect());
    }
    let mut members = rooms.members(room)?;
    members.retain(|(member, membership, _)| *member != user && *membership != Membership::Knock);
    let gone = |membership: Membership| matches!(membership, Membership::Leave | Membership::Ban);
    if members.iter().any(|(_, membership, _)| !gone(*membership)) {
        members.retain(|(_, membership, _)| !gone(*membership));
    }
    members.sort_unstable_by_key(|(_, _, seq)| *seq);
    Ok(members.into_iter().take(HEROES).map(|(member, _, _)| member).collect())
}
