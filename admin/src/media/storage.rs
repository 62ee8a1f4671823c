//! How much is stored, and how much may be.

use std::str::FromStr;

use ::media::UserQuota;
use clap::Args;
use runtime::config::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::UserArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

/// Show how much media each user has stored, largest first
///
/// With a user, what that user has stored and may store.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Only this user
    pub user: Option<UserArg>,
    /// How many users to show, at most 1000
    #[arg(long)]
    pub limit: Option<usize>,
    /// Where to go on, as the page before says it
    #[arg(long)]
    pub from: Option<usize>,
}

/// Show or set how much a user may store
///
/// Without a limit it shows the one in force. What is stored already stays, however large it is.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// The user
    pub user: UserArg,
    /// A size such as `5GiB`, `none` for no limit, or `role` for that of the user's role
    #[arg(long)]
    pub set: Option<String>,
}

fn describe_limit(limit: Option<u64>) -> Cell {
    limit.map_or_else(|| "none".into(), Cell::Bytes)
}

impl Usage {
    fn show_user(user: &UserArg, admin: &Admin) -> Result<Outcome, AdminError> {
        let user = user.account(admin)?.user_id;
        let usage = admin.media().user_usage(user.as_str())?;
        Ok(Outcome::record(vec![
            ("user", Cell::text(&user)),
            ("media", Cell::number(usage.count)),
            ("bytes", Cell::Bytes(usage.bytes)),
            ("limit", describe_limit(admin.media().quota(&user)?)),
        ]))
    }
}

impl Operation for Usage {
    const NAME: (&'static str, &'static str) = ("media", "usage");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        if let Some(user) = &self.user {
            return Usage::show_user(user, admin);
        }
        let (limit, from) = (self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT), self.from.unwrap_or(0));
        let mut users: Vec<_> = admin.media().all_usage()?.into_iter().collect();
        users.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.bytes));
        let total = users.len();
        let page = users.into_iter().skip(from).take(limit);
        let rows: Vec<Vec<Cell>> = page
            .map(|(user, usage)| vec![Cell::Text(user), Cell::number(usage.count), Cell::Bytes(usage.bytes)])
            .collect();
        let next = from.saturating_add(rows.len());
        let next = (next < total && !rows.is_empty()).then_some(next);
        let table = Outcome::table(&["user", "media", "bytes"], rows);
        Ok(table.next(next).total(u64::try_from(total).unwrap_or(u64::MAX)))
    }
}

fn read_quota(text: &str) -> Result<UserQuota, AdminError> {
    match text {
        "none" => Ok(UserQuota::Unlimited),
        "role" => Ok(UserQuota::OfRole),
        text => match ByteSize::from_str(text) {
            Ok(size) => Ok(UserQuota::Bytes(size.bytes())),
            Err(error) => Err(AdminError::invalid(format!("{error}, none or role"))),
        },
    }
}

impl Operation for Quota {
    const NAME: (&'static str, &'static str) = ("media", "quota");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user} --set 5GiB";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let user = self.user.account(admin)?.user_id;
        if let Some(text) = &self.set {
            admin.media().set_user_quota(&user, read_quota(text)?).await?;
        }
        let source = match admin.media().user_quota(&user)? {
            UserQuota::OfRole => "the configuration",
            UserQuota::Unlimited | UserQuota::Bytes(_) => "an administrator",
        };
        Ok(Outcome::record(vec![
            ("user", Cell::text(&user)),
            ("limit", describe_limit(admin.media().quota(&user)?)),
            ("set_by", source.into()),
            ("bytes", Cell::Bytes(admin.media().user_usage(user.as_str())?.bytes)),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_sizes_none_or_role() {
        assert_eq!(read_quota("5KiB").unwrap(), UserQuota::Bytes(5120));
        assert_eq!(read_quota("none").unwrap(), UserQuota::Unlimited);
        assert_eq!(read_quota("role").unwrap(), UserQuota::OfRole);
        assert!(matches!(read_quota("much"), Err(AdminError::Invalid(_))));
    }
}
