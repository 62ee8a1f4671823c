//! What users keep of a room that is deleted: their account data for it, the threads that they follow.

use futures_util::future::BoxFuture;
use rooms::{RoomData, RoomDataError, RoomNid, UserNid};
use spec::ids::RoomId;
use storage::{Batch, Read};

use crate::account_data::{ROOM_DATA, ROOM_DATA_LOG};
use crate::server_notices::NOTICE_ROOMS;
use crate::thread_subscriptions::{THREAD_SUBSCRIPTION_LOG, THREAD_SUBSCRIPTIONS};
use crate::{UserError, Users};

/// How many rows one commit takes out, about.
const ROWS: usize = 500;

impl RoomData for Users {
    fn name(&self) -> &'static str {
        "users"
    }

    fn forget_room<'a>(&'a self, room: RoomNid, _: &'a RoomId) -> BoxFuture<'a, Result<bool, RoomDataError>> {
        Box::pin(async move {
            let batch = self.rows_for_room(room)?;
            if batch.is_empty() {
                return Ok(true);
            }
            self.store().commit(batch).await?;
            Ok(false)
        })
    }
}

impl Users {
    /// The next rows that this server's users have for a room.
    fn rows_for_room(&self, room: RoomNid) -> Result<Batch, UserError> {
        let (mut batch, mut rows) = (Batch::new(), 0);
        for member in self.rooms().local_members(room)? {
            rows += self.rows_of(member.user, room, &mut batch)?;
            if rows >= ROWS {
                break;
            }
        }
        Ok(batch)
    }

    fn rows_of(&self, user: UserNid, room: RoomNid, batch: &mut Batch) -> Result<usize, UserError> {
        let mut rows = 0;
        for row in self.store().scan(&ROOM_DATA, &(user, room)).iter().take(ROWS) {
            let ((_, _, kind), row) = row?;
            batch.delete(&ROOM_DATA_LOG, &(user, row.pos, room, kind.clone())).delete(&ROOM_DATA, &(user, room, kind));
            rows += 1;
        }
        for row in self.store().scan(&THREAD_SUBSCRIPTIONS, &(user, room)).iter().take(ROWS) {
            let ((_, _, root), row) = row?;
            batch.delete(&THREAD_SUBSCRIPTION_LOG, &(user, row.pos, room, root.clone()));
            batch.delete(&THREAD_SUBSCRIPTIONS, &(user, room, root));
            rows += 1;
        }
        if self.store().get(&NOTICE_ROOMS, &user)? == Some(room) {
            batch.delete(&NOTICE_ROOMS, &user);
            rows += 1;
        }
        Ok(rows)
    }
}
