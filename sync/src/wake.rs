//! What wakes waiting requests besides a commit's own topics: typing, presence, other users' devices, and the members
//! of rooms with so many that the committer should not wake them itself.

use std::sync::Arc;

use rooms::{RoomNid, Rooms, TOPIC_DEVICE_LISTS, TOPIC_USER, UserNid};
use runtime::Tasks;
use storage::{Committed, Store};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use users::Users;

use crate::waiters::Waiters;

/// How many waiting members of a room the committer wakes itself.
const INLINE: usize = 32;

/// What is left to be woken.
enum Errand {
    Members(RoomNid),
    /// All who share a room with the user.
    Acquaintances(UserNid),
}

/// Starts waking. Must be called inside an executor; ends at shutdown.
pub(crate) fn start(store: &Store, rooms: &Rooms, users: &Users, tasks: &Tasks, waiters: &Arc<Waiters>) {
    let (errands, incoming) = mpsc::unbounded_channel();
    let observer = waiters.clone();
    store.on_visible(Arc::new(move |commits| wake_concerned(&observer, &errands, commits)));
    let runner = Runner {
        rooms: rooms.clone(),
        waiters: waiters.clone(),
        incoming,
        typing: rooms.watch_typing(),
        presence: users.observe_presence(),
    };
    let stop = tasks.shutdown_token();
    tasks.spawn("sync wake-ups", async move {
        tokio::select! {
            () = runner.run() => {}
            () = stop.cancelled() => {}
        }
    });
}

fn wake_concerned(waiters: &Waiters, errands: &UnboundedSender<Errand>, commits: &[Committed]) {
    for commit in commits {
        for room in waiters.wake(&commit.topics, INLINE) {
            // Fails at shutdown only, when all are woken anyway.
            let _ = errands.send(Errand::Members(room));
        }
        if !commit.topics.iter().any(|topic| topic.kind() == TOPIC_DEVICE_LISTS) || waiters.is_empty() {
            continue;
        }
        for topic in commit.topics.iter().filter(|topic| topic.kind() == TOPIC_USER) {
            let _ = errands.send(Errand::Acquaintances(UserNid(topic.id())));
        }
    }
}

struct Runner {
    rooms: Rooms,
    waiters: Arc<Waiters>,
    incoming: UnboundedReceiver<Errand>,
    typing: Receiver<RoomNid>,
    presence: Receiver<UserNid>,
}

impl Runner {
    async fn run(mut self) {
        loop {
            tokio::select! {
                errand = self.incoming.recv() => match errand {
                    Some(Errand::Members(room)) => self.waiters.wake_rooms(&[room]),
                    Some(Errand::Acquaintances(user)) => self.wake_acquaintances(user),
                    None => return,
                },
                room = self.typing.recv() => match room {
                    Ok(room) => self.waiters.wake_rooms(&[room]),
                    Err(RecvError::Lagged(_)) => self.waiters.wake_all(),
                    Err(RecvError::Closed) => return,
                },
                user = self.presence.recv() => match user {
                    Ok(user) => self.wake_acquaintances(user),
                    Err(RecvError::Lagged(_)) => self.waiters.wake_all(),
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn wake_acquaintances(&self, user: UserNid) {
        if self.waiters.is_empty() {
            return;
        }
        match self.rooms.joined_rooms(user) {
            Ok(rooms) => self.waiters.wake_rooms(&rooms),
            // Waking too many costs time only.
            Err(error) => {
                tracing::error!(%error, "reading a user's rooms failed");
                self.waiters.wake_all();
            }
        }
    }
}
