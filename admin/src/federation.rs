//! Operations on other servers, as destinations of what happens here.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spec::ids::ServerName;

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};
use crate::ports::{DestinationState, OtherServers};

/// How many rows a page holds unless more are asked for.
const PAGE: usize = 100;
/// The most rows of a page.
const MAX_PAGE: usize = 1000;

/// Servers that share a room with this one or fail, by name, from a place on.
pub(crate) fn destinations(admin: &Admin) -> Result<Vec<(ServerName, DestinationState)>, AdminError> {
    let port = others(admin)?;
    let mut servers = admin.rooms().servers()?;
    servers.extend(port.failing());
    servers.remove(admin.rooms().server_name());
    Ok(servers.into_iter().map(|server| (server.clone(), port.state(&server))).collect())
}

/// A server that shares a room with this one or fails.
pub(crate) fn destination(admin: &Admin, server: &str) -> Result<(ServerName, DestinationState), AdminError> {
    let port = others(admin)?;
    let server = ServerName::parse(server)
        .map_err(|_| AdminError::invalid(format!("{server:?} is not the name of a server")))?;
    let state = port.state(&server);
    let is_known = state.failing_since_ms.is_some() || !admin.rooms().server_rooms(&server)?.is_empty();
    if !is_known {
        return Err(AdminError::not_found(format!("{server} shares no room with this server")));
    }
    Ok((server, state))
}

pub(crate) fn others(admin: &Admin) -> Result<&dyn OtherServers, AdminError> {
    admin.ports().other_servers.as_deref().ok_or_else(|| AdminError::unavailable("there is no federation here"))
}

/// List the servers that share a room with this one, and how sending to them goes
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Destinations {
    /// Only those that fail
    #[arg(long)]
    #[serde(default)]
    pub failing: bool,
    /// Only those whose name holds this
    #[arg(long)]
    pub search: Option<String>,
    /// Where the page begins: what the page before named as next
    #[arg(long)]
    pub from: Option<String>,
    /// How many at most [default: 100]
    #[arg(long)]
    pub limit: Option<usize>,
}

impl Operation for Destinations {
    const NAME: (&'static str, &'static str) = ("federation", "destinations");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--failing";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let mut all = destinations(admin)?;
        let search = self.search.unwrap_or_default();
        all.retain(|(server, state)| {
            server.as_str().contains(&search) && (!self.failing || state.failing_since_ms.is_some())
        });
        let total = all.len();
        if let Some(from) = self.from {
            all.retain(|(server, _)| server.as_str() > from.as_str());
        }
        let limit = self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
        let next = (all.len() > limit).then(|| all.get(limit - 1).map(|(server, _)| server.to_string())).flatten();
        let row = |(server, state): &(ServerName, DestinationState)| {
            vec![
                Cell::text(server),
                Cell::or_none(state.failing_since_ms, Cell::Time),
                Cell::or_none(state.retry_at_ms, Cell::Time),
                Cell::number(state.failures),
                Cell::Flag(state.is_pending),
            ]
        };
        let rows = all.iter().take(limit).map(row).collect();
        let columns = ["server", "failing_since", "retry_at", "failures", "pending"];
        Ok(Outcome::table(&columns, rows).next(next).total(total as u64))
    }
}

/// Show how sending to a server goes
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The name of the server
    pub server: String,
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("federation", "show");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{server}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (server, state) = destination(admin, &self.server)?;
        Ok(Outcome::record(vec![
            ("server", Cell::text(&server)),
            ("allowed", Cell::Flag(state.is_allowed)),
            ("failing_since", Cell::or_none(state.failing_since_ms, Cell::Time)),
            ("retry_at", Cell::or_none(state.retry_at_ms, Cell::Time)),
            ("failures", Cell::number(state.failures)),
            ("pending", Cell::Flag(state.is_pending)),
            ("rooms", Cell::number(admin.rooms().server_rooms(&server)?.len())),
        ]))
    }
}

/// Ask a server again at once that was left alone because it failed
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// The name of the server
    pub server: String,
}

impl Operation for Reset {
    const NAME: (&'static str, &'static str) = ("federation", "reset");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{server}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (server, state) = destination(admin, &self.server)?;
        if state.failing_since_ms.is_none() {
            return Ok(Outcome::line(format!("{server} was not left alone")));
        }
        others(admin)?.reset(server.clone()).await;
        Ok(Outcome::line(format!("{server} is asked again at once")))
    }
}

/// List the rooms that a server shares with this one
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rooms {
    /// The name of the server
    pub server: String,
    /// Where the page begins: what the page before named as next
    #[arg(long)]
    pub from: Option<usize>,
    /// How many at most [default: 100]
    #[arg(long)]
    pub limit: Option<usize>,
}

impl Operation for Rooms {
    const NAME: (&'static str, &'static str) = ("federation", "rooms");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{server}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (server, _) = destination(admin, &self.server)?;
        let rooms = admin.rooms().server_rooms(&server)?;
        let (from, limit) = (self.from.unwrap_or(0), self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE));
        let row = |room: &rooms::RoomNid| Ok(vec![Cell::text(admin.rooms().room_id(*room)?)]);
        let rows = rooms.iter().skip(from).take(limit).map(row).collect::<Result<Vec<_>, AdminError>>()?;
        let end = from.saturating_add(rows.len());
        let next = (end < rooms.len()).then_some(end);
        Ok(Outcome::table(&["room"], rows).next(next).total(rooms.len() as u64))
    }
}
