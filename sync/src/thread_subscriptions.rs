//! Which threads the user follows, for clients that keep up with it: an extension of sliding sync and an endpoint for
//! what did not fit into an answer (MSC4308).

use serde_json::{Map, Value, json};
use storage::StreamPos;
use users::{Session, SubscriptionRange, ThreadSubscription};

use crate::error::SyncError;
use crate::sync::{Inner, Sync};
use crate::token::{SyncToken, decimal};

/// How many subscriptions an answer holds if the client does not say.
const DEFAULT_LIMIT: u64 = 100;
/// How many it holds at most.
const MAX_LIMIT: u64 = 1000;

/// Where older changes go on: `t1_<position>`, before which they lie.
fn write_token(before: StreamPos) -> String {
    format!("t1_{before}")
}

/// The last position before a token of this kind, or that at which one of either sync stands.
fn read_token(text: &str) -> Result<StreamPos, SyncError> {
    match text.strip_prefix("t1_") {
        Some(before) => {
            let before = decimal(before).ok_or(SyncError::InvalidToken)?;
            Ok(StreamPos(before.saturating_sub(1)))
        }
        None => SyncToken::parse_position(text),
    }
}

/// `{room: {root: {…}}}` of one kind.
fn by_room(sync: &Inner, changes: &[ThreadSubscription], followed: bool) -> Result<Map<String, Value>, SyncError> {
    let mut rooms = Map::new();
    for change in changes.iter().filter(|change| change.automatic.is_some() == followed) {
        let mut told = json!({"bump_stamp": change.pos.0});
        if let Some(automatic) = change.automatic {
            told["automatic"] = automatic.into();
        }
        let room = rooms.entry(sync.rooms.head(change.room)?.room_id().as_str()).or_insert_with(|| json!({}));
        room[&change.root] = told;
    }
    Ok(rooms)
}

impl Inner {
    /// The members of an answer; empty if nothing changed. `more` names the token under which older changes go on.
    pub(crate) fn tell_subscriptions(
        &self,
        caller: &Session,
        mut range: SubscriptionRange,
        more: &str,
    ) -> Result<Map<String, Value>, SyncError> {
        range.limit = range.limit.max(1);
        let (changes, has_more) = self.users.thread_subscription_changes(caller.user, range)?;
        let mut answer = Map::new();
        for (name, followed) in [("subscribed", true), ("unsubscribed", false)] {
            let rooms = by_room(self, &changes, followed)?;
            if !rooms.is_empty() {
                answer.insert(name.to_owned(), rooms.into());
            }
        }
        if let Some(oldest) = changes.last().filter(|_| has_more) {
            answer.insert(more.to_owned(), write_token(oldest.pos).into());
        }
        Ok(answer)
    }
}

/// How many subscriptions an answer may hold.
pub(crate) fn page_size(limit: Option<u64>) -> usize {
    limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize
}

impl Sync {
    /// A page of changes of the threads that the user follows, newest first, as JSON: those before the token `from` and
    /// after the token `to`, at most `limit` of them.
    ///
    /// # Errors
    /// [`SyncError::InvalidToken`]; else storage errors.
    pub fn thread_subscriptions(
        &self,
        caller: &Session,
        from: Option<&str>,
        to: Option<&str>,
        limit: Option<u64>,
    ) -> Result<Vec<u8>, SyncError> {
        let inner = &*self.0;
        let visible = inner.store.visible();
        let until = from.map(read_token).transpose()?.map_or(visible, |until| until.min(visible));
        let after = to.map(read_token).transpose()?.unwrap_or(StreamPos::ZERO);
        let range = SubscriptionRange { after, until, limit: page_size(limit), followed_only: false };
        let answer = inner.tell_subscriptions(caller, range, "end")?;
        let answer = serde_json::to_vec(&answer);
        answer.map_err(|error| SyncError::BadJson(error.to_string()))
    }
}
