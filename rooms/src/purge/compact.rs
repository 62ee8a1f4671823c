//! Giving the space of rows that are gone back to the disk.

use storage::{KeyPrefix, Keyspace, RowKey, StorageError, Store};

use crate::error::RoomError;
use crate::ids::RoomNid;
use crate::keyspaces::{EVENTS_BY_TIME, ORDER, RELATIONS, STATE_LOG, STATE_NODES, TIMELINE};
use crate::rooms::Rooms;

/// What takes less than this is left to the database, which gives it back by and by: each compaction costs the others
/// a new log file and some waits for the disk.
const WORTHWHILE_BYTES: u64 = 1024 * 1024;

type Part = fn(&Store, RoomNid) -> Result<bool, StorageError>;

/// What is compacted, one after the other.
const PARTS: [Part; 6] = [
    |store, room| compact(store, room, &TIMELINE),
    |store, room| compact(store, room, &ORDER),
    |store, room| compact(store, room, &EVENTS_BY_TIME),
    |store, room| compact(store, room, &STATE_NODES),
    |store, room| compact(store, room, &STATE_LOG),
    |store, room| compact(store, room, &RELATIONS),
];

/// How far the compaction of a room has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compaction(usize);

fn compact<K: RowKey, V>(store: &Store, room: RoomNid, keyspace: &Keyspace<K, V>) -> Result<bool, StorageError>
where
    RoomNid: KeyPrefix<K>,
{
    let is_worthwhile = store.approximate_bytes(keyspace, &room)? >= WORTHWHILE_BYTES;
    if is_worthwhile {
        store.compact(keyspace, &room)?;
    }
    Ok(is_worthwhile)
}

impl Rooms {
    /// Gives the space of the room's deleted rows back to the disk. Cancel-safe: what was begun is done all the same.
    ///
    /// # Errors
    /// [`RoomError::Busy`] while the server stops; storage errors.
    pub(crate) async fn compact_room(&self, room: RoomNid) -> Result<(), RoomError> {
        let mut left = Some(Compaction::default());
        while let Some(compaction) = left {
            left = self.compact_on(room, compaction).await?;
        }
        Ok(())
    }

    /// Compacts the rows of one kind; says with which to go on.
    pub(super) async fn compact_on(&self, room: RoomNid, at: Compaction) -> Result<Option<Compaction>, RoomError> {
        let store = self.store.clone();
        let work = move || {
            for (number, part) in PARTS.iter().enumerate().skip(at.0) {
                if part(&store, room)? {
                    return Ok(Some(Compaction(number + 1)));
                }
            }
            Ok(None)
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        // A task of its own, so that the store is not closed before it ends.
        self.tasks.spawn("compaction", async move {
            let compacted = tokio::task::spawn_blocking(work).await;
            // Whoever waited may be gone.
            drop(reply.send(compacted));
        });
        let compacted: Result<_, StorageError> =
            answer.await.map_err(|_| RoomError::Busy)?.map_err(|_| RoomError::Busy)?;
        Ok(compacted?)
    }
}
