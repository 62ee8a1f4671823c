//! Which server this is.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// Show the version of the server
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {}

impl Operation for Version {
    const NAME: (&'static str, &'static str) = ("server", "version");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        Ok(Outcome::record(vec![
            ("name", "Conduit".into()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("server_name", Cell::text(admin.rooms().server_name())),
        ]))
    }
}
