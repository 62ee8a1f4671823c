//! Showing one report.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::ReportState;

use super::{Named, name_kind};
use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// Show a report, with the event that it is about
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The number of the report
    pub report: u64,
}

/// The reported event in JSON, if it is about one that is still here.
pub(crate) fn find_event(admin: &Admin, named: &Named) -> Result<Option<rooms::Event>, AdminError> {
    let report = &named.stored.report;
    let (Some(room), Some(event_id)) = (report.room, &report.event_id) else { return Ok(None) };
    Ok(admin.rooms().find_in_room(room, event_id)?)
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("report", "show");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{report}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let named = Named::find(admin, admin.users().report(self.report)?)?;
        let event = find_event(admin, &named)?;
        let report = &named.stored.report;
        let mut fields = vec![
            ("report", Cell::number(named.id)),
            ("time", Cell::Time(report.at_ms)),
            ("kind", name_kind(report.kind()).into()),
            ("state", named.stored.state.as_str().into()),
            ("reporter", Cell::Text(named.reporter.clone())),
            ("user", Cell::or_none(report.user_id.clone(), Cell::Text)),
            ("room", Cell::or_none(named.room_id.clone(), Cell::Text)),
            ("event", Cell::or_none(report.event_id.clone(), Cell::Text)),
            ("sender", Cell::or_none(named.sender.clone(), Cell::Text)),
            ("reason", Cell::Text(report.reason.clone())),
            ("score", Cell::or_none(report.score, Cell::Number)),
        ];
        match &named.stored.state {
            ReportState::Open => {}
            ReportState::Assigned { to, by, at_ms } => fields.extend([
                ("assigned_to", Cell::text(admin.rooms().user_id(*to)?)),
                ("assigned_by", Cell::Text(by.clone())),
                ("assigned", Cell::Time(*at_ms)),
            ]),
            ReportState::Closed { by, at_ms, note } => fields.extend([
                ("closed_by", Cell::Text(by.clone())),
                ("closed", Cell::Time(*at_ms)),
                ("note", Cell::Text(note.clone())),
            ]),
        }
        fields.push(("event_json", Cell::or_none(event.map(|event| event.json().to_owned()), Cell::Text)));
        Ok(Outcome::record(fields))
    }
}
