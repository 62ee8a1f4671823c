//! How well calls went.

use std::collections::BTreeMap;

use ::calls::{LegStatistics, PastLeg};
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
use crate::statistics::{Day, begin_of, day_of};

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
    /// Each day by itself
    #[arg(long)]
    #[serde(default)]
    by_day: bool,
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

impl LegSum {
    fn add(&mut self, statistics: &LegStatistics) {
        self.legs += 1;
        if let Some(ms) = statistics.rtt_ms {
            self.timed += 1;
            self.rtt_ms += u64::from(ms);
        }
        self.jitter_ms += u64::from(statistics.jitter_ms);
        self.loss_up += u64::from(statistics.loss_up_permille);
        self.loss_down += u64::from(statistics.loss_down_permille);
        self.bytes = self.bytes.saturating_add(statistics.bytes_up).saturating_add(statistics.bytes_down);
    }

    fn describe(&self) -> [Cell; 6] {
        let mean = |total: u64, count: u64| Cell::or_none(total.checked_div(count), Cell::number);
        [
            Cell::number(self.legs),
            mean(self.rtt_ms, self.timed),
            mean(self.jitter_ms, self.legs),
            mean(self.loss_up, self.legs),
            mean(self.loss_down, self.legs),
            Cell::Bytes(self.bytes),
        ]
    }
}

const COLUMNS: [&str; 8] = [
    "day",
    "transport",
    "participations",
    "round_trip_ms",
    "jitter_ms",
    "loss_up_permille",
    "loss_down_permille",
    "media",
];

/// Participations, the last first, that ended on a day or later: by the day on which they ended, if days are told apart,
/// and by how their media travelled.
fn table(legs: impl IntoIterator<Item = PastLeg>, from: Day, by_day: bool) -> Outcome {
    let mut sums: BTreeMap<(Option<Day>, String), LegSum> = BTreeMap::new();
    for leg in legs.into_iter().take_while(|leg| day_of(leg.left_ms) >= from) {
        let day = by_day.then(|| day_of(leg.left_ms));
        sums.entry((day, leg.statistics.transport.clone())).or_default().add(&leg.statistics);
    }
    let skipped = usize::from(!by_day);
    let rows = sums.into_iter().map(|((day, transport), sum)| {
        let named = [Cell::or_none(day, Cell::Day), Cell::text(transport)];
        named.into_iter().chain(sum.describe()).skip(skipped).collect()
    });
    Outcome::table(COLUMNS.get(skipped..).unwrap_or_default(), rows.collect())
}

impl Operation for Calls {
    const NAME: (&'static str, &'static str) = ("stats", "calls");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--since 7d --by-day";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (from, until) = read_range(admin, self.since, self.until);
        let legs = admin.calls().history(None, begin_of(until.saturating_add(1)), MAX_LEGS)?;
        Ok(table(legs, from, self.by_day))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spec::ids::{RoomId, UserId};

    use super::*;

    fn leg(day: Day, transport: &str, rtt_ms: Option<u32>, loss_up_permille: u16) -> PastLeg {
        let statistics = LegStatistics {
            transport: transport.to_owned(),
            rtt_ms,
            loss_up_permille,
            bytes_up: 10,
            ..LegStatistics::default()
        };
        PastLeg {
            room: RoomId::parse("!room:us").unwrap(),
            slot: "call".to_owned(),
            user: UserId::parse("@alice:us").unwrap(),
            device: None,
            identity: "alice".to_owned(),
            call_ms: 0,
            joined_ms: 0,
            left_ms: begin_of(day) + 5,
            statistics,
        }
    }

    #[test]
    fn means_are_those_of_the_days_that_are_asked_for() {
        let legs = [leg(12, "udp", Some(30), 4), leg(12, "relay", None, 9), leg(11, "udp", Some(10), 0)];
        let legs = || legs.iter().cloned().chain([leg(9, "udp", Some(1000), 1000)]);
        let items = |from, by_day| table(legs(), from, by_day).to_json()["items"].clone();
        let all = items(10, false);
        assert_eq!((&all[0]["transport"], &all[0]["round_trip_ms"]), (&json!("relay"), &json!(null)));
        assert_eq!((&all[1]["participations"], &all[1]["round_trip_ms"]), (&json!(2), &json!(20)));
        assert_eq!((&all[1]["loss_up_permille"], &all[1]["media"], all[1].get("day")), (&json!(2), &json!(20), None));
        let days = items(10, true);
        let days: Vec<_> = days.as_array().unwrap().iter().map(|row| (&row["day"], &row["transport"])).collect();
        let (first, second) = (&json!("1970-01-12"), &json!("1970-01-13"));
        assert_eq!(days, [(first, &json!("udp")), (second, &json!("relay")), (second, &json!("udp"))]);
        assert_eq!(items(13, false), json!([]));
    }
}
