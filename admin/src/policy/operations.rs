//! The group `policy`.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spec::ids::{RoomId, ServerName, UserId};
use spec::policy_list::{ListedRule, PolicySubject};
use storage::{Batch, Read};

use super::follow::refresh;
use super::rows::{POLICY_LISTS, POLICY_MODERATORS, PolicyListRow};
use super::{gate, join};
use crate::admin::Admin;
use crate::arguments::{RoomArg, Window};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// The most lists that are followed.
const MAX_LISTS: usize = 50;
/// How many rules a page has unless another number is asked for, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;

/// Follow a policy list
///
/// The server joins the room and applies its rules: it refuses invitations, joins and knocks of users and servers that
/// are named and into rooms that are named, withdraws such invitations that there are, and blocks the rooms; rooms that
/// are to be taken down are left by all users of this server.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// The room of the list: its id or alias, which may be another server's
    pub room: RoomArg,
    /// A server through which to join; may be given several times
    #[arg(long)]
    #[serde(default)]
    pub via: Vec<String>,
}

/// Stop following a policy list
///
/// The server leaves the room. Blocks, suspensions and bans that it made because of the list's rules are ended.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unfollow {
    /// The room of the list
    pub room: RoomArg,
}

/// Show the policy lists that the server follows
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

/// Show the rules of the policy lists
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// Only those of this list
    #[arg(long)]
    #[serde(default)]
    pub room: Option<RoomArg>,
    /// Where the page begins
    #[arg(long)]
    #[serde(default)]
    pub from: Option<usize>,
    /// How many at most
    #[arg(long)]
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Show which rules name a user, a room or a server, and what follows
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// `@user:server`, `!room`, `#alias:server` or the name of a server
    pub entity: String,
}

impl Operation for Follow {
    const NAME: (&'static str, &'static str) = ("policy", "follow");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let via = self.via.iter().map(ServerName::parse).collect::<Result<Vec<_>, _>>();
        let via = via.map_err(|_| AdminError::invalid("--via is the name of a server"))?;
        let (room, of_alias) = join::find_room(admin, self.room.as_str()).await?;
        let key = room.as_str().to_owned();
        if admin.store().contains(&POLICY_LISTS, &key)? {
            return Ok(Outcome::line(format!("The list {room} is followed already.")));
        }
        if admin.store().scan(&POLICY_LISTS, &()).keys().take(MAX_LISTS).count() == MAX_LISTS {
            return Err(AdminError::conflict(format!("{MAX_LISTS} lists are followed already")));
        }
        let user = server_user(admin).await?;
        caller.progress("joining the room");
        join::join(admin, &user, &room, &[via, of_alias].concat()).await?;
        let mut batch = Batch::new();
        let row = PolicyListRow { by: caller.who.to_string(), since_ms: admin.clock().now_ms() };
        batch.put(&POLICY_LISTS, &key, &row);
        admin.store().commit(batch).await?;
        refresh(admin).await?;
        let rules = admin.rooms().room_nid(&room)?.and_then(|room| admin.policy().rules_of(room));
        Ok(Outcome::line(format!("The list {room} is followed; it has {} rules.", rules.unwrap_or_default())))
    }
}

impl Operation for Unfollow {
    const NAME: (&'static str, &'static str) = ("policy", "unfollow");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, _) = join::find_room(admin, self.room.as_str()).await?;
        let key = room.as_str().to_owned();
        if !admin.store().contains(&POLICY_LISTS, &key)? {
            return Ok(Outcome::line(format!("The list {room} is not followed.")));
        }
        let mut batch = Batch::new();
        batch.delete(&POLICY_LISTS, &key).delete(&POLICY_MODERATORS, &key);
        admin.store().commit(batch).await?;
        refresh(admin).await?;
        let user = admin.users().parse_local_user(&admin.config().localpart)?;
        if let Err(error) = join::leave(admin, &user, &room).await {
            return Ok(Outcome::line(format!("The list {room} is not followed any more; leaving it failed: {error}")));
        }
        Ok(Outcome::line(format!("The list {room} is not followed any more.")))
    }
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("policy", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let mut rows = Vec::new();
        for list in admin.store().scan(&POLICY_LISTS, &()).iter() {
            let (list, row) = list?;
            let room = RoomId::parse(&list).ok().map(|id| admin.rooms().room_nid(&id)).transpose()?.flatten();
            let name = match room {
                Some(room) => admin.rooms().summary(room)?.name,
                None => None,
            };
            let rules = room.and_then(|room| admin.policy().rules_of(room));
            rows.push(vec![
                Cell::text(&list),
                Cell::or_none(name, Cell::text),
                // Without a number the server is not in the room.
                Cell::or_none(rules, Cell::number),
                Cell::or_none(admin.store().get(&POLICY_MODERATORS, &list)?, Cell::Text),
                Cell::Time(row.since_ms),
                row.by.into(),
            ]);
        }
        Ok(Outcome::table(&["room", "name", "rules", "acts_as", "since", "by"], rows))
    }
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("policy", "show");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let room = match &self.room {
            Some(room) => Some(join::find_room(admin, room.as_str()).await?.0),
            None => None,
        };
        let (rules, window) = (admin.policy().rules(), Window::new(self.from, self.limit, PAGE, MAX_PAGE));
        let is_wanted = |listed: &&ListedRule| room.as_ref().is_none_or(|room| *listed.list == *room.as_str());
        let total = rules.all().iter().filter(is_wanted).count();
        let page = rules.all().iter().filter(is_wanted).skip(window.skip).take(window.limit);
        let rows: Vec<_> = page.map(row).collect();
        let next = window.next(rows.len(), total);
        Ok(Outcome::table(&COLUMNS, rows).total(total as u64).next(next))
    }
}

impl Operation for Test {
    const NAME: (&'static str, &'static str) = ("policy", "test");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{other}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (rules, entity) = (admin.policy().rules(), self.entity.as_str());
        let mut found: Vec<&ListedRule> = Vec::new();
        match entity.chars().next() {
            Some('!' | '#') => found.extend(rules.matching(PolicySubject::Room, entity)),
            Some('@') => {
                let user = UserId::parse(entity);
                let user = user.map_err(|_| AdminError::invalid(format!("{entity:?} is not a user")))?;
                found.extend(gate::rules_naming(&rules, &user));
            }
            _ => {
                let server = ServerName::parse(entity);
                let server = server.map_err(|_| AdminError::invalid(format!("{entity:?} is not a server")))?;
                found.extend(rules.matching(PolicySubject::Server, entity));
                if server.host() != entity {
                    found.extend(rules.matching(PolicySubject::Server, server.host()));
                }
            }
        }
        Ok(Outcome::table(&COLUMNS, found.into_iter().map(row).collect()))
    }
}

const COLUMNS: [&str; 5] = ["kind", "entity", "recommendation", "reason", "list"];

fn row(listed: &ListedRule) -> Vec<Cell> {
    let rule = &listed.rule;
    vec![
        rule.subject().as_str().into(),
        rule.entity().into(),
        rule.recommendation().as_str().into(),
        Cell::or_none(rule.reason(), Cell::text),
        Cell::text(&listed.list),
    ]
}

/// The user who is in the rooms of the lists.
async fn server_user(admin: &Admin) -> Result<UserId, AdminError> {
    let config = admin.config();
    let name = Some(config.display_name.as_str()).filter(|name| !name.is_empty());
    Ok(admin.users().ensure_server_user(&config.localpart, name, None).await?.1)
}
