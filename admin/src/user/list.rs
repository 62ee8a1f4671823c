//! Lists of accounts.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::{AccountOrder, AccountQuery, AccountSummary, Role};

use super::change::RoleArg;
use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// The accounts of a page where nothing else is said.
const DEFAULT_PAGE: usize = 50;
/// The most accounts of a page.
const MAX_PAGE: usize = 1_000;
const COLUMNS: &[&str] = &["user_id", "display_name", "role", "state", "created", "last_seen"];

/// List accounts
///
/// Without filters all accounts are listed, deactivated ones too.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// A part of the name or display name
    #[arg(long)]
    pub name: Option<String>,
    /// Only accounts of this role
    #[arg(long)]
    pub role: Option<RoleArg>,
    /// Only accounts in this state
    #[arg(long)]
    pub state: Option<State>,
    /// What to order by
    #[arg(long)]
    pub order: Option<Order>,
    /// The other way round
    #[arg(long)]
    #[serde(default)]
    pub reverse: bool,
    /// Where the page begins
    #[arg(long)]
    pub from: Option<usize>,
    /// How many to list
    #[arg(long)]
    pub limit: Option<usize>,
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("user", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--role member --order created --limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let flag = |state| (self.state == Some(state)).then_some(true);
        let query = AccountQuery {
            name: self.name.clone(),
            role: self.role.map(Role::from),
            deactivated: match self.state {
                Some(State::Active) => Some(false),
                _ => flag(State::Deactivated),
            },
            locked: flag(State::Locked),
            suspended: flag(State::Suspended),
            shadow_banned: flag(State::ShadowBanned),
            guests: flag(State::Guest),
            approved: flag(State::Unapproved).map(|_| false),
            order: self.order.unwrap_or(Order::Name).into(),
            reverse: self.reverse,
            from: self.from.unwrap_or(0),
            limit: self.limit.unwrap_or(DEFAULT_PAGE).min(MAX_PAGE),
            ..AccountQuery::default()
        };
        let page = admin.users().find_accounts(&query)?;
        let rows = page.accounts.iter().map(|entry| describe(entry)).collect();
        Ok(Outcome::table(COLUMNS, rows).next(page.next).total(page.total as u64))
    }
}

/// A state in which accounts are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not deactivated
    Active,
    /// Deactivated
    Deactivated,
    /// Locked
    Locked,
    /// Suspended
    Suspended,
    /// Shadow-banned
    ShadowBanned,
    /// Waiting for approval
    Unapproved,
    /// Guests without a password
    Guest,
}

/// What accounts are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The user id
    Name,
    /// The display name
    DisplayName,
    /// When it was made
    Created,
    /// When it was last used
    LastSeen,
}

impl From<Order> for AccountOrder {
    fn from(order: Order) -> AccountOrder {
        match order {
            Order::Name => AccountOrder::Name,
            Order::DisplayName => AccountOrder::DisplayName,
            Order::Created => AccountOrder::Created,
            Order::LastSeen => AccountOrder::LastSeen,
        }
    }
}

/// The words for what restricts an account.
pub(super) fn name_states(entry: &AccountSummary) -> Vec<&'static str> {
    let account = &entry.account;
    let states = [
        (account.is_deactivated, "deactivated"),
        (entry.is_erased, "erased"),
        (account.is_locked, "locked"),
        (account.is_suspended, "suspended"),
        (entry.is_shadow_banned, "shadow-banned"),
        (entry.awaits_approval, "unapproved"),
    ];
    states.into_iter().filter(|(holds, _)| *holds).map(|(_, name)| name).collect()
}

fn describe(entry: &AccountSummary) -> Vec<Cell> {
    vec![
        Cell::text(&entry.account.user_id),
        Cell::or_none(entry.display_name.clone(), Cell::Text),
        entry.role.as_str().into(),
        Cell::List(name_states(entry).into_iter().map(Cell::from).collect()),
        Cell::Time(entry.account.created_ms),
        Cell::or_none(entry.last_seen_ms, Cell::Time),
    ]
}
