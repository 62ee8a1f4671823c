//! Quarantine and protection.

use ::media::Quarantined;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sweep::{Deed, Source, start};
use crate::admin::Admin;
use crate::arguments::{MediaArg, RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// Hide a media from everybody
///
/// It is kept, but nobody can fetch it or its thumbnails, nor other media with the same bytes. Media of other servers are
/// not fetched any more.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// The media
    pub media: MediaArg,
}

/// Show a media again that was hidden
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unquarantine {
    /// The media
    pub media: MediaArg,
}

/// Protect a media of this server from being hidden
///
/// For stickers and pictures that many use: they stay when all media of a room or user are hidden.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Protect {
    /// The media
    pub media: MediaArg,
}

/// End the protection of a media
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unprotect {
    /// The media
    pub media: MediaArg,
}

/// Hide all media that the unencrypted events of a room name, as a job
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineRoom {
    /// The room
    pub room: RoomArg,
}

/// Hide all media that a user of this server has uploaded, as a job
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineUser {
    /// The user
    pub user: UserArg,
}

impl Operation for Quarantine {
    const NAME: (&'static str, &'static str) = ("media", "quarantine");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{mxc}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let mxc = self.media.mxc()?;
        let text = match admin.media().quarantine(&mxc, &caller.who.to_string()).await? {
            Quarantined::Now => format!("{mxc} is in quarantine"),
            Quarantined::Before => format!("{mxc} was in quarantine already"),
            Quarantined::Protected => return Err(AdminError::conflict(format!("{mxc} is protected from quarantine"))),
        };
        Ok(Outcome::line(text))
    }
}

impl Operation for Unquarantine {
    const NAME: (&'static str, &'static str) = ("media", "unquarantine");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{mxc}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let mxc = self.media.mxc()?;
        let text = match admin.media().unquarantine(&mxc, &caller.who.to_string()).await? {
            true => format!("{mxc} is shown again"),
            false => format!("{mxc} was not in quarantine"),
        };
        Ok(Outcome::line(text))
    }
}

async fn set_protected(
    admin: &Admin,
    caller: &Caller,
    media: &MediaArg,
    protected: bool,
) -> Result<Outcome, AdminError> {
    let mxc = media.mxc()?;
    let has_changed = admin.media().set_protected(&mxc, protected, &caller.who.to_string()).await?;
    let not = if protected { "" } else { "not " };
    let already = if has_changed { "" } else { " as before" };
    Ok(Outcome::line(format!("{mxc} is {not}protected from quarantine{already}")))
}

impl Operation for Protect {
    const NAME: (&'static str, &'static str) = ("media", "protect");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{mxc}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        set_protected(admin, caller, &self.media, true).await
    }
}

impl Operation for Unprotect {
    const NAME: (&'static str, &'static str) = ("media", "unprotect");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{mxc}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        set_protected(admin, caller, &self.media, false).await
    }
}

impl Operation for QuarantineRoom {
    const NAME: (&'static str, &'static str) = ("media", "quarantine-room");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let (_, room) = self.room.known_room(admin)?;
        start(admin, caller, Source::Room(room), Deed::Quarantine).await
    }
}

impl Operation for QuarantineUser {
    const NAME: (&'static str, &'static str) = ("media", "quarantine-user");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let user = self.user.account(admin)?.user_id;
        start(admin, caller, Source::User(user), Deed::Quarantine).await
    }
}
