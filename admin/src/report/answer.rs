//! Taking up, answering and deleting reports.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use users::ServerNotice;

use crate::admin::Admin;
use crate::arguments::UserArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// Say who looks into a report
///
/// Without a user, nobody: the report is open again, also if it was closed.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    /// The number of the report
    pub report: u64,
    /// A moderator or administrator of this server
    #[arg(long)]
    pub to: Option<UserArg>,
}

/// Close a report with a note on what was found or done
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The number of the report
    pub report: u64,
    /// What was found or done, for the record
    pub note: String,
    /// Send this text to whoever reported, as a server notice
    #[arg(long)]
    pub tell_reporter: Option<String>,
}

/// Delete a report
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The number of the report
    pub report: u64,
}

impl Operation for Assign {
    const NAME: (&'static str, &'static str) = ("report", "assign");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{report} --to {admin}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let to = match &self.to {
            None => None,
            Some(user) => {
                let account = user.account(admin)?;
                let mays = Caller::new(crate::caller::Actor::User(account.user, account.user_id.clone()), caller.face);
                if admin.check_permission(&mays, Needs::Moderator).is_err() {
                    return Err(AdminError::invalid(format!("{} does not moderate this server", account.user_id)));
                }
                Some(account)
            }
        };
        let by = caller.who.to_string();
        admin.users().assign_report(self.report, to.as_ref().map(|account| account.user), &by).await?;
        Ok(Outcome::line(match to {
            Some(account) => format!("report {} is assigned to {}", self.report, account.user_id),
            None => format!("report {} is open", self.report),
        }))
    }
}

impl Operation for Answer {
    const NAME: (&'static str, &'static str) = ("report", "answer");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{report} 'the user was warned'";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let users = admin.users();
        let reporter = users.report(self.report)?.report.reporter;
        if let Some(text) = &self.tell_reporter {
            let target = admin.rooms().user_id(reporter)?;
            let content = json!({"msgtype": "m.text", "body": text}).as_object().cloned().unwrap_or_else(Map::new);
            let notice = ServerNotice { kind: "m.room.message".into(), state_key: None, content };
            users.send_server_notice(&target, notice, None).await?;
        }
        users.answer_report(self.report, &self.note, &caller.who.to_string()).await?;
        let told = if self.tell_reporter.is_some() { ", and its reporter was told" } else { "" };
        Ok(Outcome::line(format!("report {} is closed{told}", self.report)))
    }
}

impl Operation for Delete {
    const NAME: (&'static str, &'static str) = ("report", "delete");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{report}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        match admin.users().delete_report(self.report).await? {
            true => Ok(Outcome::line(format!("report {} is deleted", self.report))),
            false => Err(AdminError::not_found(format!("there is no report {}", self.report))),
        }
    }
}
