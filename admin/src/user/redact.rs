//! Redacting everything that a user sent.
//!
//! A job walks through the rooms that the user is or was in, newest events first. What users of this server sent is
//! redacted by themselves while they are in the room, else by the most powerful member of this server. State is left alone
//! but for the user's own memberships.

use std::collections::BTreeMap;

use ::rooms::{RoomError, RoomNid, RoomSeq, UserNid};
use ::users::Account;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use spec::ids::UserId;

use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobId, JobKind, Progress, Step};
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// Redactions that one step makes at most.
const STEP_REDACTIONS: usize = 20;
/// Of how many events, or rooms, it is kept why they were not redacted.
const MAX_FAILURES: usize = 100;

/// Redact everything a user sent, in the background
///
/// Users of other servers can be named, too: what they sent is redacted by the most powerful member of this server.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redact {
    /// Whose messages
    pub user: UserArg,
    /// Only in these rooms
    #[arg(long = "room")]
    #[serde(default)]
    pub rooms: Vec<RoomArg>,
    /// Why, told in the rooms
    #[arg(long)]
    pub reason: Option<String>,
    /// At most so many in each room, the newest
    #[arg(long)]
    pub limit: Option<u64>,
}

impl Operation for Redact {
    const NAME: (&'static str, &'static str) = ("user", "redact");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{user} --reason spam";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let user_id = self.user.user_id(admin)?;
        let user = admin.rooms().user_nid(&user_id)?;
        let user = user.ok_or_else(|| AdminError::not_found(format!("this server does not know {user_id}")))?;
        if let Some(account) = admin.users().account(user)? {
            super::check_may_change(admin, caller, &account)?;
        }
        let mut rooms = Vec::new();
        for room in &self.rooms {
            rooms.push(room.known_room(admin)?.0.0);
        }
        let order = RedactOrder { rooms, reason: self.reason, limit: self.limit, ..everything(user, &user_id) };
        let job = admin.jobs().start::<RedactJob>(caller, &order).await?;
        Ok(Outcome::record(vec![("user_id", Cell::text(user_id)), ("job", Cell::number(job.0))]))
    }
}

/// What a job is told to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RedactOrder {
    user: u64,
    /// By which the job is found.
    #[serde(default)]
    user_id: String,
    /// All rooms if there are none.
    rooms: Vec<u64>,
    reason: Option<String>,
    limit: Option<u64>,
    /// Close the account afterwards: its rooms are left only then.
    #[serde(default)]
    close: bool,
}

/// Everything, in all rooms.
pub(super) fn everything(user: UserNid, user_id: &UserId) -> RedactOrder {
    RedactOrder { user: user.0, user_id: user_id.to_string(), ..RedactOrder::default() }
}

/// Begins to redact what an account sent, to close it completely afterwards.
pub(super) async fn start_erasing(admin: &Admin, caller: &Caller, account: &Account) -> Result<JobId, AdminError> {
    let order = RedactOrder { close: true, ..everything(account.user, &account.user_id) };
    admin.jobs().start::<RedactJob>(caller, &order).await
}

/// How far a job is.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct RedactCursor {
    /// The room that is being worked on.
    room: Option<u64>,
    /// What is numbered from here on is done.
    until: Option<i64>,
    in_room: u64,
    result: RedactResult,
}

/// What a job has come to.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct RedactResult {
    pub(crate) redacted: u64,
    /// Event, or room where nobody could → why it was not redacted.
    pub(crate) failed: BTreeMap<String, String>,
}

/// The kind of job.
pub(crate) struct RedactJob;

impl JobKind for RedactJob {
    const NAME: &'static str = "redact-user";
    type Arguments = RedactOrder;
    type Cursor = RedactCursor;

    fn target(order: &RedactOrder) -> Option<String> {
        Some(order.user_id.clone())
    }

    async fn step(
        admin: &Admin,
        order: &RedactOrder,
        mut cursor: RedactCursor,
    ) -> Result<Step<RedactCursor>, AdminError> {
        let user = UserNid(order.user);
        let Some(room) = find_room(admin, order, user, cursor.room)? else {
            if order.close {
                admin.users().close_account(admin.tasks(), user, true).await?;
            }
            let RedactResult { redacted, failed } = cursor.result;
            return Ok(Step::Done(json!({"redacted": redacted, "failed": failed})));
        };
        if cursor.room != Some(room.0) {
            cursor = RedactCursor { room: Some(room.0), until: None, in_room: 0, result: cursor.result };
        }
        cursor.until = redact_some(admin, order, (user, room), &mut cursor).await?;
        if cursor.until.is_none() {
            // The next room is the first one behind this one.
            cursor.room = Some(room.0.saturating_add(1));
            cursor.in_room = 0;
        }
        let progress = Progress::new("redacting events", cursor.result.redacted, None);
        Ok(Step::More(cursor, progress))
    }
}

/// Redacts the next events of a room. Those that are redacted already are passed by, so that it may be repeated. Returns
/// where to go on, unless the room is done.
async fn redact_some(
    admin: &Admin,
    order: &RedactOrder,
    (user, room): (UserNid, RoomNid),
    cursor: &mut RedactCursor,
) -> Result<Option<i64>, AdminError> {
    let left = order.limit.map_or(u64::MAX, |limit| limit.saturating_sub(cursor.in_room));
    if left == 0 {
        return Ok(None);
    }
    let part = ::rooms::RedactOrder {
        user: admin.rooms().user_id(user)?,
        by: None,
        reason: order.reason.clone(),
        limit: usize::try_from(left).unwrap_or(usize::MAX).min(STEP_REDACTIONS),
    };
    let result = &mut cursor.result;
    match admin.rooms().redact_events_of(room, &part, cursor.until.map(RoomSeq)).await {
        Ok(part) => {
            let tried = part.redacted.len().saturating_add(part.failed.len()) as u64;
            cursor.in_room = cursor.in_room.saturating_add(tried);
            result.redacted = result.redacted.saturating_add(part.redacted.len() as u64);
            for (event, reason) in part.failed {
                result.note_failure(event.as_str(), reason);
            }
            Ok(part.next.map(|seq| seq.0))
        }
        // Of the whole room.
        Err(error @ (RoomError::Refused(_) | RoomError::NotResident)) => {
            result.note_failure(admin.rooms().room_id(room)?.as_str(), error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

impl RedactResult {
    fn note_failure(&mut self, id: &str, reason: String) {
        if self.failed.len() < MAX_FAILURES {
            self.failed.insert(id.to_owned(), reason);
        }
    }
}

/// The room to go on with: the first one from `from` on that is wanted.
fn find_room(
    admin: &Admin,
    order: &RedactOrder,
    user: UserNid,
    from: Option<u64>,
) -> Result<Option<RoomNid>, AdminError> {
    let rooms = admin.rooms().user_rooms(user)?;
    let mut wanted = rooms.range(RoomNid(from.unwrap_or(0))..).map(|(room, _)| *room);
    Ok(wanted.find(|room| order.rooms.is_empty() || order.rooms.contains(&room.0)))
}
