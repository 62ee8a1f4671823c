//! Server notices: messages of the server to its users, each in a room of their own (Client-Server API §"Server Notices").

use clap::Args;
use rooms::Transaction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use spec::ids::{EventId, UserId};
use users::ServerNotice;

use crate::admin::Admin;
use crate::arguments::UserArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// Users that can be told at once.
const MAX_TARGETS: usize = 100;

/// Send users a message of the server, in the room that each has for that
///
/// It needs `server_notices.localpart` in the configuration. Nobody is told if one of them cannot be.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// The message
    pub text: String,
    /// To whom: 1 to 100 users of this server
    #[arg(required = true)]
    pub users: Vec<UserArg>,
}

impl Operation for Send {
    const NAME: (&'static str, &'static str) = ("notice", "send");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "'The server rests at noon.' {user} {other}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let targets = self.users.iter().map(|user| user.user_id(admin)).collect::<Result<Vec<_>, _>>()?;
        let content = Map::from_iter([("msgtype".to_owned(), json!("m.text")), ("body".to_owned(), self.text.into())]);
        let notice = ServerNotice { kind: "m.room.message".into(), state_key: None, content };
        let sent = send_to(admin, targets, &notice, None).await?;
        let rows = sent.into_iter().map(|(user, event)| vec![Cell::text(user), Cell::text(event)]);
        Ok(Outcome::table(&["user", "event"], rows.collect()))
    }
}

/// Sends a notice to users, and says which event each was sent. Nobody is told while it is known that somebody cannot
/// be. Cancel-safe: some may have been told.
///
/// # Errors
/// `Invalid` for nobody or too many; those of [`users::Users::send_server_notice`].
pub(crate) async fn send_to(
    admin: &Admin,
    targets: Vec<UserId>,
    notice: &ServerNotice,
    transaction: Option<Transaction>,
) -> Result<Vec<(UserId, EventId)>, AdminError> {
    if targets.is_empty() || targets.len() > MAX_TARGETS {
        return Err(AdminError::invalid(format!("a notice is for 1 to {MAX_TARGETS} users")));
    }
    targets.iter().try_for_each(|target| admin.users().notice_target(target).map(drop))?;
    let mut sent = Vec::with_capacity(targets.len());
    for target in targets {
        let event = admin.users().send_server_notice(&target, notice.clone(), transaction.clone()).await?;
        sent.push((target, event));
    }
    Ok(sent)
}
