//! Delayed events of rooms that use a policy server: sent by a task of their room, in the order of their times, so that
//! a policy server that does not answer holds up its own rooms only.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::{DelayError, DelayedRow};
use crate::ids::RoomNid;
use crate::rooms::Rooms;

/// How long an event belongs to the task of its room, in milliseconds. After a crash it is due again after that time.
const LEASE_MS: u64 = 120_000;
/// How many events of a room wait for its task.
const MAX_WAITING: usize = 64;
/// How many rooms have a task. What finds no place is tried again after the time of a lease.
const MAX_ROOMS: usize = 64;

/// The events that wait, by room. A room is here exactly as long as its task runs.
#[derive(Default)]
pub(super) struct Aside(Mutex<HashMap<RoomNid, VecDeque<(String, DelayedRow)>>>);

impl Aside {
    /// Lets an event wait. True if the room has no task yet.
    fn push(&self, id: &str, row: &DelayedRow) -> bool {
        let mut rooms = self.0.lock();
        if let Some(waiting) = rooms.get_mut(&row.room) {
            if waiting.len() < MAX_WAITING && waiting.iter().all(|(waits, _)| waits != id) {
                waiting.push_back((id.to_owned(), row.clone()));
            }
            return false;
        }
        if rooms.len() >= MAX_ROOMS {
            return false;
        }
        rooms.insert(row.room, VecDeque::from([(id.to_owned(), row.clone())]));
        true
    }

    /// The next event of a room; without one its task ends.
    fn next(&self, room: RoomNid) -> Option<(String, DelayedRow)> {
        let mut rooms = self.0.lock();
        let next = rooms.get_mut(&room).and_then(VecDeque::pop_front);
        if next.is_none() {
            rooms.remove(&room);
        }
        next
    }
}

/// Whatever ends the task of a room, the next event starts another.
struct RoomTask<'a> {
    aside: &'a Aside,
    room: RoomNid,
    /// The room was taken out already, and may have come again since.
    has_ended: bool,
}

impl Drop for RoomTask<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.aside.0.lock().remove(&self.room);
        }
    }
}

impl Rooms {
    /// Hands an event that is due to the task of its room.
    pub(super) async fn fire_aside(&self, id: &str, row: &DelayedRow) -> Result<(), DelayError> {
        match self.put_off(id, row, LEASE_MS).await {
            Err(DelayError::Ended | DelayError::NotFound) => return Ok(()),
            other => other?,
        }
        if self.delays.aside.push(id, row) {
            let (rooms, room) = (self.clone(), row.room);
            self.tasks.spawn("delayed events of a room", async move {
                let shutdown = rooms.tasks.shutdown_token();
                shutdown.run_until_cancelled(rooms.work_off_aside(room)).await;
            });
        }
        Ok(())
    }

    async fn work_off_aside(&self, room: RoomNid) {
        let mut task = RoomTask { aside: &self.delays.aside, room, has_ended: false };
        while let Some((id, row)) = task.aside.next(room) {
            if let Err(error) = self.fire_now(&id, &row, true).await {
                tracing::error!(room = room.0, %error, "a delayed event was not sent");
            }
        }
        task.has_ended = true;
    }
}
