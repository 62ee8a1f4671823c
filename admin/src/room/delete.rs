//! Taking a room away from this server's users, with or without all that is stored of it.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spec::ids::RoomId;

use super::delete_job::{DeleteArguments, DeleteRoom, NewRoom};
use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// What the room is called into which users are moved.
pub(crate) const ROOM_NAME: &str = "Content Violation Notification";
/// What is said there.
pub(crate) const MESSAGE: &str =
    "Sharing illegal content on this server is not permitted and rooms in violation will be blocked.";

/// Delete a room with all that is stored of it, as a job
///
/// First all users of this server leave. Other servers that are in the room keep it.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// Block it too, so that nobody of this server comes back
    #[arg(long)]
    #[serde(default)]
    pub block: bool,
    /// Delete it even if some users cannot leave
    #[arg(long)]
    #[serde(default)]
    pub force: bool,
}

impl Operation for Delete {
    const NAME: (&'static str, &'static str) = ("room", "delete");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{room} --block";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let (_, room_id) = self.room.known_room(admin)?;
        let arguments = DeleteArguments {
            block: self.block,
            purge: true,
            force_purge: self.force,
            ..DeleteArguments::of(room_id, caller)
        };
        Ok(admin.jobs().start::<DeleteRoom>(caller, &arguments).await?.into())
    }
}

/// Shut a room down: all users of this server leave it, and it is blocked, as a job
///
/// What is stored of it stays: see "delete". With a user of this server who makes it, there is a new room into which those
/// who were in this one are moved, and where they read why.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// Who makes the new room; without, there is none
    #[arg(long)]
    #[serde(default)]
    pub new_room_user: Option<UserArg>,
    /// What the new room is called
    #[arg(long)]
    #[serde(default)]
    pub room_name: Option<String>,
    /// What is said in the new room
    #[arg(long)]
    #[serde(default)]
    pub message: Option<String>,
    /// Do not block the room
    #[arg(long)]
    #[serde(default)]
    pub no_block: bool,
}

impl Operation for Shutdown {
    const NAME: (&'static str, &'static str) = ("room", "shutdown");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{room} --new-room-user {admin} --message closed";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let (_, room_id) = self.room.known_room(admin)?;
        let new_room = match self.new_room_user {
            Some(user) => Some(NewRoom {
                user: user.account(admin)?.user_id.to_string(),
                name: self.room_name.unwrap_or_else(|| ROOM_NAME.to_owned()),
                message: self.message.unwrap_or_else(|| MESSAGE.to_owned()),
            }),
            None => None,
        };
        let arguments = DeleteArguments { block: !self.no_block, new_room, ..DeleteArguments::of(room_id, caller) };
        Ok(admin.jobs().start::<DeleteRoom>(caller, &arguments).await?.into())
    }
}

impl DeleteArguments {
    /// Nothing but that users leave.
    pub(crate) fn of(room: RoomId, caller: &Caller) -> DeleteArguments {
        DeleteArguments {
            room: room.to_string(),
            block: false,
            purge: false,
            force_purge: false,
            new_room: None,
            by: caller.user().map(|(_, user)| user.to_string()),
        }
    }
}
