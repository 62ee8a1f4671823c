//! What wakes waiting requests besides a commit's own topics: typing, presence, other users' devices, and the members
//! of rooms with so many that the committer should not wake them itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rooms::{RoomNid, Rooms, TOPIC_DEVICE_LISTS, TOPIC_PROFILES, TOPIC_USER, UserNid};
use runtime::{Clock, Tasks};
use storage::{Committed, Store};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use users::Users;

use crate::waiters::Waiters;

/// How many waiting members of a room the committer wakes itself.
const INLINE: usize = 32;

/// Changes of presence and of profiles are gathered for so long: many users come and go, each has many acquaintances,
/// and nobody misses the second.
const PAUSE: Duration = Duration::from_secs(1);

/// What is left to be woken.
enum Errand {
    Members(RoomNid),
    /// All who share a room with the user.
    Acquaintances(UserNid),
    /// The same, after the pause.
    AcquaintancesLater(UserNid),
}

/// Starts waking. Must be called inside an executor; ends at shutdown.
pub(crate) fn start(store: &Store, rooms: &Rooms, users: &Users, clock: &Clock, tasks: &Tasks, waiters: &Arc<Waiters>) {
    let (errands, incoming) = mpsc::unbounded_channel();
    let observer = waiters.clone();
    store.on_visible(Arc::new(move |commits| wake_concerned(&observer, &errands, commits)));
    let runner = Runner {
        rooms: rooms.clone(),
        waiters: waiters.clone(),
        incoming,
        typing: rooms.watch_typing(),
        presence: users.observe_presence(),
        clock: clock.clone(),
        changed: BTreeSet::new(),
        pause_ends: Duration::ZERO,
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
        let concerns = |kind: u8| commit.topics.iter().any(|topic| topic.kind() == kind);
        let errand = match (concerns(TOPIC_DEVICE_LISTS), concerns(TOPIC_PROFILES)) {
            (true, _) => Errand::Acquaintances,
            (false, true) => Errand::AcquaintancesLater,
            (false, false) => continue,
        };
        if waiters.is_empty() {
            continue;
        }
        for topic in commit.topics.iter().filter(|topic| topic.kind() == TOPIC_USER) {
            let _ = errands.send(errand(UserNid(topic.id())));
        }
    }
}

struct Runner {
    rooms: Rooms,
    waiters: Arc<Waiters>,
    incoming: UnboundedReceiver<Errand>,
    typing: Receiver<RoomNid>,
    presence: Receiver<UserNid>,
    clock: Clock,
    /// Whose presence or profile changed since the last pause.
    changed: BTreeSet<UserNid>,
    pause_ends: Duration,
}

impl Runner {
    async fn run(mut self) {
        loop {
            tokio::select! {
                errand = self.incoming.recv() => match errand {
                    Some(Errand::Members(room)) => self.waiters.wake_rooms(&[room]),
                    Some(Errand::Acquaintances(user)) => self.wake_acquaintances(&[user]),
                    Some(Errand::AcquaintancesLater(user)) => self.gather(user),
                    None => return,
                },
                room = self.typing.recv() => match room {
                    Ok(room) => self.waiters.wake_rooms(&[room]),
                    Err(RecvError::Lagged(_)) => self.waiters.wake_all(),
                    Err(RecvError::Closed) => return,
                },
                user = self.presence.recv() => match user {
                    Ok(user) => self.gather(user),
                    Err(RecvError::Lagged(_)) => self.waiters.wake_all(),
                    Err(RecvError::Closed) => return,
                },
                () = self.clock.sleep_until(self.pause_ends), if !self.changed.is_empty() => {
                    let changed: Vec<_> = std::mem::take(&mut self.changed).into_iter().collect();
                    self.wake_acquaintances(&changed);
                }
            }
        }
    }

    fn gather(&mut self, user: UserNid) {
        if self.changed.is_empty() {
            self.pause_ends = self.clock.monotonic() + PAUSE;
        }
        self.changed.insert(user);
    }

    fn wake_acquaintances(&self, users: &[UserNid]) {
        if self.waiters.is_empty() {
            return;
        }
        let mut rooms = BTreeSet::new();
        for user in users {
            match self.rooms.joined_rooms(*user) {
                Ok(joined) => rooms.extend(joined),
                // Waking too many costs time only.
                Err(error) => {
                    tracing::error!(%error, "reading a user's rooms failed");
                    return self.waiters.wake_all();
                }
            }
        }
        self.waiters.wake_rooms(&rooms.into_iter().collect::<Vec<_>>());
    }
}
