//! One account.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::Signal;

use super::list::name_states;
use crate::admin::Admin;
use crate::arguments::UserArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// The spam signals cover this time.
const SIGNAL_DAYS: u64 = 30;

/// Show all about an account
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// Whose account
    pub user: UserArg,
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("user", "show");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        let users = admin.users();
        let entry = users.account_summary(account.user)?.ok_or_else(|| AdminError::not_found("no such account"))?;
        let facts = users.facts(account.user)?;
        let since = admin.clock().now_ms().saturating_sub(SIGNAL_DAYS * 86_400_000);
        let texts = |texts: Vec<String>| Cell::List(texts.into_iter().map(Cell::Text).collect());
        let addresses = users.third_party_ids(account.user)?.into_iter().map(|id| id.address).collect();
        let external = users.external_ids(account.user)?.into_iter();
        let external = external.map(|id| format!("{}: {}", id.auth_provider, id.external_id)).collect();
        Ok(Outcome::record(vec![
            ("user_id", Cell::text(&account.user_id)),
            ("display_name", Cell::or_none(entry.display_name.clone(), Cell::Text)),
            ("avatar_url", Cell::or_none(entry.avatar_url.clone(), Cell::Text)),
            ("role", entry.role.as_str().into()),
            ("state", Cell::List(name_states(&entry).into_iter().map(Cell::from).collect())),
            ("type", Cell::or_none(facts.user_type, Cell::Text)),
            ("has_password", account.has_password.into()),
            ("created", Cell::Time(account.created_ms)),
            ("last_seen", Cell::or_none(entry.last_seen_ms, Cell::Time)),
            ("expires", Cell::or_none(facts.expires_at_ms, Cell::Time)),
            ("rate_limit", Cell::or_none(facts.rate_limit, describe_limit)),
            ("spam_rules", users.has_spam_rules(account.user)?.into()),
            ("addresses", texts(addresses)),
            ("external_ids", texts(external)),
            ("devices", Cell::number(users.devices(account.user)?.len())),
            ("rooms", Cell::number(admin.rooms().joined_rooms(account.user)?.len())),
            ("invited_in_30_days", Cell::number(users.signals_since(account.user, Signal::Invitations, since)?)),
            ("joined_in_30_days", Cell::number(users.signals_since(account.user, Signal::Joins, since)?)),
        ]))
    }
}

fn describe_limit(limit: users::RateLimitOverride) -> Cell {
    match limit.is_unlimited() {
        true => "none".into(),
        false => format!("{} a second, {} at once", limit.per_second, limit.burst).into(),
    }
}
