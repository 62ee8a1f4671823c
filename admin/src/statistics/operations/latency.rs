//! How long things took.

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
use crate::statistics::StretchFigures;

/// Show how long things took, such as from sending until it was received
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
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

impl Operation for Latency {
    const NAME: (&'static str, &'static str) = ("stats", "latency");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--since 7d --by-day";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        // So that today is as it is now.
        admin.statistics().sample().await?;
        let figures = admin.statistics().latency(read_range(admin, self.since, self.until), self.by_day)?;
        let columns = ["day", "what", "count", "p50_ms", "p90_ms", "p99_ms"];
        let skipped = usize::from(!self.by_day);
        let rows = figures.into_iter().map(|figures| describe(figures).into_iter().skip(skipped).collect());
        Ok(Outcome::table(columns.get(skipped..).unwrap_or_default(), rows.collect()))
    }
}

fn describe(figures: StretchFigures) -> [Cell; 6] {
    let [half, most, nearly_all] =
        figures.quantiles.map(|q| Cell::or_none(q, |seconds| Cell::text(format!("{:.1}", seconds * 1e3))));
    let day = Cell::or_none(figures.day, Cell::Day);
    [day, figures.stretch.name().into(), Cell::number(figures.count), half, most, nearly_all]
}
