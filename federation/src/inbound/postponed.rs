//! Events that were acknowledged and could not be judged, because nobody delivered what they cite. They are tried again
//! some times, ever later: the last message of a conversation is cited by nobody, and would be lost otherwise.
//!
//! A postponed event keeps its row while it is staged again; the row goes when the event is found to be known, or after
//! the last try.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{RoomError, RoomNid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spec::ids::{EventId, ServerName};
use spec::pdu::ReceivedPdu;
use storage::{Batch, Keyspace, Profile, Read, StorageError, stored};

use super::order::Incoming;
use super::work::RoomPlace;
use crate::Federation;
use crate::inbound::error::ServeError;

/// How many postponed events of one server are kept.
pub(super) const MAX_PER_SERVER: usize = 100;
/// How many are kept of all servers.
const MAX_ALL: usize = 2000;
/// When an event is tried again first, in milliseconds; each further wait is four times as long.
pub(super) const FIRST_WAIT_MS: u64 = 30_000;
/// How often an event is tried again: the last time after about three hours.
const MAX_TRIES: u32 = 5;
/// How often it is looked for events that are due.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Room, event id → the event.
pub(super) const POSTPONED: Keyspace<(RoomNid, String), PostponedRow> =
    Keyspace::new("federation_postponed", Profile::Log);

/// A postponed event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PostponedRow {
    origin: String,
    tries: u32,
    due_ms: u64,
    json: String,
}
stored!(PostponedRow, 1);

/// How many rows there are of each server.
#[derive(Debug, Default)]
pub(super) struct Postponed(Mutex<HashMap<String, usize>>);

impl Postponed {
    fn has_place(&self, origin: &str) -> bool {
        let counts = self.0.lock();
        counts.values().sum::<usize>() < MAX_ALL && counts.get(origin).copied().unwrap_or_default() < MAX_PER_SERVER
    }

    fn count(&self, origin: &str) {
        *self.0.lock().entry(origin.to_owned()).or_default() += 1;
    }

    fn uncount(&self, origin: &str) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(origin) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(origin);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Federation {
    /// Keeps events for later for which nobody delivered what they cite; returns how many found no place.
    ///
    /// # Errors
    /// Storage errors only.
    pub(super) async fn postpone(&self, place: &RoomPlace, blocked: &[Incoming]) -> Result<usize, RoomError> {
        let (mut batch, mut refused) = (Batch::new(), 0);
        let due_ms = self.clock.now_ms().saturating_add(FIRST_WAIT_MS);
        let mut counted = Vec::new();
        for event in blocked {
            let (origin, pdu) = (event.origin.as_str(), event.pdu());
            let key = (place.room, pdu.event_id.as_str().to_owned());
            if self.store.contains(&POSTPONED, &key)? {
                continue;
            }
            let json = String::from_utf8(pdu.json.to_vec()).unwrap_or_default();
            if json.is_empty() || !self.inbound.postponed.has_place(origin) {
                refused += 1;
                continue;
            }
            batch.put(&POSTPONED, &key, &PostponedRow { origin: origin.to_owned(), tries: 0, due_ms, json });
            self.inbound.postponed.count(origin);
            counted.push(origin);
        }
        if !batch.is_empty()
            && let Err(error) = self.store.commit(batch).await
        {
            counted.into_iter().for_each(|origin| self.inbound.postponed.uncount(origin));
            return Err(error.into());
        }
        Ok(refused)
    }

    /// Counts what was postponed before the start, and tries it again from now on.
    ///
    /// # Errors
    /// Storage errors only.
    pub(super) fn resume_postponed(&self) -> Result<(), StorageError> {
        for row in self.store.scan(&POSTPONED, &()).iter() {
            self.inbound.postponed.count(&row?.1.origin);
        }
        let federation = self.clone();
        let retry = async move {
            loop {
                federation.clock.sleep(LOOK_EVERY).await;
                if let Err(error) = federation.retry_postponed().await {
                    tracing::error!(%error, "postponed events cannot be tried again");
                }
            }
        };
        let shutdown = self.tasks.shutdown_token();
        self.tasks.spawn("postponed events", async move {
            shutdown.run_until_cancelled(retry).await;
        });
        Ok(())
    }

    /// Stages again what is due, and forgets what is known by now or was tried often enough.
    pub(super) async fn retry_postponed(&self) -> Result<(), ServeError> {
        if self.inbound.postponed.is_empty() {
            return Ok(());
        }
        let now = self.clock.now_ms();
        let mut due: BTreeMap<String, Vec<(RoomNid, EventId, PostponedRow)>> = BTreeMap::new();
        for row in self.store.scan(&POSTPONED, &()).iter() {
            let ((room, id), row) = row?;
            if row.due_ms <= now
                && let Ok(id) = EventId::parse(&id)
            {
                due.entry(row.origin.clone()).or_default().push((room, id, row));
            }
        }
        for (origin, rows) in due {
            self.retry_of(&origin, rows).await?;
        }
        Ok(())
    }

    async fn retry_of(&self, origin: &str, rows: Vec<(RoomNid, EventId, PostponedRow)>) -> Result<(), ServeError> {
        let (mut batch, mut again, mut ended) = (Batch::new(), Vec::new(), 0);
        for (room, id, mut row) in rows {
            let key = (room, id.as_str().to_owned());
            let is_unknown = !self.rooms.unknown_events(room, std::slice::from_ref(&id), false)?.is_empty();
            let object: Option<Map<String, Value>> = serde_json::from_str(&row.json).ok();
            let pdu = object.and_then(|object| ReceivedPdu::check(object, self.rooms.head(room).ok()?.rules()).ok());
            match pdu.filter(|_| is_unknown && row.tries < MAX_TRIES) {
                Some(pdu) => {
                    row.tries += 1;
                    let wait = FIRST_WAIT_MS.saturating_mul(4_u64.saturating_pow(row.tries));
                    row.due_ms = self.clock.now_ms().saturating_add(wait);
                    batch.put(&POSTPONED, &key, &row);
                    again.push((room, pdu));
                }
                None => {
                    if is_unknown {
                        self.inbound.counters.dropped.add(1);
                        tracing::debug!(room = room.0, event_id = %id, origin, "an event was given up");
                    }
                    batch.delete(&POSTPONED, &key);
                    ended += 1;
                }
            }
        }
        match ServerName::parse(origin) {
            // Too much of this server waits: its events stay due.
            Ok(server) => match self.stage(&server, again, batch).await {
                Err(error) if error.status() == http::StatusCode::TOO_MANY_REQUESTS => return Ok(()),
                staged => staged?,
            },
            Err(_) => drop(self.store.commit(batch).await?),
        }
        (0..ended).for_each(|_| self.inbound.postponed.uncount(origin));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
