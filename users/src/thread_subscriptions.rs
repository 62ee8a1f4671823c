//! The threads that a user follows (MSC4306), with a log by position so that clients are told of changes (MSC4308).
//!
//! A row stays when its thread is unsubscribed from: it says up to where, so that a client which learns late of an older
//! event does not subscribe again because of it. The log may hold entries of rows that were overwritten at the same
//! moment; readers skip an entry whose row has another position.

use rooms::{RoomNid, RoomSeq, UserNid};
use serde::{Deserialize, Serialize};
use storage::{Batch, Keyspace, Profile, Read, Stamped, StreamPos, stored};

use crate::{UserError, Users, topics::user_topic};

/// User, room, thread root → whether and how the user follows the thread.
pub(crate) const THREAD_SUBSCRIPTIONS: Keyspace<(UserNid, RoomNid, String), Stamped<SubscriptionRow>> =
    Keyspace::new("thread_subscriptions", Profile::Points);
/// The same by position.
pub(crate) const THREAD_SUBSCRIPTION_LOG: Keyspace<(UserNid, StreamPos, RoomNid, String), ()> =
    Keyspace::new("thread_subscription_log", Profile::Log);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubscriptionRow {
    /// Whether a client subscribed on its own; absent where the user does not follow the thread.
    automatic: Option<bool>,
    /// The newest event of the room when the user last unsubscribed.
    unsubscribed_at: Option<RoomSeq>,
}
stored!(SubscriptionRow, 1);

/// A thread that the user follows, or followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadSubscription {
    /// The room.
    pub room: RoomNid,
    /// The id of the thread's root.
    pub root: String,
    /// Whether a client subscribed on its own; absent where the user does not follow the thread any more.
    pub automatic: Option<bool>,
    /// When that changed last.
    pub pos: StreamPos,
}

/// Which changes are wanted of a user's subscriptions.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionRange {
    /// Only those after this position, …
    pub after: StreamPos,
    /// … up to and including this one.
    pub until: StreamPos,
    /// The most of them.
    pub limit: usize,
    /// Leave out what the user does not follow any more.
    pub followed_only: bool,
}

impl Users {
    /// Whether the user follows the thread and, if so, whether a client subscribed on its own.
    pub fn thread_subscription(&self, user: UserNid, room: RoomNid, root: &str) -> Result<Option<bool>, UserError> {
        let row = self.store().get(&THREAD_SUBSCRIPTIONS, &(user, room, root.to_owned()))?;
        Ok(row.and_then(|row| row.value.automatic))
    }

    /// Subscribes to a thread; on a client's own account if an event of the thread is given as the cause. That neither
    /// changes a subscription that is there, nor takes back that the user has unsubscribed since the event: then it
    /// returns `false`. Cancel-safe.
    pub async fn subscribe_to_thread(
        &self,
        user: UserNid,
        room: RoomNid,
        root: &str,
        cause: Option<RoomSeq>,
    ) -> Result<bool, UserError> {
        let mut conflicts = false;
        self.change_subscription(user, room, root, |old| {
            let unsubscribed_at = old.and_then(|old| old.unsubscribed_at);
            let automatic = old.and_then(|old| old.automatic);
            conflicts = match (automatic, cause, unsubscribed_at) {
                (None, Some(cause), Some(unsubscribed_at)) => cause <= unsubscribed_at,
                _ => false,
            };
            let unchanged = automatic.is_some_and(|automatic| cause.is_some() || !automatic);
            let new = SubscriptionRow { automatic: Some(cause.is_some()), unsubscribed_at };
            Some(new).filter(|_| !conflicts && !unchanged)
        })
        .await?;
        Ok(!conflicts)
    }

    /// Unsubscribes from a thread; `newest` is the newest event of its room. Cancel-safe.
    pub async fn unsubscribe_from_thread(
        &self,
        user: UserNid,
        room: RoomNid,
        root: &str,
        newest: RoomSeq,
    ) -> Result<(), UserError> {
        self.change_subscription(user, room, root, |old| {
            old?.automatic?;
            Some(SubscriptionRow { automatic: None, unsubscribed_at: Some(newest) })
        })
        .await
    }

    /// Changes of the user's subscriptions, newest first, and whether there are more.
    pub fn thread_subscription_changes(
        &self,
        user: UserNid,
        range: SubscriptionRange,
    ) -> Result<(Vec<ThreadSubscription>, bool), UserError> {
        let start = |pos: StreamPos| (user, pos.next(), RoomNid(0), String::new());
        let scan = self.store().scan(&THREAD_SUBSCRIPTION_LOG, &user).from(&start(range.after));
        let mut changes = Vec::new();
        for key in scan.until(&start(range.until)).reverse().keys() {
            let (_, pos, room, root) = key?;
            let key = (user, room, root);
            let Some(row) = self.store().get(&THREAD_SUBSCRIPTIONS, &key)?.filter(|row| row.pos == pos) else {
                continue;
            };
            if range.followed_only && row.value.automatic.is_none() {
                continue;
            }
            if changes.len() >= range.limit {
                return Ok((changes, true));
            }
            changes.push(ThreadSubscription { room, root: key.2, automatic: row.value.automatic, pos });
        }
        Ok((changes, false))
    }

    /// Replaces one row by what `change` makes of it (`None`: leave it), again if somebody else was faster.
    async fn change_subscription(
        &self,
        user: UserNid,
        room: RoomNid,
        root: &str,
        mut change: impl FnMut(Option<&SubscriptionRow>) -> Option<SubscriptionRow>,
    ) -> Result<(), UserError> {
        let key = (user, room, root.to_owned());
        loop {
            let old = self.store().get(&THREAD_SUBSCRIPTIONS, &key)?;
            let Some(new) = change(old.as_ref().map(|row| &row.value)) else { return Ok(()) };
            let mut batch = Batch::new();
            match &old {
                Some(old) => {
                    batch.expect_equals(&THREAD_SUBSCRIPTIONS, &key, old);
                    batch.delete(&THREAD_SUBSCRIPTION_LOG, &(user, old.pos, room, root.to_owned()));
                }
                None => {
                    batch.expect_absent(&THREAD_SUBSCRIPTIONS, &key);
                }
            }
            batch.put(&THREAD_SUBSCRIPTIONS, &key, &Stamped::pending(new));
            batch.put(&THREAD_SUBSCRIPTION_LOG, &(user, StreamPos::PENDING, room, root.to_owned()), &());
            batch.touch(user_topic(user));
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
