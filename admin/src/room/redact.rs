//! Redacting all that a user said.

use clap::Args;
use rooms::{RedactOrder, RoomError, RoomSeq};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use spec::ids::{RoomId, UserId};

use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobKind, Progress, Step};
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many events one step redacts.
const EVENTS: usize = 20;
/// How many events are named that could not be redacted.
const NAMED: usize = 100;
/// How many rooms one job is for.
const MAX_ROOMS: usize = 200;

/// Redact all messages of a user, in one room or in all, as a job
///
/// A user of this server redacts their own messages; those of others are redacted by the most powerful member of this
/// server.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactUser {
    /// The user, also of another server
    pub user: UserArg,
    /// Only in this room; without, in all rooms that the user is or was in
    #[arg(long)]
    #[serde(default)]
    pub room: Option<RoomArg>,
    /// Why
    #[arg(long)]
    #[serde(default)]
    pub reason: Option<String>,
}

impl Operation for RedactUser {
    const NAME: (&'static str, &'static str) = ("room", "redact-user");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{user} --room {room}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let user = self.user.user_id(admin)?;
        let rooms = match &self.room {
            Some(room) => vec![room.known_room(admin)?.1.to_string()],
            None => rooms_of(admin, &user)?,
        };
        let arguments = RedactArguments { user: user.to_string(), rooms, reason: self.reason };
        let job = admin.jobs().start::<RedactEvents>(caller, &arguments, Some(user.to_string())).await?;
        Ok(Outcome::record(vec![("job", Cell::number(job.0))]))
    }
}

/// The ids of all rooms that a user is or was in.
fn rooms_of(admin: &Admin, user: &UserId) -> Result<Vec<String>, AdminError> {
    let nid =
        admin.rooms().user_nid(user)?.ok_or_else(|| AdminError::not_found("this server does not know the user"))?;
    let mut rooms = Vec::new();
    for (room, row) in admin.rooms().user_rooms(nid)?.iter() {
        if row.was_joined() {
            rooms.push(admin.rooms().room_id(*room)?.to_string());
        }
    }
    if rooms.len() > MAX_ROOMS {
        return Err(AdminError::invalid(format!("the user was in more than {MAX_ROOMS} rooms: name one with --room")));
    }
    Ok(rooms)
}

/// The job.
pub(crate) struct RedactEvents;

/// What is redacted. Stored as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RedactArguments {
    user: String,
    rooms: Vec<String>,
    reason: Option<String>,
}

/// How far it is. Stored as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RedactCursor {
    room: usize,
    below: Option<i64>,
    redacted: u64,
    failed: Vec<(String, String)>,
}

impl JobKind for RedactEvents {
    const NAME: &'static str = "redact-events-in-rooms";
    type Arguments = RedactArguments;
    type Cursor = RedactCursor;

    async fn step(
        admin: &Admin,
        arguments: &RedactArguments,
        mut cursor: RedactCursor,
    ) -> Result<Step<RedactCursor>, AdminError> {
        let Some(room) = arguments.rooms.get(cursor.room) else {
            return Ok(Step::Done(json!({"redacted": cursor.redacted, "failed": cursor.failed})));
        };
        let user = UserId::parse(&arguments.user).map_err(|error| AdminError::invalid(error.to_string()))?;
        let room_id = RoomId::parse(room).map_err(|error| AdminError::invalid(error.to_string()))?;
        let order = RedactOrder { user, by: None, reason: arguments.reason.clone(), limit: EVENTS };
        let part = match admin.rooms().room_nid(&room_id)? {
            Some(room) => admin.rooms().redact_events_of(room, &order, cursor.below.map(RoomSeq)).await,
            // Deleted meanwhile.
            None => Ok(rooms::Redacted::default()),
        };
        let next = match part {
            Ok(part) => {
                cursor.redacted += part.redacted.len() as u64;
                let failed = part.failed.into_iter().map(|(id, why)| (id.to_string(), why));
                cursor.failed.extend(failed);
                part.next
            }
            Err(error @ (RoomError::Refused(_) | RoomError::NotResident)) => {
                cursor.failed.push((room.clone(), error.to_string()));
                None
            }
            Err(error) => return Err(error.into()),
        };
        cursor.failed.truncate(NAMED);
        cursor.below = next.map(|seq| seq.0);
        if next.is_none() {
            cursor.room += 1;
        }
        let done = cursor.redacted;
        Ok(Step::More(cursor, Progress::new("messages are redacted", done, None)))
    }
}
