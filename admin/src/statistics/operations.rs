//! `stats …`: figures for administrators.

mod calls;
mod days;
mod events;
mod latency;

use std::collections::BTreeMap;

use clap::Args;
use runtime::text::TextFamily;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use calls::Calls;
pub use days::{Growth, Media, Storage, Users};
pub use events::{Messages, Rooms};
pub use latency::Latency;

use super::{Day, day_of};
use crate::admin::Admin;
use crate::arguments::When;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many days are shown if nobody says.
const USUAL_DAYS: Day = 30;

/// Show how many came back: of the users of the month before last, who was active in the last 30 days
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {}

/// Show what goes to other servers and comes from them since the start
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Federation {}

/// The days from one moment to another: by default the last 30.
fn read_range(admin: &Admin, since: Option<When>, until: Option<When>) -> (Day, Day) {
    let now = admin.clock().now_ms();
    let until = until.map_or(now, |until| until.in_the_past(now));
    let since = since.map(|since| day_of(since.in_the_past(now)));
    (since.unwrap_or(day_of(until).saturating_sub(USUAL_DAYS - 1)), day_of(until))
}

impl Operation for Retention {
    const NAME: (&'static str, &'static str) = ("stats", "retention");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let retention = admin.statistics().retention(day_of(admin.clock().now_ms()))?;
        let percent = retention.stayed.saturating_mul(100).checked_div(retention.before);
        Ok(Outcome::record(vec![
            ("active_before", Cell::number(retention.before)),
            ("still_active", Cell::number(retention.stayed)),
            ("retention_percent", Cell::or_none(percent, Cell::number)),
        ]))
    }
}

/// What a figure says: the sum of its series that have this label, or of all.
fn sum(figures: &BTreeMap<String, TextFamily>, name: &str, label: Option<(&str, &str)>) -> Cell {
    let samples = figures.get(name).map(|family| family.samples.as_slice()).unwrap_or_default();
    let wanted = samples
        .iter()
        .filter(|sample| label.is_none_or(|(key, value)| sample.labels.get(key).is_some_and(|found| found == value)));
    Cell::Number(wanted.map(|sample| sample.value).sum::<f64>() as i64)
}

impl Operation for Federation {
    const NAME: (&'static str, &'static str) = ("stats", "federation");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let figures = admin.statistics().read_figures()?;
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
