//! How well calls went.

use std::collections::BTreeMap;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::read_range;
use crate::admin::Admin;
use crate::arguments::When;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};
use crate::statistics::begin_of;

/// How many participations in calls are looked at.
const MAX_LEGS: usize = 20_000;

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
            let mean = |total: u64, count: u64| total.checked_div(count).map_or(Cell::None, Cell::number);
            vec![
                Cell::text(transport),
                Cell::number(sum.legs),
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
