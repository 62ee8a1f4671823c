//! What the program around the server does: backups.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;
use crate::ports::Program;

fn program(admin: &Admin) -> Result<&dyn Program, AdminError> {
    admin.ports().program.as_deref().ok_or_else(|| AdminError::unavailable("there is no program around this server"))
}

/// Copy everything the server keeps into a new folder, while it runs
///
/// The folder is one of the machine the server runs on, given by its whole path; it must be new or empty.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The folder
    pub directory: String,
}

impl Operation for Backup {
    const NAME: (&'static str, &'static str) = ("server", "backup");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{directory}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let report = program(admin)?.back_up(self.directory, caller.clone()).await;
        report.map(Outcome::Line).map_err(AdminError::Invalid)
    }
}
