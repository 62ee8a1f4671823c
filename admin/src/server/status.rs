//! How the server is.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::JobQuery;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// The most jobs that are counted.
const MAX_JOBS: usize = 1000;

/// Show since when the server runs and what it is doing
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {}

impl Operation for Status {
    const NAME: (&'static str, &'static str) = ("server", "status");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let active = JobQuery { active: true, ..JobQuery::default() };
        let failing = admin.ports().other_servers.as_ref().map(|servers| servers.failing().len());
        Ok(Outcome::record(vec![
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("server_name", Cell::text(admin.rooms().server_name())),
            ("started", Cell::Time(admin.started_ms())),
            ("uptime", describe_span(admin.clock().now_ms().saturating_sub(admin.started_ms())).into()),
            ("position", Cell::number(admin.store().visible().0)),
            ("tasks", Cell::number(admin.tasks().running())),
            ("jobs", Cell::number(admin.jobs().list(&active, MAX_JOBS)?.jobs.len())),
            ("failing_servers", Cell::or_none(failing, Cell::number)),
            ("application_services", Cell::number(admin.users().appservices().iter().count())),
        ]))
    }
}

/// `3d 4h 5m`.
fn describe_span(ms: u64) -> String {
    let minutes = ms / 60_000;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m"),
        (0, hours) => format!("{hours}h {minutes}m"),
        (days, hours) => format!("{days}d {hours}h {minutes}m"),
    }
}
