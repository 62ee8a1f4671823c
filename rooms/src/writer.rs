//! The writer: one queue a room, made when something is to be written and gone when it is empty.
//!
//! Everything that adds events to a room goes through [`Rooms::append`]. Commands of one event that
//! wait together are committed together, up to [`GROUP`]; a command of several events is a commit of
//! its own, so that it happens whole or not at all. A writer runs as a task of its own: a request
//! that is dropped leaves nothing half done.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use spec::ids::EventId;
use tokio::sync::oneshot;

use crate::append::Append;
use crate::draft::{Draft, Transaction};
use crate::error::RoomError;
use crate::ids::{RoomNid, UserNid};
use crate::memory::Pending;
use crate::rooms::Rooms;

/// The most commands of one commit.
const GROUP: usize = 32;
/// The most commands that wait for one room before more are refused.
const MAX_WAITING: usize = 1024;
/// Longer commands are logged.
const SLOW: std::time::Duration = std::time::Duration::from_millis(50);

/// The queues of rooms with something to write: an entry is here exactly as long as its writer runs.
#[derive(Default)]
pub(crate) struct Queues(Mutex<HashMap<RoomNid, VecDeque<Command>>>);

struct Command {
    drafts: Vec<Draft>,
    transaction: Option<(UserNid, Transaction)>,
    reply: oneshot::Sender<Result<Vec<EventId>, RoomError>>,
}

type Answers = Vec<(oneshot::Sender<Result<Vec<EventId>, RoomError>>, Vec<EventId>)>;

impl Rooms {
    /// Appends events to a room: builds, signs, authorises and commits them, all or none. Returns
    /// their ids, once they are as durable as configured. With a transaction that was used before,
    /// returns what it made then. Cancel-safe: once submitted, the command is carried out.
    ///
    /// # Errors
    /// What forbids the first event that cannot be appended; [`RoomError::Busy`] if too much waits.
    pub async fn append(
        &self,
        room: RoomNid,
        drafts: Vec<Draft>,
        transaction: Option<(UserNid, Transaction)>,
    ) -> Result<Vec<EventId>, RoomError> {
        let (reply, answer) = oneshot::channel();
        let command = Command { drafts, transaction, reply };
        let is_first = {
            let mut queues = self.queues.0.lock();
            match queues.get_mut(&room) {
                Some(queue) if queue.len() >= MAX_WAITING => return Err(RoomError::Busy),
                Some(queue) => {
                    queue.push_back(command);
                    false
                }
                None => {
                    queues.insert(room, VecDeque::from([command]));
                    true
                }
            }
        };
        if is_first {
            let rooms = self.clone();
            self.tasks.spawn("room writer", async move { rooms.drain(room).await });
        }
        answer.await.unwrap_or(Err(RoomError::Busy))
    }

    async fn drain(&self, room: RoomNid) {
        loop {
            let group = {
                let mut queues = self.queues.0.lock();
                let Some(queue) = queues.get_mut(&room) else { return };
                let group = take_group(queue);
                if group.is_empty() {
                    queues.remove(&room);
                    return;
                }
                group
            };
            let started = self.clock.monotonic();
            let commands = group.len();
            self.write_group(room, group).await;
            let elapsed = self.clock.monotonic().saturating_sub(started);
            if elapsed > SLOW {
                tracing::debug!(room = room.0, commands, ?elapsed, "slow room write");
            }
        }
    }

    async fn write_group(&self, room: RoomNid, group: Vec<Command>) {
        let head = match self.head(room) {
            Ok(head) => head,
            Err(error) => return refuse(group, &error),
        };
        let mut append = Append::new(self, (*head).clone());
        let mut answers: Answers = Vec::with_capacity(group.len());
        for command in group {
            match append.add_command(command.drafts, command.transaction) {
                Ok(ids) => answers.push((command.reply, ids)),
                // Only a command of one event shares its group, and it fails before it adds a row.
                Err(error) => drop(command.reply.send(Err(error))),
            }
        }
        let Some(change) = append.finish() else {
            return answers.into_iter().for_each(|(reply, ids)| drop(reply.send(Ok(ids))));
        };
        let pending = Pending { head: change.head, members_changed: change.members_changed };
        self.memory.pending.lock().insert(room, pending);
        let committed = self.store.commit(change.batch).await;
        if committed.is_err() {
            self.memory.pending.lock().remove(&room);
        }
        for (reply, ids) in answers {
            drop(reply.send(committed.clone().map(|_| ids).map_err(RoomError::from)));
        }
    }
}

/// The next commands to commit together: several of one event each, or one of several.
fn take_group(queue: &mut VecDeque<Command>) -> Vec<Command> {
    let single = queue.iter().take(GROUP).take_while(|command| command.drafts.len() == 1).count();
    queue.drain(..single.max(1).min(queue.len())).collect()
}

fn refuse(group: Vec<Command>, error: &RoomError) {
    tracing::error!(%error, "a room's head cannot be read");
    for command in group {
        drop(command.reply.send(Err(RoomError::Inconsistent("the room's head cannot be read"))));
    }
}
