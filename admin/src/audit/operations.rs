//! Operations on the audit log: it can be read, by administrators only, and never written.

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::log::{AuditQuery, RecordId};
use super::row::{AuditRow, Ending};
use crate::admin::Admin;
use crate::arguments::{UserArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome, format_time};

/// How many records a page holds unless more are asked for.
const PAGE: usize = 50;
/// The most records of a page.
const MAX_PAGE: usize = 1000;
/// The most records of an exported file.
const MAX_EXPORT: usize = 100_000;

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeArg {
    /// It began, and its end is not known
    Begun,
    /// It was done
    Done,
    /// Who asked may not
    Refused,
    /// It failed
    Failed,
}

impl From<OutcomeArg> for Ending {
    fn from(outcome: OutcomeArg) -> Ending {
        match outcome {
            OutcomeArg::Begun => Ending::Begun,
            OutcomeArg::Done => Ending::Done,
            OutcomeArg::Refused => Ending::Refused,
            OutcomeArg::Failed => Ending::Failed,
        }
    }
}

/// List what was done, the newest first
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only from this moment on
    #[arg(long)]
    pub since: Option<When>,
    /// Only before this moment
    #[arg(long)]
    pub until: Option<When>,
    /// Only what this user, `operator` or `server` did
    #[arg(long)]
    pub who: Option<UserArg>,
    /// Only operations whose name begins so, such as `user` or `user suspend`
    #[arg(long)]
    pub operation: Option<String>,
    /// Only what was done to this user, room, media or other thing
    #[arg(long)]
    pub target: Option<String>,
    /// Only what ended so
    #[arg(long)]
    pub outcome: Option<OutcomeArg>,
    /// Where the page begins: what the page before named as next
    #[arg(long)]
    pub from: Option<u64>,
    /// How many at most [default: 50]
    #[arg(long)]
    pub limit: Option<usize>,
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("audit", "list");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--since 1d --outcome done";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let now_ms = admin.clock().now_ms();
        let query = AuditQuery {
            before: self.from.map(RecordId),
            since_ms: self.since.map(|when| when.in_the_past(now_ms)),
            until_ms: self.until.map(|when| when.in_the_past(now_ms)),
            who: self.who.map(|who| find_actor(admin, &who)).transpose()?,
            operation: self.operation,
            target: self.target,
            ending: self.outcome.map(Ending::from),
        };
        let page = admin.audit().search(&query, self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE))?;
        let row = |(_, record): &(RecordId, AuditRow)| {
            vec![
                Cell::Time(record.at_ms),
                Cell::text(&record.who),
                record.face.name().into(),
                Cell::text(&record.operation),
                Cell::Json(read_arguments(record)),
                record.ending.name().into(),
                Cell::number(record.count),
                Cell::or_none(record.message.as_ref(), Cell::text),
            ]
        };
        let columns = ["time", "who", "through", "operation", "arguments", "outcome", "times", "message"];
        let rows = page.records.iter().map(row).collect();
        Ok(Outcome::table(&columns, rows).next(page.next.map(|RecordId(id)| id)))
    }
}

/// Write what was done into a file of JSON lines, the newest first
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Only from this moment on
    #[arg(long)]
    pub since: Option<When>,
    /// Only before this moment
    #[arg(long)]
    pub until: Option<When>,
}

impl Operation for Export {
    const NAME: (&'static str, &'static str) = ("audit", "export");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--since 1d";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let now_ms = admin.clock().now_ms();
        let mut query = AuditQuery {
            since_ms: self.since.map(|when| when.in_the_past(now_ms)),
            until_ms: self.until.map(|when| when.in_the_past(now_ms)),
            ..AuditQuery::default()
        };
        let (mut lines, mut count) = (Vec::new(), 0);
        loop {
            let page = admin.audit().search(&query, MAX_PAGE)?;
            for (id, record) in &page.records {
                lines.extend_from_slice(describe(*id, record).to_string().as_bytes());
                lines.push(b'\n');
            }
            count += page.records.len();
            match page.next {
                Some(next) if count < MAX_EXPORT => query.before = Some(next),
                Some(next) => {
                    caller.progress(format!("only the newest {count} records; go on with --until {}", next.time_ms()));
                    break;
                }
                None => break,
            }
            tokio::task::yield_now().await;
        }
        let name = format!("audit-{}.jsonl", format_time(now_ms).replace([' ', ':'], "-"));
        Ok(Outcome::file(name, "application/jsonl", lines))
    }
}

fn find_actor(admin: &Admin, who: &UserArg) -> Result<String, AdminError> {
    match who.as_str() {
        who @ ("operator" | "server") => Ok(who.to_owned()),
        _ => Ok(who.user_id(admin)?.to_string()),
    }
}

fn read_arguments(record: &AuditRow) -> Value {
    serde_json::from_str(&record.arguments).unwrap_or_default()
}

fn describe(RecordId(id): RecordId, record: &AuditRow) -> Value {
    json!({
        "id": id,
        "time": record.at_ms,
        "last": record.last_ms,
        "who": record.who,
        "through": record.face.name(),
        "operation": record.operation,
        "arguments": read_arguments(record),
        "outcome": record.ending.name(),
        "times": record.count,
        "message": record.message,
    })
}
