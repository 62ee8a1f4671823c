//! What is pending for which server, in memory: nothing for servers that have nothing pending.
//!
//! The durable side of it is in `rows.rs`. Only pure bookkeeping happens here: no reads, no clock, no waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use rooms::{RoomNid, RoomSeq, UserNid};
use spec::ids::ServerName;
use storage::StreamPos;

use super::ephemeral::Ephemeral;
use super::pack::Transaction;

#[cfg(test)]
mod tests;

/// A part of a log that a server has to be told of: what is after `after`, up to `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch<P> {
    /// The row says the same: everything up to here is done.
    pub after: P,
    /// The last entry that concerns the server.
    pub latest: P,
    /// Its row is being deleted: what comes now needs a new row.
    pub ending: bool,
}

impl<P: Copy + Ord> Stretch<P> {
    pub fn new(after: P, latest: P) -> Self {
        Stretch { after, latest, ending: false }
    }

    /// Notes that the entry `at` concerns the server too. False if that needs a new row.
    fn extend(&mut self, at: P) -> bool {
        if self.ending {
            return false;
        }
        self.latest = self.latest.max(at);
        true
    }
}

/// A room with something pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingRoom {
    pub stretch: Stretch<RoomSeq>,
    /// It waited through an outage: of very many events only the newest are sent.
    pub after_outage: bool,
}

/// Where a server is in the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing to do.
    Resting,
    /// In line.
    Ready,
    /// A task sends to it.
    Sending,
    /// Until this time, because it failed.
    BackingOff(u64),
    /// Until this time, because what is pending can be merged with what comes.
    Gathering(u64),
}

/// What is pending for a server.
#[derive(Debug)]
pub(crate) struct Destination {
    pub rooms: BTreeMap<RoomNid, PendingRoom>,
    /// The room that was packed last: the next transaction begins after it.
    pub last_room: Option<RoomNid>,
    /// Events that it is told of although it is not in the room.
    pub extras: BTreeSet<(RoomNid, RoomSeq)>,
    /// Whether something may be in the outbox that no transaction under way holds.
    pub has_outbox: bool,
    /// About how many messages are in the outbox.
    pub outbox: usize,
    pub devices: Option<Stretch<StreamPos>>,
    /// Users whose whole device list it should fetch.
    pub whole_lists: BTreeSet<UserNid>,
    pub ephemeral: Ephemeral,
    /// A transaction that may have arrived although no answer did: sent again as it is.
    pub kept: Option<Transaction>,
    /// When it failed first, in milliseconds.
    pub failing_since: Option<u64>,
    /// How often in a row it answered that it does not want the transaction.
    pub refusals: u32,
    place: Place,
}

impl Destination {
    fn new() -> Self {
        Destination {
            rooms: BTreeMap::new(),
            last_room: None,
            extras: BTreeSet::new(),
            has_outbox: false,
            outbox: 0,
            devices: None,
            whole_lists: BTreeSet::new(),
            ephemeral: Ephemeral::default(),
            kept: None,
            failing_since: None,
            refusals: 0,
            place: Place::Resting,
        }
    }

    /// Whether it is left alone for now: what is not durable is not gathered for it.
    pub fn is_backing_off(&self) -> bool {
        matches!(self.place, Place::BackingOff(_))
    }

    fn has_durable(&self) -> bool {
        self.kept.is_some()
            || self.has_outbox
            || !self.extras.is_empty()
            || !self.whole_lists.is_empty()
            || self.devices.is_some()
            || !self.rooms.is_empty()
    }

    fn has_work(&self) -> bool {
        self.has_durable() || !self.ephemeral.is_empty()
    }
}

/// How a turn of a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// What was sent has arrived, or there was nothing to send.
    Done,
    /// It is left alone until this time, in milliseconds.
    BackOff(u64),
}

/// All servers with something pending, and whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Table {
    servers: HashMap<ServerName, Destination>,
    ready: VecDeque<ServerName>,
    timers: BTreeSet<(u64, ServerName)>,
    sending: usize,
}

impl Table {
    /// What is pending for the server; made if nothing was.
    pub fn destination(&mut self, name: &ServerName) -> &mut Destination {
        self.servers.entry(name.clone()).or_insert_with(Destination::new)
    }

    /// What is pending for the server, if anything is.
    pub fn get(&mut self, name: &ServerName) -> Option<&mut Destination> {
        self.servers.get_mut(name)
    }

    /// How many servers have something pending.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether a server has something pending.
    pub fn knows(&self, server: &ServerName) -> bool {
        self.servers.contains_key(server)
    }

    /// The servers that have something pending.
    #[cfg(test)]
    pub fn names(&self) -> Vec<ServerName> {
        self.servers.keys().cloned().collect()
    }

    /// Whether a server that is not left alone is still to be told of the room.
    pub fn concerns(&self, room: RoomNid) -> bool {
        self.servers.values().any(|destination| destination.rooms.contains_key(&room) && !destination.is_backing_off())
    }

    /// Forgets a room that is deleted.
    pub fn forget_room(&mut self, room: RoomNid) {
        for destination in self.servers.values_mut() {
            destination.rooms.remove(&room);
            destination.extras.retain(|(of, _)| *of != room);
        }
    }

    /// Notes that the event concerns the server. False if that needs a new row, and then an [`Table::open_room`].
    pub fn extend_room(&mut self, name: &ServerName, room: RoomNid, at: RoomSeq) -> bool {
        let pending = self.servers.get_mut(name).and_then(|destination| destination.rooms.get_mut(&room));
        pending.is_some_and(|pending| pending.stretch.extend(at))
    }

    /// Notes a room whose row was written.
    pub fn open_room(&mut self, name: &ServerName, room: RoomNid, stretch: Stretch<RoomSeq>) {
        self.destination(name).rooms.insert(room, PendingRoom { stretch, after_outage: false });
    }

    /// As [`Table::extend_room`], for changes of device lists.
    pub fn extend_devices(&mut self, name: &ServerName, at: StreamPos) -> bool {
        let pending = self.servers.get_mut(name).and_then(|destination| destination.devices.as_mut());
        pending.is_some_and(|stretch| stretch.extend(at))
    }

    /// From where a stretch of changes of device lists has to begin for a server that is to be told of those after
    /// `since` too, whatever it is being told. Its row is to be written with that, which no row had that is being deleted.
    pub fn reach_back(&mut self, name: &ServerName, since: StreamPos) -> StreamPos {
        match self.servers.get(name).and_then(|destination| destination.devices) {
            Some(stretch) if stretch.ending && stretch.after <= since => StreamPos(stretch.after.0.saturating_sub(1)),
            Some(stretch) => stretch.after.min(since),
            None => since,
        }
    }

    /// Puts the server in line, unless it is left alone or being sent to.
    pub fn wake(&mut self, name: &ServerName) {
        let Some(destination) = self.servers.get_mut(name).filter(|destination| destination.has_work()) else { return };
        match destination.place {
            Place::Resting => {}
            Place::Gathering(until) => {
                self.timers.remove(&(until, name.clone()));
            }
            Place::Ready | Place::Sending | Place::BackingOff(_) => return,
        }
        destination.place = Place::Ready;
        self.ready.push_back(name.clone());
    }

    /// As [`Table::wake`], at a later time, so that more can gather.
    pub fn wake_at(&mut self, name: &ServerName, at_ms: u64) {
        let Some(destination) = self.servers.get_mut(name) else { return };
        if destination.place == Place::Resting && destination.has_work() {
            destination.place = Place::Gathering(at_ms);
            self.timers.insert((at_ms, name.clone()));
        }
    }

    /// Puts a server in line that was left alone and has returned.
    pub fn resume(&mut self, name: &ServerName) {
        let Some(destination) = self.servers.get_mut(name) else { return };
        if let Place::BackingOff(until) = destination.place {
            self.timers.remove(&(until, name.clone()));
            destination.place = Place::Resting;
            self.wake(name);
        }
    }

    /// The next server in line, if less than `limit` are being sent to; it is being sent to from now on.
    pub fn take_ready(&mut self, limit: usize) -> Option<ServerName> {
        if self.sending >= limit {
            return None;
        }
        let name = self.ready.pop_front()?;
        if let Some(destination) = self.servers.get_mut(&name) {
            destination.place = Place::Sending;
            self.sending += 1;
        }
        Some(name)
    }

    /// Ends a turn that [`Table::take_ready`] began. A server with nothing left is forgotten.
    pub fn end_turn(&mut self, name: &ServerName, turn: Turn) {
        self.sending = self.sending.saturating_sub(1);
        let Some(destination) = self.servers.get_mut(name) else { return };
        destination.place = Place::Resting;
        match turn {
            Turn::BackOff(until) => {
                destination.ephemeral = Ephemeral::default();
                if !destination.has_durable() {
                    self.servers.remove(name);
                    return;
                }
                destination.place = Place::BackingOff(until);
                self.timers.insert((until, name.clone()));
            }
            Turn::Done if destination.has_work() => self.wake(name),
            Turn::Done => {
                self.servers.remove(name);
            }
        }
    }

    /// Puts those in line whose time has come.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some((at, name)) = self.timers.first().cloned() {
            if at > now_ms {
                break;
            }
            self.timers.pop_first();
            if let Some(destination) = self.servers.get_mut(&name) {
                destination.place = Place::Resting;
                self.wake(&name);
            }
        }
    }

    /// When the next timer ends, in milliseconds.
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The servers that are left alone because they failed.
    pub fn backing_off(&self) -> Vec<ServerName> {
        let backing_off = self.servers.iter().filter(|(_, destination)| destination.is_backing_off());
        backing_off.map(|(name, _)| name.clone()).collect()
    }
}
