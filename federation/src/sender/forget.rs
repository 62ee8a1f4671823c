//! What the sender keeps of rooms that are deleted.

use futures_util::future::BoxFuture;
use rooms::{RoomData, RoomDataError, RoomNid};
use spec::ids::RoomId;
use storage::{Batch, Read};

use super::Sender;
use super::rows::{EXTRA, PENDING};

/// How many rows one commit takes out.
const ROWS: usize = 500;

impl RoomData for Sender {
    fn name(&self) -> &'static str {
        "federation sender"
    }

    /// Whether a server that can be reached is still to be told of events of the room.
    fn is_busy_with(&self, room: RoomNid) -> bool {
        self.0.table.lock().concerns(room)
    }

    fn forget_room<'a>(&'a self, room: RoomNid, _: &'a RoomId) -> BoxFuture<'a, Result<bool, RoomDataError>> {
        Box::pin(async move {
            self.0.table.lock().forget_room(room);
            let (mut batch, mut rows) = (Batch::new(), 0);
            for key in self.0.store.scan(&PENDING, &()).keys() {
                let key = key?;
                if key.1 == room && rows < ROWS {
                    batch.delete(&PENDING, &key);
                    rows += 1;
                }
            }
            for key in self.0.store.scan(&EXTRA, &()).keys() {
                let key = key?;
                if key.1 == room && rows < ROWS {
                    batch.delete(&EXTRA, &key);
                    rows += 1;
                }
            }
            if rows == 0 {
                return Ok(true);
            }
            self.0.store.commit(batch).await?;
            Ok(rows < ROWS)
        })
    }
}
