//! Operations on the index of messages.

use ::search::BuildStatus;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobKind, Step};
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// Build the index of messages from nothing, as a job
///
/// Meanwhile only a part of the messages is found. Once begun it goes on to its end, also if the job is cancelled.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// Wait until it is done, instead of a job
    #[arg(long)]
    #[serde(default)]
    pub wait: bool,
}

impl Operation for Rebuild {
    const NAME: (&'static str, &'static str) = ("search", "rebuild");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let search = find_search(admin)?;
        if self.wait {
            let told = caller.clone();
            let report = move |BuildStatus { rooms_left, events }| {
                told.progress(format!("building the search index; events in it: {events}, rooms left: {rooms_left}"));
            };
            let events = search.rebuild(&report).await?;
            return Ok(Outcome::line(format!("the search index is complete; events in it: {events}")));
        }
        Ok(admin.jobs().start::<RebuildSearch>(caller, &RebuildArguments {}).await?.into())
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

    fn target(_: &RebuildArguments) -> Option<String> {
        None
    }

    async fn step(admin: &Admin, _: &RebuildArguments, (): ()) -> Result<Step<()>, AdminError> {
        let events = find_search(admin)?.rebuild(&|_| {}).await?;
        Ok(Step::Done(json!({"events": events})))
    }
}
