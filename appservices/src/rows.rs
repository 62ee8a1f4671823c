//! What is on the disk for each service: its cursor, and the transaction that is under way.

use serde::{Deserialize, Serialize};
use storage::{Batch, Keyspace, KeyspaceInfo, Profile, Read, Store, StreamPos, stored};

use rooms::RoomSeq;

use crate::error::DispatchError;

/// Service → how far it is.
const CURSORS: Keyspace<String, CursorRow> = Keyspace::new("appservice_cursors", Profile::Points);
/// (service, part) → the body of the transaction that is under way.
const OUTGOING: Keyspace<(String, u32), Vec<u8>> = Keyspace::new("appservice_outgoing", Profile::Blobs);

pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[CURSORS.info(), OUTGOING.info()];

/// A body is cut into rows of this size.
const PART_BYTES: usize = 64 * 1024;

/// A place in the log: after an event of a commit. Events of one commit are of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    pub pos: StreamPos,
    pub seq: RoomSeq,
}

impl Place {
    /// After everything of a commit.
    pub fn after(pos: StreamPos) -> Place {
        Place { pos, seq: RoomSeq(i64::MAX) }
    }
}

/// How far a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CursorRow {
    /// Everything up to here is in a transaction, or of no interest.
    pub place: Place,
    /// The same of changes of device lists.
    pub devices: StreamPos,
    /// When this row was first made, in milliseconds: ids of transactions are never those of an earlier registration.
    pub since_ms: u64,
    /// How many transactions there were.
    pub transactions: u64,
    /// How many parts the body of the last one has, while it is under way.
    pub parts: u32,
}
stored!(CursorRow, 1);

impl CursorRow {
    /// For a service that is new: it is told what comes from now on.
    pub fn new(pos: StreamPos, now_ms: u64) -> CursorRow {
        CursorRow { place: Place::after(pos), devices: pos, since_ms: now_ms, transactions: 0, parts: 0 }
    }

    /// The id of the last transaction.
    pub fn transaction_id(&self) -> String {
        format!("{}.{}", self.since_ms, self.transactions)
    }
}

/// The row of a service.
pub(crate) fn read_cursor(store: &Store, id: &str) -> Result<Option<CursorRow>, DispatchError> {
    Ok(store.get(&CURSORS, &id.to_owned())?)
}

/// The ids of all services with a row.
pub(crate) fn known_services(store: &Store) -> Result<Vec<String>, DispatchError> {
    Ok(store.scan(&CURSORS, &()).keys().collect::<Result<_, _>>()?)
}

pub(crate) fn put_cursor(batch: &mut Batch, id: &str, row: &CursorRow) {
    batch.put(&CURSORS, &id.to_owned(), row);
}

/// Puts the body of a transaction in the place of the one before, and says so in `row`.
pub(crate) fn put_outgoing(batch: &mut Batch, id: &str, row: &mut CursorRow, body: &[u8]) {
    delete_outgoing(batch, id, row);
    for (part, bytes) in (0u32..).zip(body.chunks(PART_BYTES)) {
        batch.put(&OUTGOING, &(id.to_owned(), part), &bytes.to_vec());
        row.parts = part.saturating_add(1);
    }
}

/// Takes out the body of the last transaction.
pub(crate) fn delete_outgoing(batch: &mut Batch, id: &str, row: &mut CursorRow) {
    for part in 0..row.parts {
        batch.delete(&OUTGOING, &(id.to_owned(), part));
    }
    row.parts = 0;
}

/// The body of the transaction that is under way, if there is one.
pub(crate) fn read_outgoing(store: &Store, id: &str, row: &CursorRow) -> Result<Option<Vec<u8>>, DispatchError> {
    if row.parts == 0 {
        return Ok(None);
    }
    let mut body = Vec::new();
    for part in 0..row.parts {
        let bytes = store.get(&OUTGOING, &(id.to_owned(), part))?.ok_or(DispatchError::Damaged)?;
        body.extend_from_slice(&bytes);
    }
    Ok(Some(body))
}

/// Forgets a service that is registered no more.
pub(crate) async fn forget_service(store: &Store, id: &str) -> Result<(), DispatchError> {
    let Some(mut row) = read_cursor(store, id)? else { return Ok(()) };
    let mut batch = Batch::new();
    delete_outgoing(&mut batch, id, &mut row);
    batch.delete(&CURSORS, &id.to_owned());
    store.commit(batch).await?;
    Ok(())
}
