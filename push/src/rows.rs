//! What is to be sent to which pusher, on the disk.

use rooms::{RoomNid, RoomSeq, UserNid};
use serde::{Deserialize, Serialize};
use storage::{Batch, CommitError, Keyspace, KeyspaceInfo, Profile, Read, StorageError, Store, StreamPos, stored};

/// Up to where everything that was committed was looked at.
pub(crate) const FOLLOWER: Keyspace<(), StreamPos> = Keyspace::new("push_follower", Profile::Points);
/// Pusher, then the event's position and number → a notification that waits. In the order of sending.
pub(crate) const QUEUE: Keyspace<(UserNid, String, String, StreamPos, RoomSeq), QueuedRow> =
    Keyspace::new("push_queue", Profile::Log);
/// Pusher → the badge that it was told last; without a row it was told none.
pub(crate) const BADGES: Keyspace<(UserNid, String, String), BadgeRow> = Keyspace::new("push_badges", Profile::Points);

/// The keyspaces of this crate, to be declared when the store is opened.
pub const KEYSPACES: &[KeyspaceInfo] = &[FOLLOWER.info(), QUEUE.info(), BADGES.info()];

/// A commit is split above this size, well below what the store takes.
const BATCH_BYTES: usize = 1024 * 1024;

/// Names a pusher.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PusherKey {
    pub user: UserNid,
    pub app_id: String,
    pub pushkey: String,
}

impl PusherKey {
    fn prefix(&self) -> (UserNid, String, String) {
        (self.user, self.app_id.clone(), self.pushkey.clone())
    }

    fn queue_key(&self, place: Place) -> (UserNid, String, String, StreamPos, RoomSeq) {
        (self.user, self.app_id.clone(), self.pushkey.clone(), place.0, place.1)
    }
}

/// Where a notification stands in the queue of its pusher. A commit brings events of one room only.
pub(crate) type Place = (StreamPos, RoomSeq);

/// A notification that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueuedRow {
    pub room: RoomNid,
    /// When it was queued, in milliseconds.
    pub at_ms: u64,
    /// The actions of the rule that matched, as JSON.
    pub actions: String,
}
stored!(QueuedRow, 1);

/// What is known of the badge of a pusher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BadgeRow {
    /// The count that it was told last.
    pub shown: u64,
    /// Whether the count may have changed since.
    pub is_due: bool,
}
stored!(BadgeRow, 1);

/// Changes, split into commits of bearable size; the cursor is in the last one.
#[derive(Debug, Default)]
pub(crate) struct NewRows {
    batches: Vec<Batch>,
    current: Batch,
}

impl NewRows {
    fn current(&mut self) -> &mut Batch {
        if self.current.size() > BATCH_BYTES {
            self.batches.push(std::mem::take(&mut self.current));
        }
        &mut self.current
    }

    pub fn queue(&mut self, pusher: &PusherKey, place: Place, row: &QueuedRow) {
        self.current().put(&QUEUE, &pusher.queue_key(place), row);
    }

    pub fn unqueue(&mut self, pusher: &PusherKey, place: Place) {
        self.current().delete(&QUEUE, &pusher.queue_key(place));
    }

    pub fn set_badge(&mut self, pusher: &PusherKey, row: BadgeRow) {
        if row == BadgeRow::default() {
            self.current().delete(&BADGES, &pusher.prefix());
        } else {
            self.current().put(&BADGES, &pusher.prefix(), &row);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.current.is_empty()
    }

    /// Writes them, and with a cursor that everything up to it was looked at.
    ///
    /// # Errors
    /// If the store fails; then the cursor is where it was.
    pub async fn commit(mut self, store: &Store, cursor: Option<StreamPos>) -> Result<(), CommitError> {
        if let Some(cursor) = cursor {
            self.current.put(&FOLLOWER, &(), &cursor);
        }
        for batch in self.batches.into_iter().chain([self.current]) {
            if !batch.is_empty() {
                store.commit(batch).await?;
            }
        }
        Ok(())
    }
}

/// The places of all notifications that wait, by pusher.
pub(crate) fn queued(store: &Store) -> impl Iterator<Item = Result<(PusherKey, Place), StorageError>> {
    store.scan(&QUEUE, &()).keys().map(|key| {
        let (user, app_id, pushkey, pos, seq) = key?;
        Ok((PusherKey { user, app_id, pushkey }, (pos, seq)))
    })
}

/// The badges of all pushers that were told one, or are to be.
pub(crate) fn badges(store: &Store) -> impl Iterator<Item = Result<(PusherKey, BadgeRow), StorageError>> {
    store.scan(&BADGES, &()).iter().map(|row| {
        let ((user, app_id, pushkey), row) = row?;
        Ok((PusherKey { user, app_id, pushkey }, row))
    })
}

/// The notifications that wait for a pusher, oldest first.
pub(crate) fn waiting(
    store: &Store,
    pusher: &PusherKey,
) -> impl Iterator<Item = Result<(Place, QueuedRow), StorageError>> {
    store.scan(&QUEUE, &pusher.prefix()).iter().map(|row| {
        let ((_, _, _, pos, seq), row) = row?;
        Ok(((pos, seq), row))
    })
}

pub(crate) fn read_badge(store: &Store, pusher: &PusherKey) -> Result<BadgeRow, StorageError> {
    Ok(store.get(&BADGES, &pusher.prefix())?.unwrap_or_default())
}
