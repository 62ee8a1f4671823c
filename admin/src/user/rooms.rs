//! The rooms of an account.

use ::rooms::Membership;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::UserArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

const COLUMNS: &[&str] = &["room_id", "membership", "name", "members"];
/// The rooms of a page where nothing else is said.
const DEFAULT_PAGE: usize = 100;

/// List the rooms that a user is in, was in, or is invited to
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rooms {
    /// Whose account
    pub user: UserArg,
    /// Where the page begins
    #[arg(long)]
    pub from: Option<usize>,
    /// How many to list
    #[arg(long)]
    pub limit: Option<usize>,
}

impl Operation for Rooms {
    const NAME: (&'static str, &'static str) = ("user", "rooms");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let user_id = self.user.user_id(admin)?;
        let Some(user) = admin.rooms().user_nid(&user_id)? else {
            return Err(AdminError::not_found(format!("this server does not know {user_id}")));
        };
        let memberships = admin.rooms().user_rooms(user)?;
        let (from, limit) = (self.from.unwrap_or(0), self.limit.unwrap_or(DEFAULT_PAGE).min(1_000));
        let mut rows = Vec::new();
        for (room, row) in memberships.iter().skip(from).take(limit) {
            let summary = match row.membership {
                Membership::Join => admin.rooms().summary(*room).ok(),
                _ => None,
            };
            let name = summary.as_ref().and_then(|summary| summary.name.clone());
            let members = admin.rooms().head(*room).map(|head| head.joined_count()).ok();
            rows.push(vec![
                Cell::text(admin.rooms().room_id(*room)?),
                row.membership.as_str().into(),
                Cell::or_none(name, Cell::text),
                Cell::or_none(members, Cell::number),
            ]);
        }
        let end = from.saturating_add(rows.len());
        let next = (end < memberships.len()).then_some(end);
        Ok(Outcome::table(COLUMNS, rows).next(next).total(memberships.len() as u64))
    }
}
