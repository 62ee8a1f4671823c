//! The rules against spam for new accounts: whom they refused, and whom they are not for.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::{UserArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

use super::changeable;

const COLUMNS: &[&str] = &["user_id", "rule", "refused", "last_hour", "exempt"];
/// What is shown where nothing else is said.
const DEFAULT_SINCE_MS: u64 = 7 * 86_400_000;
/// The most rows that are shown.
const MAX_ROWS: usize = 1_000;

/// Show whom the rules against spam refused something
///
/// One row for each account and rule, the latest first. It is kept for 90 days.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spam {
    /// Only this account
    #[arg(long)]
    pub user: Option<UserArg>,
    /// Only from then on: `2026-01-31`, `30d`; 7 days ago by default
    #[arg(long)]
    pub since: Option<When>,
}

impl Operation for Spam {
    const NAME: (&'static str, &'static str) = ("user", "spam");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--user {user} --since 30d";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let only = self.user.map(|user| user.account(admin)).transpose()?.map(|account| account.user);
        let since = self.since.unwrap_or(When::Distance(DEFAULT_SINCE_MS)).in_the_past(admin.clock().now_ms());
        let refusals = admin.users().spam_refusals(since)?;
        let wanted: Vec<_> = refusals.iter().filter(|row| only.is_none_or(|user| user == row.user)).collect();
        let mut rows = Vec::new();
        for refusals in wanted.iter().take(MAX_ROWS) {
            rows.push(vec![
                Cell::text(admin.rooms().user_id(refusals.user)?),
                refusals.rule.as_str().into(),
                Cell::number(refusals.count),
                Cell::Time(refusals.last_hour_ms),
                (!admin.users().has_spam_rules(refusals.user)?).into(),
            ]);
        }
        Ok(Outcome::table(COLUMNS, rows).total(wanted.len() as u64))
    }
}

/// Exempt an account from the rules against spam for new accounts
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exempt {
    /// Whose account
    pub user: UserArg,
    /// End the exemption: the rules hold for as long as the account is new
    #[arg(long)]
    #[serde(default)]
    pub lift: bool,
}

impl Operation for Exempt {
    const NAME: (&'static str, &'static str) = ("user", "exempt");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = changeable(admin, caller, &self.user)?;
        admin.users().set_spam_exemption(account.user, !self.lift).await?;
        let is = if self.lift {
            "has to keep to the rules against spam while it is new"
        } else {
            "is exempted from the rules against spam"
        };
        Ok(Outcome::line(format!("{} {is}.", account.user_id)))
    }
}
