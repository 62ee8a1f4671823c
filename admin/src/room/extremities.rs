//! The forward extremities of rooms: the events that the next one follows.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::RoomArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// List the forward extremities of a room
///
/// A room has one. Several are a fork, which the next event joins; very many make the room slow.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extremities {
    /// The room: its id or an alias
    pub room: RoomArg,
}

impl Operation for Extremities {
    const NAME: (&'static str, &'static str) = ("room", "extremities");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, _) = self.room.known_room(admin)?;
        let rows = admin.rooms().forward_extremities(room)?.into_iter().map(|found| {
            let sent = Cell::Time(u64::try_from(found.sent_at).unwrap_or(0));
            vec![Cell::Text(found.event_id), Cell::number(found.depth), sent]
        });
        Ok(Outcome::table(&["event", "depth", "sent"], rows.collect()))
    }
}

/// Forget all forward extremities of a room but the newest
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropExtremities {
    /// The room: its id or an alias
    pub room: RoomArg,
}

impl Operation for DropExtremities {
    const NAME: (&'static str, &'static str) = ("room", "drop-extremities");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, _) = self.room.known_room(admin)?;
        let dropped = admin.rooms().drop_forward_extremities(room).await?;
        Ok(Outcome::record(vec![("dropped", Cell::number(dropped as u64))]))
    }
}
