//! `stats …`: figures for administrators.

use std::collections::BTreeMap;

use clap::Args;
use runtime::text::{TextFamily, quantile, read_exposition};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::read::{Dimension, MessageCount};
use super::{Day, begin_of, day_of};
use crate::admin::Admin;
use crate::arguments::{RoomArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many days are shown if nobody says.
const USUAL_DAYS: Day = 30;
/// How many rows an answer has if nobody says, and at most.
const USUAL_ROWS: usize = 100;
const MAX_ROWS: usize = 1000;
/// How many participations in calls are looked at.
const MAX_LEGS: usize = 20_000;

/// Count events: by day, room, type, or origin
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Messages {
    /// The first day; 30 days ago if not given
    #[arg(long)]
    since: Option<When>,
    /// The last day; today if not given
    #[arg(long)]
    until: Option<When>,
    /// Of one room only
    #[arg(long)]
    room: Option<RoomArg>,
    /// What to tell apart, also several: day, room, type, origin
    #[arg(long, value_enum, value_delimiter = ',')]
    #[serde(default)]
    by: Vec<Dimension>,
    /// How many rows, those with most events; 100 if not given, at most 1000
    #[arg(long)]
    limit: Option<usize>,
}

/// Show how many users were active: each day, and in the 30 days up to it
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// The first day; 30 days ago if not given
    #[arg(long)]
    since: Option<When>,
    /// The last day; today if not given
    #[arg(long)]
    until: Option<When>,
}

/// Show how many came back: of the users of the month before last, who was active in the last 30 days
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {}

/// Show the rooms with most events
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rooms {
    /// The first day; 30 days ago if not given
    #[arg(long)]
    since: Option<When>,
    /// The last day; today if not given
    #[arg(long)]
    until: Option<When>,
    /// How many rooms; 100 if not given, at most 1000
    #[arg(long)]
    limit: Option<usize>,
}

/// Show how much media there are, and how many were moved since the start
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Media {}

/// Show what goes to other servers and comes from them since the start
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Federation {}

/// Show how well calls went, by how their media travelled
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// The first day; 30 days ago if not given
    #[arg(long)]
    since: Option<When>,
    /// The last day; today if not given
    #[arg(long)]
    until: Option<When>,
}

/// Show how long things took since the start
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {}

fn read_range(admin: &Admin, since: Option<When>, until: Option<When>) -> (Day, Day) {
    let now = admin.clock().now_ms();
    let until = until.map_or(now, |until| until.in_the_past(now));
    let since = since.map(|since| day_of(since.in_the_past(now)));
    (since.unwrap_or(day_of(until).saturating_sub(USUAL_DAYS - 1)), day_of(until))
}

fn day_cell(day: Day) -> Cell {
    Cell::Time(begin_of(day))
}

fn number(value: u64) -> Cell {
    Cell::Number(i64::try_from(value).unwrap_or(i64::MAX))
}

fn read_limit(limit: Option<usize>) -> usize {
    limit.unwrap_or(USUAL_ROWS).clamp(1, MAX_ROWS)
}

impl Operation for Messages {
    const NAME: (&'static str, &'static str) = ("stats", "messages");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--since 7d --by day,type";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let range = read_range(admin, self.since, self.until);
        let room = self.room.map(|room| room.known_room(admin)).transpose()?.map(|(nid, _)| nid);
        let mut counts = admin.statistics().messages(range, room, &self.by)?;
        let total = counts.len() as u64;
        // With days, in their order; else the largest first.
        if !self.by.contains(&Dimension::Day) {
            counts.sort_by_key(|count| std::cmp::Reverse(count.count));
        }
        counts.truncate(read_limit(self.limit));
        let columns = ["day", "room", "type", "origin"];
        let all = [Dimension::Day, Dimension::Room, Dimension::Type, Dimension::Origin];
        let shown: Vec<usize> =
            (0..all.len()).filter(|at| all.get(*at).is_some_and(|by| self.by.contains(by))).collect();
        let names: Vec<&'static str> =
            shown.iter().filter_map(|at| columns.get(*at).copied()).chain(["events"]).collect();
        let mut rows = Vec::with_capacity(counts.len());
        for count in counts {
            let cells = describe(admin, &count)?;
            let mut row: Vec<Cell> = shown.iter().filter_map(|at| cells.get(*at).cloned()).collect();
            row.push(number(count.count));
            rows.push(row);
        }
        Ok(Outcome::table(&names, rows).total(total))
    }
}

fn describe(admin: &Admin, count: &MessageCount) -> Result<[Cell; 4], AdminError> {
    let room = match count.room {
        Some(room) => Cell::text(admin.rooms().head(room)?.room_id()),
        None => Cell::None,
    };
    Ok([
        count.day.map_or(Cell::None, day_cell),
        room,
        count.kind.as_ref().map_or(Cell::None, Cell::text),
        count.is_local.map_or(Cell::None, |is_local| Cell::text(if is_local { "local" } else { "remote" })),
    ])
}

impl Operation for Users {
    const NAME: (&'static str, &'static str) = ("stats", "users");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--since 7d";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (from, until) = read_range(admin, self.since, self.until);
        let days = admin.statistics().active_users(from, until)?;
        let rows = days.into_iter().map(|day| vec![day_cell(day.day), number(day.daily), number(day.monthly)]);
        Ok(Outcome::table(&["day", "daily_active", "monthly_active"], rows.collect()))
    }
}

impl Operation for Retention {
    const NAME: (&'static str, &'static str) = ("stats", "retention");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (stayed, before) = admin.statistics().retention(day_of(admin.clock().now_ms()))?;
        let percent = (stayed.saturating_mul(100)).checked_div(before).map_or(Cell::None, number);
        Ok(Outcome::record(vec![
            ("active_before", number(before)),
            ("still_active", number(stayed)),
            ("retention_percent", percent),
        ]))
    }
}

impl Operation for Rooms {
    const NAME: (&'static str, &'static str) = ("stats", "rooms");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let range = read_range(admin, self.since, self.until);
        let mut counts = admin.statistics().messages(range, None, &[Dimension::Room])?;
        counts.retain(|count| count.room.is_some());
        counts.sort_by_key(|count| std::cmp::Reverse(count.count));
        let total = counts.len() as u64;
        let mut rows = Vec::new();
        for count in counts.into_iter().take(read_limit(self.limit)) {
            let Some(room) = count.room else { continue };
            let head = admin.rooms().head(room)?;
            rows.push(vec![Cell::text(head.room_id()), number(head.joined_count().into()), number(count.count)]);
        }
        Ok(Outcome::table(&["room", "joined", "events"], rows).total(total))
    }
}

/// The figures of the server, by name.
fn read_figures(admin: &Admin) -> Result<BTreeMap<String, TextFamily>, AdminError> {
    read_exposition(&admin.metrics().render()).map_err(|reason| {
        tracing::error!(reason, "the metrics cannot be read");
        AdminError::unavailable("the metrics cannot be read; see the log")
    })
}

/// What a figure says: the sum of its series that have this label, or of all.
fn sum(figures: &BTreeMap<String, TextFamily>, name: &str, label: Option<(&str, &str)>) -> Cell {
    let samples = figures.get(name).map(|family| family.samples.as_slice()).unwrap_or_default();
    let wanted = samples
        .iter()
        .filter(|sample| label.is_none_or(|(key, value)| sample.labels.get(key).is_some_and(|found| found == value)));
    Cell::Number(wanted.map(|sample| sample.value).sum::<f64>() as i64)
}

impl Operation for Media {
    const NAME: (&'static str, &'static str) = ("stats", "media");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let usage = admin.media().server_usage()?;
        let figures = read_figures(admin)?;
        let moved = |what| sum(&figures, "conduit_media_total", Some(("what", what)));
        Ok(Outcome::record(vec![
            ("local", number(usage.local.count)),
            ("local_size", Cell::Bytes(usage.local.bytes)),
            ("remote", number(usage.remote.count)),
            ("remote_size", Cell::Bytes(usage.remote.bytes)),
            ("uploads_since_start", moved("uploaded")),
            ("downloads_since_start", moved("downloaded")),
        ]))
    }
}

impl Operation for Federation {
    const NAME: (&'static str, &'static str) = ("stats", "federation");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let figures = read_figures(admin)?;
        let figure = |name| sum(&figures, name, None);
        Ok(Outcome::record(vec![
            ("servers_waited_for", figure("conduit_federation_pending_servers")),
            ("servers_backing_off", figure("conduit_federation_backing_off")),
            ("events_sent", figure("conduit_federation_pdus_sent_total")),
            ("transactions_sent", figure("conduit_federation_transactions_sent_total")),
            ("transactions_failed", figure("conduit_federation_transactions_failed_total")),
            ("transactions_received", figure("conduit_federation_transactions_received_total")),
            ("events_accepted", sum(&figures, "conduit_federation_pdus_received_total", Some(("outcome", "accepted")))),
            ("events_waiting", figure("conduit_federation_staged_events")),
        ]))
    }
}

impl Operation for Latency {
    const NAME: (&'static str, &'static str) = ("stats", "latency");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let figures = read_figures(admin)?;
        let stretches = [
            ("request to commit", "conduit_event_append_seconds"),
            ("send to sync", "conduit_delivery_sync_seconds"),
            ("send to other servers", "conduit_delivery_federation_seconds"),
            ("sync, computing", "conduit_sync_compute_seconds"),
            ("disk write", "conduit_commit_write_seconds"),
            ("state resolution", "conduit_state_resolution_seconds"),
        ];
        let rows = stretches.into_iter().map(|(what, name)| {
            let buckets = figures.get(name).map(TextFamily::buckets).unwrap_or_default();
            let count = buckets.last().map_or(0.0, |(_, count)| *count);
            let ms =
                |q| quantile(&buckets, q).map_or(Cell::None, |seconds| Cell::text(format!("{:.1}", seconds * 1e3)));
            vec![Cell::text(what), Cell::Number(count as i64), ms(0.5), ms(0.9), ms(0.99)]
        });
        Ok(Outcome::table(&["what", "count", "p50_ms", "p90_ms", "p99_ms"], rows.collect()))
    }
}

/// What participations have in common.
#[derive(Default)]
struct LegSum {
    legs: u64,
    timed: u64,
    rtt_ms: u64,
    jitter_ms: u64,
    loss_up: u64,
    loss_down: u64,
    bytes: u64,
}

impl Operation for Calls {
    const NAME: (&'static str, &'static str) = ("stats", "calls");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--since 7d";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (from, until) = read_range(admin, self.since, self.until);
        let mut sums: BTreeMap<String, LegSum> = BTreeMap::new();
        for leg in admin.calls().history(None, begin_of(until.saturating_add(1)), MAX_LEGS)? {
            if leg.left_ms < begin_of(from) {
                break;
            }
            let statistics = leg.statistics;
            let sum = sums.entry(statistics.transport).or_default();
            sum.legs += 1;
            if let Some(ms) = statistics.rtt_ms {
                sum.timed += 1;
                sum.rtt_ms += u64::from(ms);
            }
            sum.jitter_ms += u64::from(statistics.jitter_ms);
            sum.loss_up += u64::from(statistics.loss_up_permille);
            sum.loss_down += u64::from(statistics.loss_down_permille);
            sum.bytes = sum.bytes.saturating_add(statistics.bytes_up).saturating_add(statistics.bytes_down);
        }
        let rows = sums.into_iter().map(|(transport, sum)| {
            let mean = |total: u64, count: u64| total.checked_div(count).map_or(Cell::None, number);
            vec![
                Cell::text(transport),
                number(sum.legs),
                mean(sum.rtt_ms, sum.timed),
                mean(sum.jitter_ms, sum.legs),
                mean(sum.loss_up, sum.legs),
                mean(sum.loss_down, sum.legs),
                Cell::Bytes(sum.bytes),
            ]
        });
        let columns = [
            "transport",
            "participations",
            "round_trip_ms",
            "jitter_ms",
            "loss_up_permille",
            "loss_down_permille",
            "media",
        ];
        Ok(Outcome::table(&columns, rows.collect()))
    }
}
