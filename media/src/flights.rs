//! One flight per piece of work: concurrent requests for the same thing wait for the first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::error::MediaError;

type Flight = tokio::sync::Mutex<Option<MediaError>>;

/// The work in flight, by key.
#[derive(Debug)]
pub(crate) struct Flights<K>(Mutex<HashMap<K, Weak<Flight>>>);

impl<K: Hash + Eq + Clone> Flights<K> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn join(&self, key: &K) -> Arc<Flight> {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(key).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(Flight::default());
        flights.insert(key.clone(), Arc::downgrade(&flight));
        flight
    }

    /// Gives what `find` finds; failing that, one caller at a time runs `make`. Whoever waited meanwhile looks
    /// again, and shares the failure if there was one. Cancel-safe if `make` is: the next in line takes over.
    pub(crate) async fn find_or_make<T>(
        &self,
        key: K,
        find: impl Fn() -> Result<Option<T>, MediaError>,
        make: impl Future<Output = Result<T, MediaError>>,
    ) -> Result<T, MediaError> {
        if let Some(found) = find()? {
            return Ok(found);
        }
        let flight = self.join(&key);
        let made = {
            let mut failure = flight.lock().await;
            match (&*failure, find()?) {
                (_, Some(found)) => Ok(found),
                (Some(error), None) => Err(error.clone()),
                (None, None) => make.await.inspect_err(|error| *failure = Some(error.clone())),
            }
        };
        drop(flight);
        // The last one out removes the entry, so that the next request tries afresh.
        self.0.lock().retain(|_, flight| flight.strong_count() > 0);
        made
    }
}
