//! Connections: what each client has been sent.
//!
//! A connection remembers what the client has for certain (up to the `pos` that it last came with) and what the
//! latest answer would add. A client that comes with the new `pos` confirms the addition; one that comes
//! with the old one again discards it, and is answered anew from the same ground.
//!
//! `pos` is `l1_<generation>_<number>_<token>`: which life of the connection, which answer, and a
//! [`SyncToken`]. Generations never repeat, over restarts too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rooms::{Membership, RoomNid};
use runtime::Clock;
use storage::StreamPos;
use users::DeviceNid;

use super::request::RequiredState;
use crate::config::SyncConfig;
use crate::error::SyncError;
use crate::feed::NumberMap;
use crate::token::{SyncToken, decimal};

/// Idle connections are looked for each time that many were made.
const SWEEP_EVERY: u64 = 256;

/// What `pos` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pos {
    pub generation: u64,
    pub number: u64,
    pub token: SyncToken,
}

impl std::fmt::Display for Pos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "l1_{}_{}_{}", self.generation, self.number, self.token)
    }
}

impl Pos {
    /// Reads a `pos`.
    pub fn parse(text: &str) -> Result<Pos, SyncError> {
        let read = || {
            let (generation, rest) = text.strip_prefix("l1_")?.split_once('_')?;
            let (number, token) = rest.split_once('_')?;
            Some(Pos { generation: decimal(generation)?, number: decimal(number)?, token: token.parse().ok()? })
        };
        // Whatever it is, the client can only start again.
        read().ok_or(SyncError::UnknownPos)
    }
}

/// What a client has of a room.
#[derive(Clone, Debug)]
pub(crate) struct SentRoom {
    /// All that is wanted of the room was sent up to here.
    pub up_to: StreamPos,
    /// How many of the newest events up to there it has without a gap; `u64::MAX` for all.
    pub events: u64,
    /// The state that it was sent: the widest wish so far.
    pub state: Arc<Vec<RequiredState>>,
    pub is_dm: bool,
    pub membership: Membership,
}

/// What an answer adds.
#[derive(Debug, Default)]
pub(crate) struct Addition {
    pub rooms: Vec<(RoomNid, SentRoom)>,
    /// Of the lists and subscriptions that were served: see [`Connection::served`].
    pub served: u64,
    pub counts: Arc<Vec<(String, u64)>>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub generation: u64,
    /// The answer that the client is known to have; 0 before the first.
    number: u64,
    latest: u64,
    addition: Option<Addition>,
    pub rooms: NumberMap<RoomNid, SentRoom>,
    /// A hash of the lists and subscriptions that the client has been served completely.
    pub served: u64,
    /// How many rooms each list had then.
    pub counts: Arc<Vec<(String, u64)>>,
}

impl Connection {
    fn new(generation: u64) -> Connection {
        Connection {
            generation,
            number: 0,
            latest: 0,
            addition: None,
            rooms: NumberMap::default(),
            served: 0,
            counts: Arc::default(),
        }
    }

    /// Goes to where the client stands.
    pub fn go_to(&mut self, pos: Option<&Pos>) -> Result<(), SyncError> {
        let number = pos.map_or(0, |pos| pos.number);
        if number == self.number {
            return Ok(());
        }
        if number != self.latest {
            return Err(SyncError::UnknownPos);
        }
        if let Some(addition) = self.addition.take() {
            self.rooms.extend(addition.rooms);
            self.served = addition.served;
            self.counts = addition.counts;
        }
        self.number = number;
        Ok(())
    }

    /// The number of the next answer.
    pub fn next_number(&self) -> u64 {
        self.latest + 1
    }

    /// Notes what the next answer adds.
    pub fn answered(&mut self, addition: Addition) {
        self.latest += 1;
        self.addition = Some(addition);
    }
}

struct Slot {
    conn_id: Box<str>,
    generation: u64,
    used_ms: u64,
    connection: Arc<Mutex<Connection>>,
}

/// All connections.
pub(crate) struct Connections {
    clock: Clock,
    per_device: usize,
    idle_ms: u64,
    next_generation: AtomicU64,
    devices: Mutex<NumberMap<DeviceNid, Vec<Slot>>>,
}

impl Connections {
    pub fn new(clock: &Clock, config: &SyncConfig) -> Connections {
        Connections {
            clock: clock.clone(),
            per_device: config.connections_per_device.max(1),
            idle_ms: config.connection_idle_ms,
            // More than were given out in any earlier life of this server, unless it made 65 connections every
            // millisecond.
            next_generation: AtomicU64::new(clock.now_ms() << 16),
            devices: Mutex::default(),
        }
    }

    /// The connection that the client means.
    pub fn find(&self, device: DeviceNid, conn_id: &str, pos: &Pos) -> Result<Arc<Mutex<Connection>>, SyncError> {
        let now = self.clock.now_ms();
        let mut devices = self.devices.lock();
        let slot = devices.get_mut(&device).and_then(|slots| {
            slots.iter_mut().find(|slot| &*slot.conn_id == conn_id && slot.generation == pos.generation)
        });
        let slot = slot.ok_or(SyncError::UnknownPos)?;
        slot.used_ms = now;
        Ok(slot.connection.clone())
    }

    /// A new connection in the place of the device's old one of this name.
    pub fn begin(&self, device: DeviceNid, conn_id: &str) -> Arc<Mutex<Connection>> {
        let now = self.clock.now_ms();
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Mutex::new(Connection::new(generation)));
        let mut devices = self.devices.lock();
        if generation.is_multiple_of(SWEEP_EVERY) {
            for slots in devices.values_mut() {
                slots.retain(|slot| now.saturating_sub(slot.used_ms) < self.idle_ms);
            }
            devices.retain(|_, slots| !slots.is_empty());
        }
        let slots = devices.entry(device).or_default();
        slots.retain(|slot| &*slot.conn_id != conn_id);
        if slots.len() >= self.per_device
            && let Some(oldest) = (0..slots.len()).min_by_key(|&place| slots.get(place).map(|slot| slot.used_ms))
        {
            slots.swap_remove(oldest);
        }
        slots.push(Slot { conn_id: conn_id.into(), generation, used_ms: now, connection: connection.clone() });
        connection
    }
}

#[cfg(test)]
mod tests;
