//! The configuration of the running server.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};
use crate::ports::{ConfigDifference, Configuration};

fn configuration(admin: &Admin) -> Result<&dyn Configuration, AdminError> {
    let configuration = admin.ports().configuration.as_deref();
    configuration.ok_or_else(|| AdminError::unavailable("there is no program around this server"))
}

/// Show the configuration in force, without secrets
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Only keys that begin so, such as `media` or `log.level`
    pub key: Option<String>,
    /// Only what is not as by default, with the default
    #[arg(long)]
    #[serde(default)]
    pub diff: bool,
}

impl Operation for Config {
    const NAME: (&'static str, &'static str) = ("server", "config");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "media";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let configuration = configuration(admin)?;
        let wanted = self.key.unwrap_or_default();
        if self.diff {
            let row = |ConfigDifference { key, before, after }| {
                vec![Cell::Text(key), Cell::or_none(after, Cell::Text), Cell::or_none(before, Cell::Text)]
            };
            let differences = configuration.differences().into_iter();
            let rows = differences.filter(|difference| difference.key.starts_with(&wanted)).map(row).collect();
            return Ok(Outcome::table(&["key", "value", "default"], rows));
        }
        let values = configuration.values().into_iter().filter(|(key, _)| key.starts_with(&wanted));
        let rows = values.map(|(key, value)| vec![Cell::Text(key), Cell::Text(value)]).collect();
        Ok(Outcome::table(&["key", "value"], rows))
    }
}

/// Read the configuration again, and take over what can be without a restart
///
/// Certificates and the registrations of application services are read again too. With a mistake in it nothing changes.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {}

impl Operation for Reload {
    const NAME: (&'static str, &'static str) = ("server", "reload");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let reloaded = configuration(admin)?.reload().await.map_err(AdminError::Invalid)?;
        let list = |differences: Vec<ConfigDifference>| Cell::List(differences.iter().map(Cell::text).collect());
        Ok(Outcome::record(vec![
            ("changed", list(reloaded.changed)),
            ("needs_restart", list(reloaded.needs_restart)),
            ("application_services", Cell::number(reloaded.appservices)),
        ]))
    }
}

impl std::fmt::Display for ConfigDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
        write!(f, "{}: {} → {}", self.key, show(&self.before), show(&self.after))
    }
}
