//! The job that takes a room away: a new room, everybody leaves, the rows go.

use rooms::{CreateRoom, Draft, Membership, MembershipChange, Preset, RoomError, RoomNid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, UserId};

use crate::admin::Admin;
use crate::error::AdminError;
use crate::jobs::{JobKind, Progress, Step};

/// How many users leave in one step.
const USERS: usize = 10;
/// How many users are named in the result: it is one row.
const NAMED: usize = 250;
/// How long other servers have to be told that everybody left, before it is forgotten who they are.
const TELLING_MS: u64 = 60_000;
/// How long a step waits for that.
const WAIT: std::time::Duration = std::time::Duration::from_millis(500);
/// The most characters of a name or a message of the new room.
const MAX_TEXT: usize = 10_000;

/// The job.
pub(crate) struct DeleteRoom;

/// What is to be done. Stored as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeleteArguments {
    pub room: String,
    pub block: bool,
    pub purge: bool,
    pub force_purge: bool,
    pub new_room: Option<NewRoom>,
    pub by: Option<String>,
}

/// The room into which users are moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewRoom {
    pub user: String,
    pub name: String,
    pub message: String,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    #[default]
    Begin,
    Leaving,
    Telling,
    Purging,
}

/// Where the next step begins. Stored as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DeleteCursor {
    stage: Stage,
    /// The number of the room, if it is known here.
    room: Option<u64>,
    new_room_id: Option<String>,
    /// Users up to this number were asked to leave.
    after: u64,
    left: u64,
    /// Who left, and who could not: the first of them.
    kicked: Vec<String>,
    failed: Vec<String>,
    aliases: Vec<String>,
    since_ms: u64,
    steps: u64,
}

impl DeleteCursor {
    /// Whether everybody has left, and the rows go.
    pub(crate) fn is_purging(&self) -> bool {
        self.stage == Stage::Purging
    }

    /// What is told of it, under way and afterwards.
    pub(crate) fn shutdown(&self) -> Value {
        json!({
            "kicked_users": self.kicked,
            "failed_to_kick_users": self.failed,
            "local_aliases": self.aliases,
            "new_room_id": self.new_room_id,
        })
    }
}

impl JobKind for DeleteRoom {
    const NAME: &'static str = "delete-room";
    type Arguments = DeleteArguments;
    type Cursor = DeleteCursor;

    fn target(arguments: &DeleteArguments) -> Option<String> {
        Some(arguments.room.clone())
    }

    async fn step(
        admin: &Admin,
        arguments: &DeleteArguments,
        mut cursor: DeleteCursor,
    ) -> Result<Step<DeleteCursor>, AdminError> {
        let room_id = RoomId::parse(&arguments.room).map_err(|error| AdminError::invalid(error.to_string()))?;
        cursor.steps += 1;
        match cursor.stage {
            Stage::Begin => begin(admin, arguments, &room_id, cursor).await,
            Stage::Leaving => leave(admin, arguments, cursor).await,
            Stage::Telling => tell(admin, arguments, cursor).await,
            Stage::Purging => purge(admin, cursor).await,
        }
    }
}

fn room_of(cursor: &DeleteCursor) -> Result<RoomNid, AdminError> {
    cursor.room.map(RoomNid).ok_or_else(|| AdminError::internal("a deletion has lost its room"))
}

async fn begin(
    admin: &Admin,
    arguments: &DeleteArguments,
    room_id: &RoomId,
    mut cursor: DeleteCursor,
) -> Result<Step<DeleteCursor>, AdminError> {
    let rooms = admin.rooms();
    if arguments.block {
        let by = arguments.by.as_ref().and_then(|by| UserId::parse(by).ok());
        rooms.block_room(room_id, by.as_ref(), None).await?;
    }
    let Some(room) = rooms.room_nid(room_id)? else { return Ok(Step::Done(cursor.shutdown())) };
    cursor.room = Some(room.0);
    if let Some(new) = &arguments.new_room {
        cursor.new_room_id = Some(create(admin, new).await?.to_string());
    }
    let successor = match &cursor.new_room_id {
        Some(id) => rooms.room_nid(&parse_room(id)?)?,
        None => None,
    };
    cursor.aliases = rooms.unlist(room, successor).await?;
    cursor.aliases.truncate(NAMED);
    cursor.stage = Stage::Leaving;
    Ok(Step::More(cursor, Progress::new("users leave", 0, None)))
}

fn parse_room(id: &str) -> Result<RoomId, AdminError> {
    RoomId::parse(id).map_err(AdminError::internal)
}

/// Makes the room into which users are moved: they may read there, and not write.
async fn create(admin: &Admin, new: &NewRoom) -> Result<RoomId, AdminError> {
    let creator = UserId::parse(&new.user).map_err(|error| AdminError::invalid(error.to_string()))?;
    let cut = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
    let request = CreateRoom {
        name: Some(cut(&new.name)),
        power_levels: Map::from_iter([("users_default".to_owned(), json!(-10))]),
        ..CreateRoom::new(creator.clone(), admin.rooms().default_version(), Preset::PublicChat)
    };
    let room_id = admin.rooms().create_room(request).await?;
    let room = admin.rooms().known_room(&room_id)?;
    let content =
        Map::from_iter([("msgtype".to_owned(), json!("m.text")), ("body".to_owned(), json!(cut(&new.message)))]);
    admin.rooms().append(room, vec![Draft::message(creator, "m.room.message", content)], None).await?;
    Ok(room_id)
}

async fn leave(
    admin: &Admin,
    arguments: &DeleteArguments,
    mut cursor: DeleteCursor,
) -> Result<Step<DeleteCursor>, AdminError> {
    let (rooms, room) = (admin.rooms(), room_of(&cursor)?);
    let is_in = |membership| matches!(membership, Membership::Join | Membership::Invite | Membership::Knock);
    let mut members = rooms.local_members(room)?;
    members.retain(|member| member.user.0 > cursor.after && is_in(member.membership));
    members.sort_by_key(|member| member.user);
    let left_over = members.len().saturating_sub(USERS) as u64;
    for member in members.iter().take(USERS) {
        let user = rooms.user_id(member.user)?;
        match rooms.remove_local_user(room, member.user).await {
            Ok(()) => {
                cursor.left += 1;
                move_to(admin, &cursor, member.membership, &user).await;
                note(&mut cursor.kicked, &user);
            }
            Err(RoomError::Busy) => return Err(AdminError::unavailable("the room is busy")),
            Err(error @ (RoomError::Storage(_) | RoomError::Commit(_))) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(room = room.0, %user, %error, "a user cannot leave a room that is shut down");
                note(&mut cursor.failed, &user);
            }
        }
        cursor.after = member.user.0;
    }
    let (left, total) = (cursor.left, cursor.left + left_over);
    if left_over > 0 {
        return Ok(Step::More(cursor, Progress::new("users leave", left, Some(total))));
    }
    if !arguments.purge {
        return Ok(Step::Done(cursor.shutdown()));
    }
    if !cursor.failed.is_empty() && !arguments.force_purge {
        return Err(AdminError::conflict(format!("{} users could not leave the room", cursor.failed.len())));
    }
    cursor.stage = Stage::Telling;
    cursor.since_ms = admin.clock().now_ms();
    Ok(Step::More(cursor, Progress::new("other servers are told", left, Some(total))))
}

/// Joins who was in the room to the new one. That they cannot keeps nobody from leaving.
async fn move_to(admin: &Admin, cursor: &DeleteCursor, was: Membership, user: &UserId) {
    let Some(new) = cursor.new_room_id.as_ref().filter(|_| was == Membership::Join) else { return };
    let Ok(new) = parse_room(new) else { return };
    let (sender, target, membership) = (user.clone(), user.clone(), Membership::Join);
    let join = MembershipChange { sender, target, membership, content: Map::new() };
    if let Err(error) = admin.rooms().change_membership(&new, join).await {
        tracing::warn!(%user, %error, "a user of a room that is shut down cannot be moved");
    }
}

fn note(users: &mut Vec<String>, user: &UserId) {
    if users.len() < NAMED && !users.iter().any(|known| known == user.as_str()) {
        users.push(user.to_string());
    }
}

/// Waits until other servers were told, within limits; then the room begins to be unknown.
async fn tell(
    admin: &Admin,
    arguments: &DeleteArguments,
    mut cursor: DeleteCursor,
) -> Result<Step<DeleteCursor>, AdminError> {
    let (rooms, room) = (admin.rooms(), room_of(&cursor)?);
    let waited = admin.clock().now_ms().saturating_sub(cursor.since_ms);
    let is_busy = admin.ports().room_data.iter().any(|data| data.is_busy_with(room));
    if is_busy && waited < TELLING_MS {
        admin.clock().sleep(WAIT).await;
        let text = Progress::new("other servers are told", cursor.left, Some(cursor.left));
        return Ok(Step::More(cursor, text));
    }
    rooms.begin_deletion(room, arguments.force_purge).await?;
    cursor.stage = Stage::Purging;
    let left = cursor.left;
    Ok(Step::More(cursor, Progress::new("the room is deleted", left, None)))
}

async fn purge(admin: &Admin, cursor: DeleteCursor) -> Result<Step<DeleteCursor>, AdminError> {
    if admin.rooms().delete_on(room_of(&cursor)?, &admin.ports().room_data).await? {
        return Ok(Step::Done(cursor.shutdown()));
    }
    let steps = cursor.steps;
    Ok(Step::More(cursor, Progress::new("the room is deleted", steps, None)))
}
