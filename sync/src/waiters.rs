//! Who is waiting, and for what.
//!
//! The index from rooms to users is kept for users who wait or waited lately, so that a client that comes back
//! registers at the same small cost however many rooms it has, and a commit costs as many steps as members wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rooms::{
    Membership, RoomNid, TOPIC_DEVICE, TOPIC_EPHEMERAL, TOPIC_MEMBERSHIP, TOPIC_ROOM, TOPIC_USER, UserNid, UserRoom,
};
use smallvec::SmallVec;
use storage::Topic;
use tokio::sync::Notify;
use users::DeviceNid;

use crate::feed::NumberMap;

/// How many users without a waiter stay indexed besides as many as there are with one.
const SPARE_ENTRIES: usize = 256;

type Rows = Arc<BTreeMap<RoomNid, UserRoom>>;

/// All who wait.
#[derive(Default)]
pub(crate) struct Waiters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    users: NumberMap<UserNid, Entry>,
    rooms: NumberMap<RoomNid, Vec<UserNid>>,
    devices: NumberMap<DeviceNid, UserNid>,
    /// Who waits for a room that they need not be in.
    watchers: NumberMap<RoomNid, Vec<Arc<Notify>>>,
    /// Entries that have no waiter.
    idle: usize,
}

#[derive(Default)]
struct Entry {
    /// The memberships that `State::rooms` shows.
    rows: Rows,
    waiting: SmallVec<[Arc<Waiter>; 1]>,
}

struct Waiter {
    device: DeviceNid,
    wake: Notify,
}

/// One waiting for a single room; ends its waiting when dropped.
pub(crate) struct Watch {
    waiters: Arc<Waiters>,
    room: RoomNid,
    wake: Arc<Notify>,
}

/// One waiting request; ends its waiting when dropped.
pub(crate) struct Registration {
    waiters: Arc<Waiters>,
    user: UserNid,
    waiter: Arc<Waiter>,
}

impl Waiters {
    /// Registers a request. From now on the user's own topics wake it; its rooms do once
    /// [`Registration::index`] was called with memberships read after this.
    pub fn register(self: &Arc<Self>, user: UserNid, device: DeviceNid) -> Registration {
        let waiter = Arc::new(Waiter { device, wake: Notify::new() });
        let mut state = self.state.lock();
        state.forget_idle();
        let state = &mut *state;
        let entry = match state.users.entry(user) {
            std::collections::hash_map::Entry::Occupied(entry) => {
                let entry = entry.into_mut();
                state.idle -= usize::from(entry.waiting.is_empty());
                entry
            }
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Entry::default()),
        };
        entry.waiting.push(waiter.clone());
        state.devices.insert(device, user);
        Registration { waiters: self.clone(), user, waiter }
    }

    /// Waits for a room, of whomever's request it is. From now on the room wakes it.
    pub fn watch(self: &Arc<Self>, room: RoomNid) -> Watch {
        let wake = Arc::new(Notify::new());
        self.state.lock().watchers.entry(room).or_default().push(wake.clone());
        Watch { waiters: self.clone(), room, wake }
    }

    /// Wakes whom a commit concerns, except the members of rooms where more than `limit` wait: those
    /// rooms are returned.
    pub fn wake(&self, topics: &[Topic], limit: usize) -> SmallVec<[RoomNid; 1]> {
        let mut busy = SmallVec::new();
        let state = self.state.lock();
        if state.users.len() == state.idle && state.watchers.is_empty() {
            return busy;
        }
        for topic in topics {
            match topic.kind() {
                TOPIC_ROOM | TOPIC_EPHEMERAL => {
                    let room = RoomNid(topic.id());
                    if !state.wake_room(room, limit) {
                        busy.push(room);
                    }
                }
                TOPIC_USER | TOPIC_MEMBERSHIP => state.wake_user(UserNid(topic.id()), None),
                TOPIC_DEVICE => {
                    let device = DeviceNid(topic.id());
                    if let Some(user) = state.devices.get(&device) {
                        state.wake_user(*user, Some(device));
                    }
                }
                _ => {}
            }
        }
        busy
    }

    /// Wakes all who wait and are members of one of the rooms.
    pub fn wake_rooms(&self, rooms: &[RoomNid]) {
        // Room by room, so that nobody waits long for the lock.
        for room in rooms {
            self.state.lock().wake_room(*room, usize::MAX);
        }
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        let state = self.state.lock();
        for entry in state.users.values() {
            entry.waiting.iter().for_each(|waiter| waiter.wake.notify_one());
        }
        state.watchers.values().flatten().for_each(|wake| wake.notify_one());
    }

    /// Whether anybody waits.
    pub fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.users.len() == state.idle
    }
}

impl State {
    fn wake_user(&self, user: UserNid, device: Option<DeviceNid>) {
        for waiter in self.users.get(&user).iter().flat_map(|entry| &entry.waiting) {
            if device.is_none_or(|device| device == waiter.device) {
                waiter.wake.notify_one();
            }
        }
    }

    fn wake_room(&self, room: RoomNid, limit: usize) -> bool {
        let users = self.rooms.get(&room).map_or(&[][..], Vec::as_slice);
        let watchers = self.watchers.get(&room).map_or(&[][..], Vec::as_slice);
        if users.len() + watchers.len() > limit {
            return false;
        }
        users.iter().for_each(|user| self.wake_user(*user, None));
        watchers.iter().for_each(|wake| wake.notify_one());
        true
    }

    /// Makes the index show the joined rooms of `rows` for the user.
    fn index(&mut self, user: UserNid, rows: &Rows) {
        let Some(entry) = self.users.get_mut(&user) else { return };
        if Arc::ptr_eq(&entry.rows, rows) {
            return;
        }
        let old = std::mem::replace(&mut entry.rows, rows.clone());
        self.unindex(user, old.keys().filter(|room| is_joined(&old, room) && !is_joined(rows, room)));
        for room in rows.keys().filter(|room| is_joined(rows, room) && !is_joined(&old, room)) {
            self.rooms.entry(*room).or_default().push(user);
        }
    }

    fn unindex<'a>(&mut self, user: UserNid, rooms: impl Iterator<Item = &'a RoomNid>) {
        for room in rooms {
            let Some(users) = self.rooms.get_mut(room) else { continue };
            if let Some(place) = users.iter().position(|other| *other == user) {
                users.swap_remove(place);
            }
            if users.is_empty() {
                self.rooms.remove(room);
            }
        }
    }

    fn forget_idle(&mut self) {
        if self.idle <= self.users.len() - self.idle + SPARE_ENTRIES {
            return;
        }
        let idle = |entry: &Entry| entry.waiting.is_empty();
        let gone: Vec<_> = self.users.iter().filter(|(_, entry)| idle(entry)).map(|(user, _)| *user).collect();
        for user in gone {
            if let Some(entry) = self.users.remove(&user) {
                self.unindex(user, entry.rows.keys().filter(|room| is_joined(&entry.rows, room)));
            }
        }
        self.idle = 0;
        let Self { users, devices, .. } = self;
        devices.retain(|_, user| users.contains_key(user));
    }
}

fn is_joined(rows: &Rows, room: &RoomNid) -> bool {
    rows.get(room).is_some_and(|row| row.membership == Membership::Join)
}

impl Registration {
    /// Whether the index shows these very memberships.
    pub fn shows(&self, rows: &Rows) -> bool {
        let state = self.waiters.state.lock();
        state.users.get(&self.user).is_some_and(|entry| Arc::ptr_eq(&entry.rows, rows))
    }

    /// Says which rooms the user is in. `rows` must have been read after the registration.
    pub fn index(&self, rows: &Rows) {
        self.waiters.state.lock().index(self.user, rows);
    }

    /// Waits for the next wake-up; one that came since the last call is not lost. Cancel-safe.
    pub async fn woken(&self) {
        self.waiter.wake.notified().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.waiters.state.lock();
        let state = &mut *state;
        let Some(entry) = state.users.get_mut(&self.user) else { return };
        entry.waiting.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        state.idle += usize::from(entry.waiting.is_empty());
        let device = self.waiter.device;
        if !entry.waiting.iter().any(|waiter| waiter.device == device) {
            state.devices.remove(&device);
        }
    }
}

impl Watch {
    /// Waits for the next wake-up; one that came since the last call is not lost. Cancel-safe.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.waiters.state.lock();
        let Some(watchers) = state.watchers.get_mut(&self.room) else { return };
        watchers.retain(|wake| !Arc::ptr_eq(wake, &self.wake));
        if watchers.is_empty() {
            state.watchers.remove(&self.room);
        }
    }
}

#[cfg(test)]
mod tests;
