//! Operations on the index of messages.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobKind, Step};
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// Build the index of messages from nothing, as a job
///
/// Meanwhile only a part of the messages is found. Once begun it goes on to its end, also if the job is cancelled.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {}

impl Operation for Rebuild {
    const NAME: (&'static str, &'static str) = ("search", "rebuild");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        find_search(admin)?;
        let job = admin.jobs().start::<RebuildSearch>(caller, &RebuildArguments {}, None).await?;
        Ok(Outcome::record(vec![("job", Cell::number(job.0))]))
    }
}

fn find_search(admin: &Admin) -> Result<&::search::Search, AdminError> {
    let off = || AdminError::unavailable("the search is not enabled: see [search] in the configuration");
    admin.search().as_ref().ok_or_else(off)
}

/// The job of [`Rebuild`]: one step, because the index goes on by itself and survives a restart.
pub(crate) struct RebuildSearch;

#[derive(Serialize, Deserialize)]
pub(crate) struct RebuildArguments {}

impl JobKind for RebuildSearch {
    const NAME: &'static str = "rebuild-search";
    type Arguments = RebuildArguments;
    type Cursor = ();

    async fn step(admin: &Admin, _: &RebuildArguments, (): ()) -> Result<Step<()>, AdminError> {
        let events = find_search(admin)?.rebuild(&|_| {}).await?;
        Ok(Step::Done(json!({"events": events})))
    }
}
