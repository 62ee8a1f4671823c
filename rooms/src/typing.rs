//! Who is typing: in memory only, with a counter of its own (Client-Server API §Typing notifications).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use runtime::{Clock, Random};
use tokio::sync::broadcast;

use crate::ids::{RoomNid, UserNid};
use crate::rooms::Rooms;

/// The longest a client may claim to type without saying it again.
pub const MAX_TYPING: Duration = Duration::from_secs(120);
const NOTICES: usize = 256;
/// How often it is looked whether a time was shortened.
const RECHECK: Duration = Duration::from_secs(5);

/// Who types where.
pub(crate) struct Typing {
    clock: Clock,
    epoch: u64,
    rooms: Mutex<State>,
    notices: broadcast::Sender<RoomNid>,
}

#[derive(Default)]
struct State {
    /// Counts every change of any room.
    counter: u64,
    rooms: HashMap<RoomNid, RoomTyping>,
}

#[derive(Default)]
struct RoomTyping {
    /// The counter at the last change.
    changed: u64,
    until: BTreeMap<UserNid, Duration>,
    /// Of whom a task waits for the end: one each, however often they begin and stop.
    watched: BTreeSet<UserNid>,
}

impl Typing {
    pub fn new(clock: &Clock, random: &Random) -> Typing {
        let notices = broadcast::channel(NOTICES).0;
        // 32 bits, so that it fits into a token with room to spare.
        Typing { clock: clock.clone(), epoch: random.u64() >> 32, rooms: Mutex::default(), notices }
    }
}

impl Rooms {
    /// Says that the user types in the room for the time given at most, or no more (`None`).
    pub fn set_typing(&self, room: RoomNid, user: UserNid, timeout: Option<Duration>) {
        let now = self.typing.clock.monotonic();
        let timeout = timeout.map(|timeout| timeout.min(MAX_TYPING));
        let until = timeout.map(|timeout| now + timeout);
        if self.change_typing(room, user, |_| until) {
            let _ = self.typing.notices.send(room);
        }
        if until.is_some() && self.typing.rooms.lock().rooms.entry(room).or_default().watched.insert(user) {
            let rooms = self.clone();
            self.tasks.spawn("typing expiry", async move { rooms.expire_typing(room, user).await });
        }
    }

    /// Waits until the user's time is over, however often it is prolonged, or shortened.
    async fn expire_typing(&self, room: RoomNid, user: UserNid) {
        while let Some(until) = self.typing_until(room, user) {
            let wake_at = until.min(self.typing.clock.monotonic().saturating_add(RECHECK));
            // What is in memory only need not expire at the end.
            if self.tasks.shutdown_token().run_until_cancelled(self.clock.sleep_until(wake_at)).await.is_none() {
                return;
            }
            let now = self.typing.clock.monotonic();
            // Unless the client has said it again since.
            if self.change_typing(room, user, |current| current.filter(|current| *current > now)) {
                let _ = self.typing.notices.send(room);
            }
        }
    }

    /// Until when the user types. If they do not, nobody watches them any more.
    fn typing_until(&self, room: RoomNid, user: UserNid) -> Option<Duration> {
        let mut state = self.typing.rooms.lock();
        let entry = state.rooms.get_mut(&room)?;
        let until = entry.until.get(&user).copied();
        if until.is_none() {
            entry.watched.remove(&user);
        }
        until
    }

    /// Changes one entry; says whether the set of those who type has changed.
    fn change_typing(
        &self,
        room: RoomNid,
        user: UserNid,
        change: impl FnOnce(Option<Duration>) -> Option<Duration>,
    ) -> bool {
        let mut state = self.typing.rooms.lock();
        let counter = state.counter + 1;
        let entry = state.rooms.entry(room).or_default();
        let before = entry.until.get(&user).copied();
        let after = change(before);
        match after {
            Some(until) => entry.until.insert(user, until),
            None => entry.until.remove(&user),
        };
        if before.is_some() == after.is_some() {
            return false;
        }
        entry.changed = counter;
        state.counter = counter;
        true
    }

    /// Who types in the room, if that has changed since the counter given.
    #[must_use]
    pub fn typing_since(&self, room: RoomNid, counter: u64) -> Option<Vec<UserNid>> {
        let state = self.typing.rooms.lock();
        let room = state.rooms.get(&room).filter(|room| room.changed > counter)?;
        Some(room.until.keys().copied().collect())
    }

    /// The rooms in which the set of those who type has changed since the counter given.
    #[must_use]
    pub fn rooms_with_typing_since(&self, counter: u64) -> Vec<RoomNid> {
        let state = self.typing.rooms.lock();
        if state.counter <= counter {
            return Vec::new();
        }
        state.rooms.iter().filter(|(_, room)| room.changed > counter).map(|(room, _)| *room).collect()
    }

    /// The counter now, and a number that differs from one start of the server to the next.
    #[must_use]
    pub fn typing_counter(&self) -> (u64, u64) {
        (self.typing.rooms.lock().counter, self.typing.epoch)
    }

    /// Tells of every room in which the set of those who type changes.
    #[must_use]
    pub fn watch_typing(&self) -> broadcast::Receiver<RoomNid> {
        self.typing.notices.subscribe()
    }
}
