//! What calls keep of a room that is deleted: who was let into its calls, who was in them, whom they rang for.

use std::pin::Pin;

use rooms::{RoomData, RoomDataError, RoomNid};
use spec::ids::RoomId;
use storage::{Batch, KeyPrefix, Keyspace, Read, RowKey, StorageError, Value};

use crate::calls::Calls;
use crate::grants::CALL_GRANTS;
use crate::history::CALL_LEGS;
use crate::rings::CALL_RINGS;

/// How many rows one commit takes out.
const ROWS: usize = 500;

impl RoomData for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn forget_room<'a>(
        &'a self,
        room: RoomNid,
        _: &'a RoomId,
    ) -> Pin<Box<dyn Future<Output = Result<bool, RoomDataError>> + Send + 'a>> {
        Box::pin(async move {
            let mut batch = Batch::new();
            // Whoever is in a call without a grant is put out of it.
            let mut rows = self.take_rows(&CALL_GRANTS, |row| row.room == room, &mut batch)?;
            rows += self.take_rows(&CALL_LEGS, |row| row.room == room, &mut batch)?;
            rows += self.take_rows(&CALL_RINGS, |row| row.room == room, &mut batch)?;
            if rows > 0 {
                self.store.commit(batch).await?;
            }
            Ok(rows == 0)
        })
    }
}

impl Calls {
    fn take_rows<K: RowKey, V: Value>(
        &self,
        keyspace: &Keyspace<K, V>,
        is_of_room: impl Fn(&V) -> bool,
        batch: &mut Batch,
    ) -> Result<usize, StorageError>
    where
        (): KeyPrefix<K>,
    {
        let mut rows = 0;
        for row in self.store.scan(keyspace, &()).iter() {
            let (key, row) = row?;
            if is_of_room(&row) {
                batch.delete(keyspace, &key);
                rows += 1;
            }
            if rows >= ROWS {
                break;
            }
        }
        Ok(rows)
    }
}
