//! Purging history.

use clap::Args;
use rooms::{Cursor, PurgeOrder, RoomNid, RoomSeq};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use spec::ids::{EventId, RoomId};

use crate::admin::Admin;
use crate::arguments::{RoomArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobId, JobKind, Progress, Step};
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// Delete the old messages of a room, as a job
///
/// Everything before an event or a time goes, but for the state of the room and its newest events. Messages of this
/// server's users, which may exist nowhere else, are only hidden unless --local is given.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// What is older than this goes: a date (2026-01-31), a time ago (30d), or milliseconds since 1970
    #[arg(long)]
    #[serde(default)]
    pub before: Option<When>,
    /// What comes before this event goes
    #[arg(long)]
    #[serde(default)]
    pub event: Option<String>,
    /// Delete the messages of this server's users too
    #[arg(long)]
    #[serde(default)]
    pub local: bool,
}

impl Operation for Purge {
    const NAME: (&'static str, &'static str) = ("room", "purge");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{room} --event {event} --local";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let (room, room_id) = self.room.known_room(admin)?;
        let cut = match (&self.event, self.before) {
            (Some(event), None) => Some(cut_before(admin, room, event)?),
            (None, Some(before)) => {
                let time = before.in_the_past(admin.clock().now_ms());
                admin.rooms().cut_before_time(room, i64::try_from(time).unwrap_or(i64::MAX))?
            }
            _ => return Err(AdminError::invalid("say either --before or --event")),
        };
        match cut {
            Some(cut) => Ok(start_purge(admin, caller, &room_id, cut, self.local).await?.into()),
            None => Ok(Outcome::line("nothing is that old")),
        }
    }
}

/// The place before an event of a room.
pub(crate) fn cut_before(admin: &Admin, room: RoomNid, event: &str) -> Result<Cursor, AdminError> {
    let id = EventId::parse(event).map_err(|error| AdminError::invalid(format!("this is no event id: {error}")))?;
    Ok(admin.rooms().cut_before_event(room, &id)?)
}

/// Starts the job that purges what is before a place.
pub(crate) async fn start_purge(
    admin: &Admin,
    caller: &Caller,
    room: &RoomId,
    cut: Cursor,
    local_too: bool,
) -> Result<JobId, AdminError> {
    let arguments = PurgeArguments { room: room.to_string(), depth: cut.depth, seq: cut.seq.0, local_too };
    admin.jobs().start::<PurgeHistory>(caller, &arguments).await
}

/// The job.
pub(crate) struct PurgeHistory;

/// What is purged. Stored as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PurgeArguments {
    room: String,
    depth: i64,
    seq: i64,
    local_too: bool,
}

/// How much is done. Stored as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PurgeCursor {
    deleted: u64,
    kept: u64,
    nodes: u64,
}

impl JobKind for PurgeHistory {
    const NAME: &'static str = "purge-history";
    type Arguments = PurgeArguments;
    type Cursor = PurgeCursor;

    fn target(arguments: &PurgeArguments) -> Option<String> {
        Some(arguments.room.clone())
    }

    async fn step(
        admin: &Admin,
        arguments: &PurgeArguments,
        mut cursor: PurgeCursor,
    ) -> Result<Step<PurgeCursor>, AdminError> {
        let room = RoomId::parse(&arguments.room).map_err(|error| AdminError::invalid(error.to_string()))?;
        let cut = Cursor { depth: arguments.depth, seq: RoomSeq(arguments.seq) };
        let order = PurgeOrder { room: admin.rooms().known_room(&room)?, cut, local_too: arguments.local_too };
        let part = admin.rooms().purge_on(order).await?;
        cursor.deleted += part.deleted;
        cursor.kept += part.kept;
        cursor.nodes += part.nodes;
        let PurgeCursor { deleted, kept, nodes } = cursor;
        if part.done {
            return Ok(Step::Done(json!({"deleted": deleted, "kept": kept, "state_nodes": nodes})));
        }
        let total = (part.left > 0).then_some(deleted + kept + part.left);
        Ok(Step::More(cursor, Progress::new("events are deleted", deleted + kept, total)))
    }
}
