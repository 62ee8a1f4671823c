//! Registration tokens: invitations to make an account.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::RegistrationToken;

use crate::admin::Admin;
use crate::arguments::When;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

const COLUMNS: &[&str] = &["token", "uses_allowed", "completed", "pending", "expires"];

/// List registration tokens
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only those that can be used now, or only the others
    #[arg(long)]
    pub valid: Option<bool>,
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("token", "list");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let now = admin.clock().now_ms();
        let tokens = admin.users().list_registration_tokens()?;
        let wanted = tokens.iter().filter(|token| self.valid.is_none_or(|valid| is_valid(admin, token, now) == valid));
        let rows: Vec<_> = wanted.map(|token| describe(admin, token)).collect();
        let total = rows.len() as u64;
        Ok(Outcome::table(COLUMNS, rows).total(total))
    }
}

/// Show a registration token
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The token
    pub token: String,
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("token", "show");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{token}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let token = find(admin, &self.token)?;
        Ok(Outcome::record(COLUMNS.iter().copied().zip(describe(admin, &token)).collect()))
    }
}

/// Make a registration token
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The token itself; a random one by default
    #[arg(long)]
    pub token: Option<String>,
    /// How many accounts it may make; any number by default
    #[arg(long)]
    pub uses: Option<u32>,
    /// When it ends: `7d`, `2026-01-31`; never by default
    #[arg(long)]
    pub expires: Option<When>,
}

impl Operation for Create {
    const NAME: (&'static str, &'static str) = ("token", "create");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "--uses 5 --expires 7d";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let now = admin.clock().now_ms();
        let expires = self.expires.map(|expires| expires.in_the_future(now));
        if expires.is_some_and(|expires| expires <= now) {
            return Err(AdminError::invalid("this time is over"));
        }
        let token = admin.users().create_registration_token(self.token, self.uses, expires).await?;
        Ok(Outcome::record(COLUMNS.iter().copied().zip(describe(admin, &token)).collect()))
    }
}

/// Change the limits of a registration token
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The token
    pub token: String,
    /// How many accounts it may make in all
    #[arg(long)]
    pub uses: Option<u32>,
    /// Any number of accounts
    #[arg(long, conflicts_with = "uses")]
    #[serde(default)]
    pub any_uses: bool,
    /// When it ends
    #[arg(long)]
    pub expires: Option<When>,
    /// It never ends
    #[arg(long, conflicts_with = "expires")]
    #[serde(default)]
    pub never_expires: bool,
}

impl Operation for Update {
    const NAME: (&'static str, &'static str) = ("token", "update");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{token} --uses 9";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let now = admin.clock().now_ms();
        let uses = if self.any_uses { Some(None) } else { self.uses.map(Some) };
        let expires = match self.never_expires {
            true => Some(None),
            false => self.expires.map(|expires| Some(expires.in_the_future(now))),
        };
        let token = admin.users().update_registration_token(&self.token, uses, expires).await?;
        Ok(Outcome::record(COLUMNS.iter().copied().zip(describe(admin, &token)).collect()))
    }
}

/// Delete a registration token
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The token
    pub token: String,
}

impl Operation for Delete {
    const NAME: (&'static str, &'static str) = ("token", "delete");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{token}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        find(admin, &self.token)?;
        admin.users().delete_registration_token(&self.token).await?;
        Ok(Outcome::line("The token is deleted."))
    }
}

/// A token made at run time.
///
/// # Errors
/// `NotFound`.
pub(crate) fn find(admin: &Admin, token: &str) -> Result<RegistrationToken, AdminError> {
    let found = admin.users().registration_token(token)?;
    found.ok_or_else(|| AdminError::not_found(format!("No such registration token: {token}")))
}

/// Whether somebody who shows it now could register.
pub(crate) fn is_valid(admin: &Admin, token: &RegistrationToken, now_ms: u64) -> bool {
    let pending = u32::try_from(admin.users().pending_registrations(&token.token)).unwrap_or(u32::MAX);
    token.uses_allowed.is_none_or(|allowed| token.uses.saturating_add(pending) < allowed)
        && token.expires_at_ms.is_none_or(|expires| now_ms < expires)
}

fn describe(admin: &Admin, token: &RegistrationToken) -> Vec<Cell> {
    vec![
        Cell::text(&token.token),
        Cell::or_none(token.uses_allowed, Cell::number),
        Cell::number(token.uses),
        Cell::number(admin.users().pending_registrations(&token.token)),
        Cell::or_none(token.expires_at_ms, Cell::Time),
    ]
}
