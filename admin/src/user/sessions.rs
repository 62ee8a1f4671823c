//! Acting as a user, and ending their sessions.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::{UserArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

use super::{changeable, check_may_change};

/// How long one acts as a user where nothing else is said, in milliseconds.
const DEFAULT_ACTING_MS: u64 = 3_600_000;

/// Make an access token to act as a user, for a time
///
/// The user sees it as a device, named after who acts. The token is shown once.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginAs {
    /// Whose account
    pub user: UserArg,
    /// When it ends: `30m`, `2026-01-31`; an hour from now by default
    #[arg(long)]
    pub until: Option<When>,
}

impl Operation for LoginAs {
    const NAME: (&'static str, &'static str) = ("user", "login-as");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user} --until 10m";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = changeable(admin, caller, &self.user)?;
        let now = admin.clock().now_ms();
        let until = self.until.unwrap_or(When::Distance(DEFAULT_ACTING_MS)).in_the_future(now);
        let name = format!("Administration ({})", caller.who);
        let session = admin.users().start_acting(account.user, &name, Some(until)).await?;
        Ok(Outcome::record(vec![
            ("user_id", Cell::text(&account.user_id)),
            ("device_id", Cell::text(&session.device_id)),
            ("access_token", Cell::Secret(session.tokens.access_token)),
            ("expires", Cell::Time(until)),
        ]))
    }
}

/// Sign out all devices of an account
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignOut {
    /// Whose account
    pub user: UserArg,
}

impl Operation for SignOut {
    const NAME: (&'static str, &'static str) = ("user", "sign-out");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        check_may_change(admin, caller, &account)?;
        let devices = admin.users().devices(account.user)?.len();
        admin.users().delete_all_devices(account.user, None).await?;
        Ok(Outcome::line(format!("{} devices of {} are signed out.", devices, account.user_id)))
    }
}
