//! What accounts are kept from, and allowed, by administrators.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::{Account, AccountFlags, RateLimitOverride};

use crate::admin::Admin;
use crate::arguments::{UserArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

use super::{changeable, check_may_change, shut_out};

/// Declares an operation whose only argument is whose account it is about. Its body tells what is said of the account.
macro_rules! account_operation {
    (
        $(#[doc = $doc:literal])+
        pub struct $name:ident($verb:literal, $effect:ident, $example:literal);
        async fn run($admin:ident, $caller:ident, $user:ident) $body:block
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Whose account
            pub user: UserArg,
        }

        impl Operation for $name {
            const NAME: (&'static str, &'static str) = ("user", $verb);
            const NEEDS: Needs = Needs::Moderator;
            const EFFECT: Effect = Effect::$effect;
            const EXAMPLE: &'static str = $example;

            async fn run(self, $admin: &Admin, $caller: &Caller) -> Result<Outcome, AdminError> {
                let $user = &self.user;
                let (account, said): (Account, &str) = $body;
                Ok(Outcome::line(format!("{} {said}.", account.user_id)))
            }
        }
    };
}

account_operation! {
    /// Suspend an account: it may read, but not write
    pub struct Suspend("suspend", Changes, "{user}");
    async fn run(admin, caller, user) {
        let account = shut_out(admin, caller, user)?;
        set_suspended(admin, &account, true).await?;
        (account, "is suspended")
    }
}

account_operation! {
    /// End the suspension of an account
    pub struct Unsuspend("unsuspend", Changes, "{user}");
    async fn run(admin, caller, user) {
        let account = changeable(admin, caller, user)?;
        set_suspended(admin, &account, false).await?;
        (account, "is not suspended any more")
    }
}

account_operation! {
    /// Lock an account: it can do nothing but log out
    pub struct Lock("lock", Changes, "{user}");
    async fn run(admin, caller, user) {
        let account = shut_out(admin, caller, user)?;
        set_locked(admin, &account, true).await?;
        (account, "is locked")
    }
}

account_operation! {
    /// Unlock an account
    pub struct Unlock("unlock", Changes, "{user}");
    async fn run(admin, caller, user) {
        let account = changeable(admin, caller, user)?;
        set_locked(admin, &account, false).await?;
        (account, "is not locked any more")
    }
}

account_operation! {
    /// Approve a registration: the account can log in from now on
    ///
    /// The rules against spam do not hold for it either.
    pub struct Approve("approve", Changes, "{user}");
    async fn run(admin, caller, user) {
        let account = changeable(admin, caller, user)?;
        admin.users().approve(account.user).await?;
        (account, "is approved")
    }
}

account_operation! {
    /// Deny a registration: the account that waits for approval is deactivated
    pub struct Deny("deny", Destroys, "{unapproved}");
    async fn run(admin, caller, user) {
        let account = shut_out(admin, caller, user)?;
        if !admin.users().facts(account.user)?.awaits_approval {
            return Err(AdminError::invalid(format!("{} does not wait for approval", account.user_id)));
        }
        admin.users().close_account(admin.tasks(), account.user, true).await?;
        (account, "is denied, and its account closed")
    }
}

async fn set_suspended(admin: &Admin, account: &Account, suspended: bool) -> Result<(), AdminError> {
    let flags = AccountFlags { suspended: Some(suspended), ..AccountFlags::default() };
    Ok(admin.users().set_account_flags(account.user, flags).await?)
}

async fn set_locked(admin: &Admin, account: &Account, locked: bool) -> Result<(), AdminError> {
    let flags = AccountFlags { locked: Some(locked), ..AccountFlags::default() };
    Ok(admin.users().set_account_flags(account.user, flags).await?)
}

/// Shadow-ban an account: what it writes reaches nobody, and it is not told so
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowBan {
    /// Whose account
    pub user: UserArg,
    /// End the shadow-ban
    #[arg(long)]
    #[serde(default)]
    pub lift: bool,
}

impl Operation for ShadowBan {
    const NAME: (&'static str, &'static str) = ("user", "shadow-ban");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = shut_out(admin, caller, &self.user)?;
        admin.users().change_facts(account.user, |facts| facts.is_shadow_banned = !self.lift).await?;
        let is = if self.lift { "is not shadow-banned any more" } else { "is shadow-banned" };
        Ok(Outcome::line(format!("{} {is}.", account.user_id)))
    }
}

/// Show or set how often an account may do things
///
/// A limit of its own takes the place of all configured ones. Without options the present one is shown.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Whose account
    pub user: UserArg,
    /// How many requests of a kind in a second
    #[arg(long, conflicts_with_all = ["unlimited", "remove"])]
    pub per_second: Option<u32>,
    /// How many of them at once
    #[arg(long, requires = "per_second")]
    pub burst: Option<u32>,
    /// No limit at all
    #[arg(long)]
    #[serde(default)]
    pub unlimited: bool,
    /// The configured limits again
    #[arg(long, conflicts_with = "unlimited")]
    #[serde(default)]
    pub remove: bool,
}

impl Operation for RateLimit {
    const NAME: (&'static str, &'static str) = ("user", "rate-limit");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user} --unlimited";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        check_may_change(admin, caller, &account)?;
        let own = match (self.remove, self.unlimited, self.per_second) {
            (true, _, _) => Some(None),
            (_, true, _) => Some(Some(RateLimitOverride { per_second: 0, burst: 0 })),
            (_, _, Some(0)) => {
                return Err(AdminError::invalid("per_second must be at least 1: use --unlimited or lock"));
            }
            (_, _, Some(per_second)) => {
                Some(Some(RateLimitOverride { per_second, burst: self.burst.unwrap_or(per_second) }))
            }
            (_, _, None) => None,
        };
        let facts = match own {
            Some(own) => admin.users().change_facts(account.user, |facts| facts.rate_limit = own).await?,
            None => admin.users().facts(account.user)?,
        };
        Ok(Outcome::line(match facts.rate_limit {
            None => format!("{} has the configured limits.", account.user_id),
            Some(limit) if limit.is_unlimited() => format!("{} has no limits.", account.user_id),
            Some(limit) => {
                format!("{}: {} a second, {} at once.", account.user_id, limit.per_second, limit.burst)
            }
        }))
    }
}

/// Renew an account, or set when it expires
///
/// Without options it is renewed for as long as `users.account_validity_days` says.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// Whose account
    pub user: UserArg,
    /// When it expires: `2026-01-31`, `30d`
    #[arg(long)]
    pub until: Option<When>,
    /// It never expires
    #[arg(long, conflicts_with = "until")]
    #[serde(default)]
    pub never: bool,
}

impl Operation for Validity {
    const NAME: (&'static str, &'static str) = ("user", "validity");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user} --until 30d";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = changeable(admin, caller, &self.user)?;
        let now = admin.clock().now_ms();
        let until = match (self.never, self.until) {
            (true, _) => None,
            (false, Some(until)) => Some(until.in_the_future(now)),
            (false, None) => admin.users().next_expiry_ms(),
        };
        admin.users().change_facts(account.user, |facts| facts.expires_at_ms = until).await?;
        let until = Cell::or_none(until, Cell::Time);
        Ok(Outcome::record(vec![("user_id", Cell::text(&account.user_id)), ("expires", until)]))
    }
}
