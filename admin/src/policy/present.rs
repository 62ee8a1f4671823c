//! Users of other servers whom rules name and who are in rooms here: seeing them, and naming who bans them.

use clap::Args;
use rooms::UserNid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use storage::{Batch, Read};

use super::follow::refresh;
use super::people::joined_here;
use super::rows::{POLICY_FOUND, POLICY_LISTS, POLICY_MODERATORS};
use super::{gate, join};
use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many users a page has unless another number is asked for, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;

/// Name the user of this server who bans for a policy list
///
/// In rooms in which that user is and has the power, users of other servers whom the list names are banned in their name:
/// those who are there, and those who come. Without a user nobody is banned any more; bans that were made stay until their
/// rule is gone.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActAs {
    /// The room of the list
    pub room: RoomArg,
    /// Who bans; without, nobody does
    #[serde(default)]
    pub user: Option<UserArg>,
}

/// List users of other servers whom policy lists name and who are in rooms of this server
///
/// That is, in rooms in which nobody bans for the list. As of the last change of the rules or of who is in rooms.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Present {
    /// Where the page begins, as the page before says
    #[arg(long)]
    #[serde(default)]
    pub from: Option<u64>,
    /// How many at most
    #[arg(long)]
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Operation for ActAs {
    const NAME: (&'static str, &'static str) = ("policy", "act-as");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    // The room is no list that is followed.
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, _) = join::find_room(admin, self.room.as_str()).await?;
        let key = room.as_str().to_owned();
        let mut batch = Batch::new();
        let told = match &self.user {
            None => {
                batch.delete(&POLICY_MODERATORS, &key);
                format!("Nobody bans for the list {room}.")
            }
            Some(user) => {
                if !admin.store().contains(&POLICY_LISTS, &key)? {
                    return Err(AdminError::not_found(format!("the list {room} is not followed")));
                }
                let account = user.account(admin)?;
                crate::user::check_active(&account)?;
                batch.put(&POLICY_MODERATORS, &key, &account.user_id.to_string());
                format!("{} bans for the list {room}, in rooms in which they may.", account.user_id)
            }
        };
        admin.store().commit(batch).await?;
        refresh(admin).await?;
        Ok(Outcome::line(told))
    }
}

impl Operation for Present {
    const NAME: (&'static str, &'static str) = ("policy", "present");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let limit = self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
        let after = UserNid(self.from.unwrap_or_default());
        let found = admin.store().scan(&POLICY_FOUND, &()).after(&after).iter().take(limit);
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let next = found.last().filter(|_| found.len() == limit).map(|(user, _)| user.0);
        let (rules, mut rows) = (admin.policy().rules(), Vec::new());
        for (user, row) in found {
            let user_id = admin.rooms().user_id(user)?;
            let named_by = gate::rules_naming(&rules, &user_id).first().map(|listed| listed.rule.entity().to_owned());
            rows.push(vec![
                Cell::text(user_id),
                Cell::number(joined_here(admin, user)? as u64),
                Cell::or_none(named_by, Cell::Text),
                row.list.into(),
                Cell::Time(row.at_ms),
            ]);
        }
        Ok(Outcome::table(&["user", "rooms", "rule", "list", "since"], rows).next(next))
    }
}
