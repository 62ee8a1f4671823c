//! The events of a room that is being entered, until they are stored: their JSON in a temporary file without a name,
//! and in memory only what their order needs.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use spec::ids::{EventId, RoomId};
use spec::pdu::ReceivedPdu;
use spec::version::RoomVersionRules;
use tempfile::SpooledTempFile;

use crate::remote::answer::List;

/// The most events of one answer.
pub(crate) const MAX_EVENTS: usize = 500_000;
/// Up to so many bytes stay in memory: most rooms never touch the disk.
const IN_MEMORY: usize = 4 * 1024 * 1024;

/// The number of an event in a spool.
pub(crate) type EventNumber = u32;

/// Ids and state keys are held as keyed hashes: an answer may name millions of them, and whoever sends it does not
/// know the key.
type Hash = u64;

struct Entry {
    offset: u64,
    length: u32,
    auth_events: Box<[Hash]>,
    in_state: bool,
}

/// See the module.
pub(crate) struct Spool {
    room: RoomId,
    rules: &'static RoomVersionRules,
    file: SpooledTempFile,
    end: u64,
    entries: Vec<Entry>,
    numbers: HashMap<Hash, EventNumber>,
    /// The event of each key of the state.
    state: HashMap<Hash, EventNumber>,
    hasher: RandomState,
    left_out: usize,
}

impl Spool {
    /// An empty spool for events of one room.
    pub(crate) fn new(room: RoomId, rules: &'static RoomVersionRules) -> Spool {
        Spool {
            room,
            rules,
            file: SpooledTempFile::new(IN_MEMORY),
            end: 0,
            entries: Vec::new(),
            numbers: HashMap::new(),
            state: HashMap::new(),
            hasher: RandomState::new(),
            left_out: 0,
        }
    }

    /// How many events it holds.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many were left out because they are no events of this room.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Takes in an event. What is no event of this room is left out.
    ///
    /// # Errors
    /// What makes the whole answer unusable: two events for one key of the state, too many events; a full disk.
    pub(crate) fn add(&mut self, list: List, json: &RawValue) -> Result<(), String> {
        let Some(received) = self.parse(json.get().as_bytes()) else {
            self.left_out += 1;
            return Ok(());
        };
        let pdu = received.unverified();
        if pdu.room_id != self.room || (list == List::State && pdu.state_key.is_none()) {
            self.left_out += 1;
            return Ok(());
        }
        let key = pdu.state_key.as_deref().map(|state_key| self.hash_of_key(&pdu.kind, state_key));
        let id = self.hash_of_id(&pdu.event_id);
        let number = match self.numbers.get(&id) {
            Some(&number) => number,
            None => {
                let auth_events = pdu.auth_events.iter().map(|auth| self.hash_of_id(auth)).collect();
                self.write(id, json.get().as_bytes(), auth_events)?
            }
        };
        if let (List::State, Some(key)) = (list, key) {
            if self.state.insert(key, number).is_some_and(|other| other != number) {
                return Err("two events of the state have one type and state key".to_owned());
            }
            if let Some(entry) = self.entries.get_mut(number as usize) {
                entry.in_state = true;
            }
        }
        Ok(())
    }

    fn parse(&self, json: &[u8]) -> Option<ReceivedPdu> {
        let object: Map<String, Value> = serde_json::from_slice(json).ok()?;
        ReceivedPdu::check(object, self.rules).ok()
    }

    fn write(&mut self, id: Hash, json: &[u8], auth_events: Box<[Hash]>) -> Result<EventNumber, String> {
        if self.entries.len() >= MAX_EVENTS {
            return Err(format!("more than {MAX_EVENTS} events"));
        }
        self.file.write_all(json).map_err(|error| format!("the temporary file cannot be written: {error}"))?;
        let (number, length) = (self.entries.len() as EventNumber, json.len() as u32);
        self.entries.push(Entry { offset: self.end, length, auth_events, in_state: false });
        self.end += u64::from(length);
        self.numbers.insert(id, number);
        Ok(number)
    }

    /// Whether the event is part of the state, not only of an auth chain.
    pub(crate) fn is_in_state(&self, number: EventNumber) -> bool {
        self.entries.get(number as usize).is_some_and(|entry| entry.in_state)
    }

    /// The state event of a type and state key.
    pub(crate) fn find_state(&self, kind: &str, state_key: &str) -> Option<EventNumber> {
        self.state.get(&self.hash_of_key(kind, state_key)).copied()
    }

    /// The number of an event.
    pub(crate) fn find_event(&self, id: &EventId) -> Option<EventNumber> {
        self.numbers.get(&self.hash_of_id(id)).copied()
    }

    /// All events so that each comes after those that authorise it; `first` before all others. Events of a circle
    /// are left out: none of them can be authorised.
    pub(crate) fn order(&self, first: Option<EventNumber>) -> Vec<EventNumber> {
        let count = self.entries.len();
        let known = |hash: &Hash| self.numbers.get(hash).copied();
        let mut waits_for = vec![0u32; count];
        let mut citers: Vec<Vec<EventNumber>> = vec![Vec::new(); count];
        for (number, entry) in self.entries.iter().enumerate() {
            for cited in entry.auth_events.iter().filter_map(known) {
                if let (Some(waits), Some(citers)) = (waits_for.get_mut(number), citers.get_mut(cited as usize)) {
                    *waits += 1;
                    citers.push(number as EventNumber);
                }
            }
        }
        let mut order = Vec::with_capacity(count);
        order.extend(first);
        order.extend((0..count as EventNumber).filter(|number| {
            Some(*number) != first && waits_for.get(*number as usize).is_some_and(|waits| *waits == 0)
        }));
        let mut at = 0;
        while let Some(&number) = order.get(at) {
            at += 1;
            for &citer in citers.get(number as usize).into_iter().flatten() {
                let Some(waits) = waits_for.get_mut(citer as usize) else { continue };
                *waits = waits.saturating_sub(1);
                if *waits == 0 && Some(citer) != first {
                    order.push(citer);
                }
            }
        }
        order
    }

    /// Reads an event back.
    ///
    /// # Errors
    /// The temporary file cannot be read, or does not hold what was written.
    pub(crate) fn read(&mut self, number: EventNumber) -> io::Result<ReceivedPdu> {
        let entry = self.entries.get(number as usize).ok_or(io::ErrorKind::NotFound)?;
        let mut json = vec![0; entry.length as usize];
        self.file.seek(SeekFrom::Start(entry.offset))?;
        self.file.read_exact(&mut json)?;
        self.parse(&json).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn hash_of_id(&self, id: &EventId) -> Hash {
        self.hasher.hash_one(id.as_str())
    }

    fn hash_of_key(&self, kind: &str, state_key: &str) -> Hash {
        self.hasher.hash_one((kind, state_key))
    }
}

#[cfg(test)]
mod tests;
