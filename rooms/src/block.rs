//! Blocked rooms: this server's users neither come in nor are asked to, and no alias of this server leads there.
//!
//! A block is of a room id, which need not be known here. What is in the room already stays as it is.

use serde::{Deserialize, Serialize};
use spec::ids::{RoomId, UserId};
use storage::{Batch, Read, stored};

use crate::error::RoomError;
use crate::keyspaces::BLOCKED;
use crate::rooms::Rooms;

/// The most characters of a reason.
const MAX_REASON: usize = 1000;

/// Who blocked a room, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The room.
    pub room: String,
    /// Who did it; nobody if it was the server itself.
    pub by: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// See [`Block`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockedRow {
    by: Option<Box<str>>,
    reason: Option<Box<str>>,
    at_ms: u64,
}
stored!(BlockedRow, 1);

impl Rooms {
    /// Blocks a room, whether or not it is known here: from now on joins, invitations, knocks and aliases are refused. A
    /// block that stands stays as it is. Of a reason 1,000 characters are kept. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn block_room(&self, room: &RoomId, by: Option<&UserId>, reason: Option<&str>) -> Result<(), RoomError> {
        if self.blocked(room)?.is_some() {
            return Ok(());
        }
        let reason = reason.map(|reason| reason.chars().take(MAX_REASON).collect::<String>().into());
        let row = BlockedRow { by: by.map(|by| by.as_str().into()), reason, at_ms: self.clock.now_ms() };
        let mut batch = Batch::new();
        batch.put(&BLOCKED, &room.as_str().to_owned(), &row);
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Ends a block; without one, nothing happens. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn unblock_room(&self, room: &RoomId) -> Result<(), RoomError> {
        let mut batch = Batch::new();
        batch.delete(&BLOCKED, &room.as_str().to_owned());
        self.store.commit(batch).await?;
        Ok(())
    }

    /// The block of a room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn blocked(&self, room: &RoomId) -> Result<Option<Block>, RoomError> {
        let row = self.store.get(&BLOCKED, &room.as_str().to_owned())?;
        Ok(row.map(|row| view(room.as_str().to_owned(), row)))
    }

    /// The blocked rooms whose ids come after one, in the order of their ids, at most `limit`.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn blocked_rooms(&self, after: Option<&str>, limit: usize) -> Result<Vec<Block>, RoomError> {
        let mut scan = self.store.scan(&BLOCKED, &());
        if let Some(after) = after {
            scan = scan.after(&after.to_owned());
        }
        scan.iter().take(limit).map(|row| row.map(|(room, row)| view(room, row)).map_err(RoomError::from)).collect()
    }

    /// Refuses what is not done in blocked rooms.
    ///
    /// # Errors
    /// [`RoomError::Refused`].
    pub(crate) fn expect_unblocked(&self, room: &RoomId) -> Result<(), RoomError> {
        if self.store.contains(&BLOCKED, &room.as_str().to_owned())? {
            return Err(RoomError::Refused("this room has been blocked on this server"));
        }
        Ok(())
    }
}

fn view(room: String, row: BlockedRow) -> Block {
    Block { room, by: row.by.map(String::from), reason: row.reason.map(String::from), at_ms: row.at_ms }
}
