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
use crate::receive::{CheckedPdu, Verdict};
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

enum Command {
    /// Events of ours.
    Append { drafts: Vec<Draft>, transaction: Option<(UserNid, Transaction)>, reply: Reply<Vec<EventId>> },
    /// An event of another server's, checked.
    Receive { pdu: CheckedPdu, reply: Reply<Verdict> },
}

impl Command {
    /// Whether it is of one event of ours: those are committed together.
    fn may_share(&self) -> bool {
        matches!(self, Command::Append { drafts, .. } if drafts.len() == 1)
    }
}

type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

/// What is to be answered once the commit is done.
enum Answer {
    Appended(Reply<Vec<EventId>>, Vec<EventId>),
    Received(Reply<Verdict>, Verdict),
}

impl Answer {
    fn send(self, committed: Result<(), RoomError>) {
        // Whoever asked may have gone; what is committed stays.
        match self {
            Answer::Appended(reply, ids) => drop(reply.send(committed.map(|()| ids))),
            Answer::Received(reply, verdict) => drop(reply.send(committed.map(|()| verdict))),
        }
    }
}

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
        self.submit(room, Command::Append { drafts, transaction, reply })?;
        answer.await.unwrap_or(Err(RoomError::Busy))
    }

    /// Hands a received event to the room's writer. Cancel-safe: once submitted, it is carried out.
    pub(crate) async fn submit_received(&self, room: RoomNid, pdu: CheckedPdu) -> Result<Verdict, RoomError> {
        let (reply, answer) = oneshot::channel();
        self.submit(room, Command::Receive { pdu, reply })?;
        answer.await.unwrap_or(Err(RoomError::Busy))
    }

    fn submit(&self, room: RoomNid, command: Command) -> Result<(), RoomError> {
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
        Ok(())
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
        let mut answers = Vec::with_capacity(group.len());
        for command in group {
            let before = append.added();
            let failed = match command {
                Command::Append { drafts, transaction, reply } => match append.add_command(drafts, transaction) {
                    Ok(ids) => {
                        answers.push(Answer::Appended(reply, ids));
                        false
                    }
                    Err(error) => {
                        drop(reply.send(Err(error)));
                        true
                    }
                },
                Command::Receive { pdu, reply } => match append.receive(pdu) {
                    Ok(verdict) => {
                        answers.push(Answer::Received(reply, verdict));
                        false
                    }
                    Err(error) => {
                        drop(reply.send(Err(error)));
                        true
                    }
                },
            };
            if failed && append.added() != before {
                // Half of it is among the rows: nothing of the group is committed.
                return answers.into_iter().for_each(|answer| answer.send(Err(RoomError::Busy)));
            }
        }
        let Some(change) = append.finish() else {
            return answers.into_iter().for_each(|answer| answer.send(Ok(())));
        };
        let pending = Pending { head: change.head, members_changed: change.members_changed };
        self.memory.pending.lock().insert(room, pending);
        let committed = self.store.commit(change.batch).await;
        if committed.is_err() {
            self.memory.pending.lock().remove(&room);
        }
        for answer in answers {
            answer.send(committed.clone().map(drop).map_err(RoomError::from));
        }
    }
}

/// The next commands to commit together: several of one event each, or one of several.
fn take_group(queue: &mut VecDeque<Command>) -> Vec<Command> {
    let single = queue.iter().take(GROUP).take_while(|command| command.may_share()).count();
    queue.drain(..single.max(1).min(queue.len())).collect()
}

fn refuse(group: Vec<Command>, error: &RoomError) {
    tracing::error!(%error, "a room's head cannot be read");
    for command in group {
        let error = RoomError::Inconsistent("the room's head cannot be read");
        match command {
            Command::Append { reply, .. } => drop(reply.send(Err(error))),
            Command::Receive { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}
