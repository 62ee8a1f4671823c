//! Which media thread a call lives on.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A call's place.
#[derive(Debug)]
struct Place {
    thread: usize,
    /// Those on their way to it: while there are any, the call cannot get another place.
    coming: usize,
    open: bool,
}

/// The places of all calls; shared by everything that has to do with calls.
#[derive(Debug)]
pub struct Directory {
    places: Mutex<HashMap<String, Place>>,
    /// How many participants each thread has.
    loads: Vec<AtomicUsize>,
}

/// Somebody on the way to a call. Dropped when they have arrived or turned back.
#[derive(Debug)]
pub struct Arrival {
    directory: Arc<Directory>,
    room: String,
    /// The thread of the call.
    pub thread: usize,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut places = self.directory.places.lock();
        let Some(place) = places.get_mut(&self.room) else { return };
        place.coming = place.coming.saturating_sub(1);
        if place.coming == 0 && !place.open {
            places.remove(&self.room);
        }
    }
}

impl Directory {
    /// The directory of so many threads, without calls.
    pub fn new(threads: usize) -> Directory {
        Directory {
            places: Mutex::new(HashMap::new()),
            loads: (0..threads.max(1)).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// Somebody wants to get to `room`; a call that has no place yet gets one on the thread with the fewest participants.
    pub fn approach(self: &Arc<Self>, room: &str) -> Arrival {
        let mut places = self.places.lock();
        let place = places.entry(room.to_owned()).or_insert_with(|| {
            let load = |thread: &usize| self.loads.get(*thread).map_or(usize::MAX, |load| load.load(Ordering::Relaxed));
            Place { thread: (0..self.loads.len()).min_by_key(load).unwrap_or(0), coming: 0, open: false }
        });
        place.coming = place.coming.saturating_add(1);
        Arrival { thread: place.thread, directory: self.clone(), room: room.to_owned() }
    }

    /// The thread has opened the call.
    pub fn open(&self, room: &str) {
        if let Some(place) = self.places.lock().get_mut(room) {
            place.open = true;
        }
    }

    /// The call is over.
    pub fn close(&self, room: &str) {
        let mut places = self.places.lock();
        let Some(place) = places.get_mut(room) else { return };
        place.open = false;
        if place.coming == 0 {
            places.remove(room);
        }
    }

    /// The thread of a call that there is, or that somebody is on the way to: what is told to that thread comes after them.
    pub fn thread_of(&self, room: &str) -> Option<usize> {
        self.places.lock().get(room).map(|place| place.thread)
    }

    /// Whether the call exists.
    pub fn has_room(&self, room: &str) -> bool {
        self.places.lock().get(room).is_some_and(|place| place.open)
    }

    /// How many calls there are.
    pub fn rooms(&self) -> usize {
        self.places.lock().values().filter(|place| place.open).count()
    }

    /// How many participants all calls have.
    pub fn participants(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// A thread says how many participants it has.
    pub fn note_load(&self, thread: usize, participants: usize) {
        if let Some(load) = self.loads.get(thread) {
            load.store(participants, Ordering::Relaxed);
        }
    }
}
