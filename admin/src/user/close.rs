//! Closing accounts, and opening them again.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::{Secret, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

use super::create::choose_password;
use super::{check_may_change, check_may_shut_out};

/// Close an account: no password, devices, keys, profile or account data stay
///
/// Its rooms are left in the background. The user id is never given out again.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deactivate {
    /// Whose account
    pub user: UserArg,
    /// Also erase: what the user sent is redacted, where that is possible, by a job
    #[arg(long)]
    #[serde(default)]
    pub erase: bool,
}

impl Operation for Deactivate {
    const NAME: (&'static str, &'static str) = ("user", "deactivate");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        check_may_shut_out(admin, caller, &account)?;
        if !self.erase {
            admin.users().close_account(admin.tasks(), account.user, false).await?;
            return Ok(Outcome::line(format!("{} is deactivated, and leaves its rooms.", account.user_id)));
        }
        // Nobody gets in from now on; the rooms are left when the job has redacted what it can.
        admin.users().deactivate_to_erase(account.user).await?;
        let job = super::redact::start_erasing(admin, caller, &account).await?;
        Ok(Outcome::record(vec![("user_id", Cell::text(&account.user_id)), ("job", Cell::number(job.0))]))
    }
}

/// Open a deactivated account again with a new password
///
/// What was deleted when it was closed does not come back. Without a password one is chosen and shown once.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reactivate {
    /// Whose account
    pub user: UserArg,
    /// The password; `-` asks for it
    #[arg(long)]
    pub password: Option<Secret>,
}

impl Operation for Reactivate {
    const NAME: (&'static str, &'static str) = ("user", "reactivate");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{deactivated}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        check_may_change(admin, caller, &account)?;
        let (password, shown) = choose_password(admin, self.password.as_ref())?;
        admin.users().reactivate(account.user, Some(&password)).await?;
        Ok(Outcome::record(vec![("user_id", Cell::text(&account.user_id)), ("password", shown)]))
    }
}
