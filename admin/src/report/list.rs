//! Lists of reports.

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::{ReportFilter, ReportKind};

use super::{Named, name_kind};
use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

/// What a report is about
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An event
    Event,
    /// A room
    Room,
    /// A user
    User,
}

/// How far a report is
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nobody has taken it up
    Open,
    /// Somebody looks into it
    Assigned,
    /// It was answered
    Closed,
}

/// List what users have reported, newest first
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only those about events, rooms or users
    #[arg(long)]
    pub kind: Option<Kind>,
    /// Only those of this state
    #[arg(long)]
    pub state: Option<State>,
    /// Only those about this room or events in it
    #[arg(long)]
    pub room: Option<RoomArg>,
    /// Only those that this user wrote
    #[arg(long)]
    pub reporter: Option<UserArg>,
    /// Only those about events of this user
    #[arg(long)]
    pub sender: Option<UserArg>,
    /// Only those about this user
    #[arg(long)]
    pub user: Option<UserArg>,
    /// Oldest first
    #[arg(long)]
    #[serde(default)]
    pub oldest_first: bool,
    /// How many to show, at most 1000
    #[arg(long)]
    pub limit: Option<usize>,
    /// Where to go on, as the page before says it
    #[arg(long)]
    pub from: Option<usize>,
}

impl List {
    fn filter(&self, admin: &Admin) -> Result<ReportFilter, AdminError> {
        let user = |user: &Option<UserArg>| -> Result<Option<String>, AdminError> {
            let id = user.as_ref().map(|user| user.user_id(admin)).transpose()?;
            Ok(id.map(|id| id.as_str().to_owned()))
        };
        let room = self.room.as_ref().map(|room| room.room_id(admin)).transpose()?;
        let state = self.state.map(|state| match state {
            State::Open => "open",
            State::Assigned => "assigned",
            State::Closed => "closed",
        });
        Ok(ReportFilter {
            kind: self.kind.map(|kind| match kind {
                Kind::Event => ReportKind::Event,
                Kind::Room => ReportKind::Room,
                Kind::User => ReportKind::User,
            }),
            room: room.map(|room| room.as_str().to_owned()),
            reporter: user(&self.reporter)?,
            subject: user(&self.user)?,
            sender: user(&self.sender)?,
            state: state.map(str::to_owned),
        })
    }
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("report", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--state open --room {room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (limit, from) = (self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT), self.from.unwrap_or(0));
        let page = admin.users().list_reports(&self.filter(admin)?, !self.oldest_first, from, limit)?;
        let mut rows = Vec::new();
        for stored in page.items {
            let named = Named::find(admin, stored)?;
            let report = &named.stored.report;
            rows.push(vec![
                Cell::number(named.id),
                Cell::Time(report.at_ms),
                name_kind(report.kind()).into(),
                named.stored.state.as_str().into(),
                Cell::Text(named.reporter.clone()),
                named.subject(),
                Cell::or_none(named.sender.clone(), Cell::Text),
                Cell::Text(report.reason.clone()),
            ]);
        }
        let next = from.saturating_add(rows.len());
        let has_more = !rows.is_empty() && u64::try_from(next).is_ok_and(|next| next < page.total);
        let columns = ["report", "time", "kind", "state", "reporter", "subject", "sender", "reason"];
        Ok(Outcome::table(&columns, rows).next(has_more.then_some(next)).total(page.total))
    }
}
