//! Deleting media.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sweep::{Deed, Source, start};
use crate::admin::Admin;
use crate::arguments::{MediaArg, RoomArg, Size, UserArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// Delete a media for good
///
/// Copies of media of other servers are fetched again when somebody asks for them.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The media
    pub media: MediaArg,
}

/// Delete all media that a user of this server has uploaded, as a job
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteByUser {
    /// The user
    pub user: UserArg,
}

/// Delete all media that the unencrypted events of a room name, as a job
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteByRoom {
    /// The room
    pub room: RoomArg,
}

/// Delete media of this server that nobody has asked for lately, as a job
///
/// Pictures of users and rooms stay.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteBefore {
    /// Last asked for before this: `2026-01-31`, or `90d` for so long ago
    pub before: When,
    /// Only what is larger than this
    #[arg(long)]
    pub larger_than: Option<Size>,
    /// Pictures of users and rooms too
    #[arg(long)]
    #[serde(default)]
    pub with_pictures: bool,
}

/// Delete copies of media of other servers that nobody has asked for lately, as a job
///
/// They are fetched again when somebody asks for them.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRemote {
    /// Last asked for before this: `2026-01-31`, or `90d` for so long ago
    pub before: When,
}

impl Operation for Delete {
    const NAME: (&'static str, &'static str) = ("media", "delete");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{mxc}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let mxc = self.media.mxc()?;
        match admin.media().delete(&mxc).await? {
            true => Ok(Outcome::line(format!("{mxc} is deleted"))),
            false => Err(AdminError::not_found(format!("there is no {mxc} here"))),
        }
    }
}

impl Operation for DeleteByUser {
    const NAME: (&'static str, &'static str) = ("media", "delete-by-user");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let user = self.user.account(admin)?.user_id;
        start(admin, caller, Source::User(user), Deed::Delete).await
    }
}

impl Operation for DeleteByRoom {
    const NAME: (&'static str, &'static str) = ("media", "delete-by-room");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let (_, room) = self.room.known_room(admin)?;
        start(admin, caller, Source::Room(room), Deed::Delete).await
    }
}

impl Operation for DeleteBefore {
    const NAME: (&'static str, &'static str) = ("media", "delete-before");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "30d --larger-than 1MiB";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let source = Source::Unused {
            local: true,
            before_ms: self.before.in_the_past(admin.clock().now_ms()),
            larger_than: self.larger_than.map_or(0, |size| size.0),
            with_pictures: self.with_pictures,
        };
        start(admin, caller, source, Deed::Delete).await
    }
}

impl Operation for PurgeRemote {
    const NAME: (&'static str, &'static str) = ("media", "purge-remote");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "90d";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let before_ms = self.before.in_the_past(admin.clock().now_ms());
        let source = Source::Unused { local: false, before_ms, larger_than: 0, with_pictures: true };
        start(admin, caller, source, Deed::Delete).await
    }
}
