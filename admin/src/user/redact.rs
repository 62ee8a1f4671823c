//! Redacting everything that a user sent.
//!
//! A job walks through the rooms that the user is or was in, newest events first. An event is redacted by the user
//! themself if they are of this server and still in the room, else by the administrator who asked, if they are in the
//! room and may. State is left alone.

use std::collections::BTreeMap;

use ::rooms::{Draft, Event, Membership, RoomNid, RoomSeq, UserNid};
use ::users::Account;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use spec::ids::{EventId, UserId};

use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobId, JobKind, Progress, Step};
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// Events that one step looks at.
const STEP_EVENTS: usize = 200;
/// Redactions that one step makes at most.
const STEP_REDACTIONS: usize = 20;
/// Of how many events it is kept why they were not redacted.
const MAX_FAILURES: usize = 100;

/// Redact everything a user sent, in the background
///
/// Users of other servers can be named, too: what they sent is redacted by you in the rooms where you may.
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
        let order = RedactOrder { user: user.0, rooms, reason: self.reason, limit: self.limit, ..everything() };
        let job = start_job(admin, caller, &user_id, order).await?;
        Ok(Outcome::record(vec![("user_id", Cell::text(user_id)), ("job", Cell::text(job))]))
    }
}

/// What a job is told to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RedactOrder {
    user: u64,
    /// All rooms if there are none.
    rooms: Vec<u64>,
    reason: Option<String>,
    limit: Option<u64>,
    /// Who asked, if it was a user.
    by: Option<u64>,
    /// Close the account afterwards: its rooms are left only then.
    #[serde(default)]
    close: bool,
}

/// Everything, in all rooms.
pub(super) fn everything() -> RedactOrder {
    RedactOrder::default()
}

/// Begins to redact what an account sent, to close it completely afterwards.
pub(super) async fn start_erasing(admin: &Admin, caller: &Caller, account: &Account) -> Result<JobId, AdminError> {
    let order = RedactOrder { user: account.user.0, close: true, ..everything() };
    start_job(admin, caller, &account.user_id, order).await
}

async fn start_job(admin: &Admin, caller: &Caller, user_id: &UserId, order: RedactOrder) -> Result<JobId, AdminError> {
    let order = RedactOrder { by: caller.user().map(|(user, _)| user.0), ..order };
    admin.jobs().start::<RedactJob>(caller, &order, Some(user_id.to_string())).await
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
    /// Event → why it was not redacted.
    pub(crate) failed: BTreeMap<String, String>,
}

/// The kind of job.
pub(crate) struct RedactJob;

impl JobKind for RedactJob {
    const NAME: &'static str = "redact-user";
    type Arguments = RedactOrder;
    type Cursor = RedactCursor;

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
        let until = cursor.until.map_or(RoomSeq::FIRST_OUTLIER, RoomSeq);
        let page = admin.rooms().events_back(room, RoomSeq::MIN, until, STEP_EVENTS)?;
        let is_last = page.len() < STEP_EVENTS;
        let redactors = find_redactors(admin, order, room)?;
        let mut tried = 0;
        let mut is_over = is_last;
        for event in &page {
            if order.limit.is_some_and(|limit| cursor.in_room >= limit) {
                is_over = true;
                break;
            }
            if tried >= STEP_REDACTIONS {
                is_over = false;
                break;
            }
            cursor.until = Some(event.seq().0);
            if !is_wanted(event, user) {
                continue;
            }
            tried += 1;
            cursor.in_room += 1;
            redact(admin, order, room, event, &redactors, &mut cursor.result).await?;
        }
        if is_over {
            // The next room is the first one behind this one.
            cursor.room = Some(room.0.saturating_add(1));
            cursor.until = None;
            cursor.in_room = 0;
        }
        let progress = Progress::new("redacting events", cursor.result.redacted, None);
        Ok(Step::More(cursor, progress))
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

/// Who may try: the user, then whoever asked, as far as they are of this server and in the room.
fn find_redactors(admin: &Admin, order: &RedactOrder, room: RoomNid) -> Result<Vec<UserId>, AdminError> {
    let mut redactors = Vec::new();
    for user in [Some(order.user), order.by].into_iter().flatten().map(UserNid) {
        let joined = admin.rooms().membership(room, user)?.is_some_and(|row| row.membership == Membership::Join);
        if joined && admin.users().account(user)?.is_some() {
            redactors.push(admin.rooms().user_id(user)?);
        }
    }
    Ok(redactors)
}

fn is_wanted(event: &Event, user: UserNid) -> bool {
    event.sender_nid() == user
        && event.flags().is_visible()
        && event.state_key().is_none()
        && event.redacted_by().is_none()
        && event.kind() != "m.room.redaction"
}

/// Redacts one event, or notes why not. Redacting it again changes nothing: it is not wanted then.
async fn redact(
    admin: &Admin,
    order: &RedactOrder,
    room: RoomNid,
    event: &Event,
    redactors: &[UserId],
    result: &mut RedactResult,
) -> Result<(), AdminError> {
    let Ok(target) = EventId::parse(event.event_id()) else { return Ok(()) };
    let mut failure = "nobody of this server who could redact is in the room".to_owned();
    for redactor in redactors {
        let mut content = Map::new();
        if let Some(reason) = &order.reason {
            content.insert("reason".to_owned(), reason.as_str().into());
        }
        let draft = Draft::redaction(redactor.clone(), target.clone(), content);
        match admin.rooms().append(room, vec![draft], None).await {
            Ok(_) => {
                result.redacted += 1;
                return Ok(());
            }
            Err(error) if error.is_of_store() => return Err(error.into()),
            Err(error) => failure = error.to_string(),
        }
    }
    if result.failed.len() < MAX_FAILURES {
        result.failed.insert(event.event_id().to_owned(), failure);
    }
    Ok(())
}
