//! Display names and avatars, changed for their owners.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use users::Account;

use crate::admin::Admin;
use crate::arguments::UserArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

use super::changeable;

/// The longest display name, in bytes.
pub(super) const MAX_DISPLAY_NAME: usize = 1_024;

/// Change the display name of an account, in its rooms too
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDisplayName {
    /// Whose account
    pub user: UserArg,
    /// The new name; nothing takes the name away
    pub name: Option<String>,
}

impl Operation for SetDisplayName {
    const NAME: (&'static str, &'static str) = ("user", "rename");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user} Somebody";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = changeable(admin, caller, &self.user)?;
        set_profile(admin, &account, "displayname", self.name.map(Value::from)).await?;
        Ok(Outcome::line(format!("{} is renamed.", account.user_id)))
    }
}

/// Change the avatar of an account, in its rooms too
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAvatar {
    /// Whose account
    pub user: UserArg,
    /// The avatar as `mxc://…`; nothing takes it away
    pub avatar: Option<String>,
}

impl Operation for SetAvatar {
    const NAME: (&'static str, &'static str) = ("user", "avatar");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = changeable(admin, caller, &self.user)?;
        set_profile(admin, &account, "avatar_url", self.avatar.map(Value::from)).await?;
        Ok(Outcome::line(format!("{} has another avatar.", account.user_id)))
    }
}

/// Sets a field of a profile; rooms are told in the background.
pub(crate) async fn set_profile(
    admin: &Admin,
    account: &Account,
    key: &'static str,
    value: Option<Value>,
) -> Result<(), AdminError> {
    let change = admin.users().set_profile_field(account.user, key, value).await?;
    if change.rooms.is_empty() {
        return Ok(());
    }
    let (users, rooms, user, user_id) =
        (admin.users().clone(), admin.rooms().clone(), account.user, account.user_id.clone());
    admin.tasks().spawn("profile update", async move {
        for room in change.rooms {
            let mut content = Map::new();
            // Read for each room, so that the last change wins.
            let (Ok(name), Ok(avatar)) = (users.display_name(user), users.avatar_url(user)) else { return };
            content.extend(name.map(|name| ("displayname".to_owned(), Value::from(name))));
            content.extend(avatar.map(|avatar| ("avatar_url".to_owned(), Value::from(avatar))));
            if let Err(error) = rooms.update_member(room, &user_id, content).await {
                tracing::debug!(room = room.0, %error, "a profile change was not told to a room");
            }
        }
    });
    Ok(())
}
