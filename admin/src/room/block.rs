//! Blocked rooms.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::RoomArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many blocked rooms are shown unless it is said.
const DEFAULT_ROOMS: usize = 100;
/// How many blocked rooms are shown at most.
const MAX_ROOMS: usize = 1000;

/// Block a room: nobody of this server can join or be invited any more
///
/// Those who are in it stay. The room need not be known here.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The room: its id, also of one that is not known here, or an alias
    pub room: RoomArg,
    /// Why
    #[arg(long)]
    #[serde(default)]
    pub reason: Option<String>,
}

impl Operation for Block {
    const NAME: (&'static str, &'static str) = ("room", "block");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room} --reason spam";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let room = self.room.room_id(admin)?;
        let by = caller.user().map(|(_, user)| user);
        admin.rooms().block_room(&room, by, self.reason.as_deref()).await?;
        Ok(Outcome::line(format!("{room} is blocked")))
    }
}

/// End the block of a room
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unblock {
    /// The room: its id or an alias
    pub room: RoomArg,
}

impl Operation for Unblock {
    const NAME: (&'static str, &'static str) = ("room", "unblock");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let room = self.room.room_id(admin)?;
        admin.rooms().unblock_room(&room).await?;
        Ok(Outcome::line(format!("{room} is not blocked")))
    }
}

/// List the blocked rooms
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blocked {
    /// The room id after which to go on
    #[arg(long)]
    #[serde(default)]
    pub from: Option<String>,
    /// How many rooms to show, at most 1,000
    #[arg(long)]
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Operation for Blocked {
    const NAME: (&'static str, &'static str) = ("room", "blocked");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let limit = self.limit.unwrap_or(DEFAULT_ROOMS).clamp(1, MAX_ROOMS);
        let blocks = admin.rooms().blocked_rooms(self.from.as_deref(), limit)?;
        let next = blocks.last().filter(|_| blocks.len() >= limit).map(|block| block.room.clone());
        let rows = blocks.into_iter().map(|block| {
            let text = |text| Cell::or_none(text, Cell::Text);
            vec![Cell::Text(block.room), text(block.by), Cell::Time(block.at_ms), text(block.reason)]
        });
        Ok(Outcome::table(&["room", "by", "since", "reason"], rows.collect()).next(next))
    }
}
