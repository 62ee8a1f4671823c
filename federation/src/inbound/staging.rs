//! Events that are written down and not yet judged, and the work on them, one room at a time.
//!
//! A staged event is a row until it is dealt with; the queues in memory only say what is to be looked at next, and
//! hold a part of the events so that those that come and go quickly are not read again. A room's queue exists exactly
//! as long as the task that works on it. After a crash the rows are worked on again: what was judged before is found
//! to be known.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rooms::RoomNid;
use serde_json::{Map, Value};
use spec::ids::{EventId, ServerName};
use spec::pdu::ReceivedPdu;
use spec::version::RoomVersionRules;
use storage::{Batch, Corrupt, Keyspace, Profile, Read, StorageError, StreamPos, ValueBuf};
use tokio::sync::Semaphore;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::order::Incoming;

/// How many staged events of one server wait in one room before the server is told to come back.
pub(super) const MAX_PER_ROOM: usize = 1000;
/// How many staged events of one server wait in all rooms.
pub(super) const MAX_PER_SERVER: usize = 5000;
/// How many staged events of a room are worked on together.
pub(super) const GROUP: usize = 100;
/// How many bytes of staged events are worked on together.
const GROUP_BYTES: usize = 2 * 1024 * 1024;
/// How many bytes of staged events are held in memory; what comes beyond is read again from the disk.
const MEMORY_BYTES: usize = 32 * 1024 * 1024;
/// For how many rounds events wait for what may be staged behind them, before it is fetched.
const MAX_HELD_ROUNDS: u32 = 4;
/// How many rooms are computed on at a time; waiting for other servers is not computing.
const COMPUTING: usize = 8;
/// How long a room rests after nothing could be stored.
const RETRY_WAIT: Duration = Duration::from_secs(30);
/// When a server with too much here is told to come back, in milliseconds.
const RETRY_AFTER_MS: u64 = 5000;

/// Where a staged event is: its room, the commit that brought it, its place in that.
pub(super) type StagedKey = (RoomNid, StreamPos, u32);

/// Staged events in the order in which they came.
pub(super) const STAGED: Keyspace<StagedKey, StagedRow> = Keyspace::new("federation_staged", Profile::Log);

/// A staged event: who delivered it, and its JSON without `unsigned`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StagedRow {
    origin: ServerName,
    json: Arc<[u8]>,
}

impl storage::Value for StagedRow {
    fn encode(&self, out: &mut ValueBuf) {
        let origin = self.origin.as_str().as_bytes();
        // A server name has at most 255 bytes; a longer one could not be read back, so it is refused.
        let Ok(length) = u8::try_from(origin.len()) else { return out.fail() };
        out.push(&[1, length]);
        out.push(origin);
        out.push(&self.json);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let malformed = Corrupt("staged event does not decode");
        let (1, rest) = bytes.split_first().ok_or(malformed).map(|(version, rest)| (*version, rest))? else {
            return Err(malformed);
        };
        let (length, rest) = rest.split_first().ok_or(malformed)?;
        let (origin, json) = rest.split_at_checked(usize::from(*length)).ok_or(malformed)?;
        let origin = std::str::from_utf8(origin).ok().and_then(|origin| ServerName::parse(origin).ok());
        Ok(StagedRow { origin: origin.ok_or(malformed)?, json: json.into() })
    }
}

/// A staged event that is to be worked on.
#[derive(Debug)]
pub(super) struct Staged {
    /// Its row.
    pub key: StagedKey,
    /// Who delivered it.
    pub origin: ServerName,
    /// The event; `None` if the row does not hold one by the room's rules (a damaged row).
    pub pdu: Option<ReceivedPdu>,
    bytes: usize,
}

/// The queues of all rooms with staged events.
#[derive(Debug)]
pub(crate) struct Staging {
    queues: Mutex<Queues>,
    /// Who may compute.
    pub(super) computing: Semaphore,
}

#[derive(Debug, Default)]
struct Queues {
    rooms: HashMap<RoomNid, RoomQueue>,
    per_server: HashMap<ServerName, usize>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct RoomQueue {
    /// The oldest staged events, unless `on_disk` says that older ones are on the disk only.
    memory: VecDeque<Staged>,
    /// How many pushes left their events on the disk only since the disk was last read to its end.
    on_disk: u64,
    per_server: HashMap<ServerName, usize>,
    has_worker: bool,
}

/// What a room's worker does next.
enum Next {
    Work(Vec<Staged>),
    /// Read the disk; the number is to be given back when its end was reached.
    ReadDisk(u64),
    Nothing,
}

impl Staging {
    /// Empty queues.
    pub fn new() -> Staging {
        Staging { queues: Mutex::default(), computing: Semaphore::new(COMPUTING) }
    }

    /// How many staged events wait.
    pub fn waiting(&self) -> usize {
        self.queues.lock().per_server.values().sum()
    }

    /// Counts events that are about to be written down.
    fn reserve(&self, server: &ServerName, per_room: &BTreeMap<RoomNid, usize>) -> Result<(), ServeError> {
        let mut queues = self.queues.lock();
        let queues = &mut *queues;
        let total: usize = per_room.values().sum();
        let waiting = queues.per_server.get(server).copied().unwrap_or_default();
        let is_room_full = per_room.iter().any(|(room, new)| {
            let waiting = queues.rooms.get(room).and_then(|room| room.per_server.get(server)).copied();
            waiting.unwrap_or_default().saturating_add(*new) > MAX_PER_ROOM
        });
        if is_room_full || waiting.saturating_add(total) > MAX_PER_SERVER {
            return Err(ServeError::limit_exceeded(RETRY_AFTER_MS));
        }
        *queues.per_server.entry(server.clone()).or_default() += total;
        for (room, new) in per_room {
            *queues.rooms.entry(*room).or_default().per_server.entry(server.clone()).or_default() += new;
        }
        Ok(())
    }

    /// Uncounts events: they are dealt with, or could not be written down.
    fn release<'a>(&self, room: RoomNid, servers: impl IntoIterator<Item = &'a ServerName>) {
        let mut queues = self.queues.lock();
        let queues = &mut *queues;
        let mut in_room = queues.rooms.get_mut(&room);
        for server in servers {
            decrement(&mut queues.per_server, server);
            if let Some(room) = &mut in_room {
                decrement(&mut room.per_server, server);
            }
        }
        queues.remove_if_idle(room);
    }

    /// Queues what was written down; says whether a worker has to be started.
    fn push(&self, room: RoomNid, events: Vec<Staged>) -> bool {
        let mut queues = self.queues.lock();
        let queues = &mut *queues;
        let queue = queues.rooms.entry(room).or_default();
        for event in events {
            if queue.on_disk == 0 && queues.bytes.saturating_add(event.bytes) <= MEMORY_BYTES {
                queues.bytes += event.bytes;
                queue.memory.push_back(event);
            } else {
                queue.on_disk += 1;
            }
        }
        !std::mem::replace(&mut queue.has_worker, true)
    }

    /// The next events of a room, oldest first. If there are none the queue is gone and the worker ends.
    fn take(&self, room: RoomNid) -> Next {
        let mut queues = self.queues.lock();
        let queues = &mut *queues;
        let Some(queue) = queues.rooms.get_mut(&room) else { return Next::Nothing };
        let mut group = Vec::new();
        let mut bytes = 0_usize;
        while let Some(event) = queue.memory.front() {
            if group.len() >= GROUP || (bytes > 0 && bytes.saturating_add(event.bytes) > GROUP_BYTES) {
                break;
            }
            bytes += event.bytes;
            group.extend(queue.memory.pop_front());
        }
        queues.bytes = queues.bytes.saturating_sub(bytes);
        if !group.is_empty() {
            return Next::Work(group);
        }
        if queue.on_disk > 0 {
            return Next::ReadDisk(queue.on_disk);
        }
        queue.has_worker = false;
        queues.remove_if_idle(room);
        Next::Nothing
    }

    /// Whether more events of the room wait behind those that are worked on.
    pub fn has_more(&self, room: RoomNid) -> bool {
        self.queues.lock().rooms.get(&room).is_some_and(|queue| queue.on_disk > 0 || !queue.memory.is_empty())
    }

    /// Notes that the disk holds nothing more than what was read, unless something was left there meanwhile.
    fn finish_disk(&self, room: RoomNid, seen: u64) {
        if let Some(queue) = self.queues.lock().rooms.get_mut(&room)
            && queue.on_disk == seen
        {
            queue.on_disk = 0;
        }
    }

    /// Notes that events that were taken are not dealt with and are to be read from the disk again.
    fn put_back(&self, room: RoomNid) {
        if let Some(queue) = self.queues.lock().rooms.get_mut(&room) {
            queue.on_disk += 1;
        }
    }
}

/// The one that works on a room's queue. If it ends by a panic, the next event starts another.
struct Worker<'a> {
    staging: &'a Staging,
    room: RoomNid,
    has_ended: bool,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if let Some(queue) = self.staging.queues.lock().rooms.get_mut(&self.room) {
            queue.has_worker = false;
            queue.on_disk += 1;
        }
    }
}

impl Queues {
    fn remove_if_idle(&mut self, room: RoomNid) {
        let idle = |queue: &RoomQueue| {
            !queue.has_worker && queue.memory.is_empty() && queue.on_disk == 0 && queue.per_server.is_empty()
        };
        if self.rooms.get(&room).is_some_and(idle) {
            self.rooms.remove(&room);
        }
    }
}

fn decrement(counts: &mut HashMap<ServerName, usize>, server: &ServerName) {
    if let Some(count) = counts.get_mut(server) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(server);
        }
    }
}

impl Federation {
    /// Writes events down in one commit with the rows of `batch`, and starts the work on them. Not cancel-safe.
    ///
    /// # Errors
    /// 429 if too much of this server waits; storage errors. Nothing is written then.
    pub(super) async fn stage(
        &self,
        origin: &ServerName,
        events: Vec<(RoomNid, ReceivedPdu)>,
        mut batch: Batch,
    ) -> Result<(), ServeError> {
        let mut per_room: BTreeMap<RoomNid, usize> = BTreeMap::new();
        for (room, _) in &events {
            *per_room.entry(*room).or_default() += 1;
        }
        self.inbound.staging.reserve(origin, &per_room)?;
        for (place, (room, pdu)) in (0_u32..).zip(&events) {
            let row = StagedRow { origin: origin.clone(), json: pdu.unverified().json.clone() };
            batch.put(&STAGED, &(*room, StreamPos::PENDING, place), &row);
        }
        let pos = match self.store.commit(batch).await {
            Ok(pos) => pos,
            Err(error) => {
                for (room, count) in per_room {
                    self.inbound.staging.release(room, std::iter::repeat_n(origin, count));
                }
                return Err(error.into());
            }
        };
        self.inbound.counters.staged.add(events.len() as u64);
        let mut by_room: BTreeMap<RoomNid, Vec<Staged>> = BTreeMap::new();
        for (place, (room, pdu)) in (0_u32..).zip(events) {
            let bytes = pdu.unverified().json.len();
            let staged = Staged { key: (room, pos, place), origin: origin.clone(), pdu: Some(pdu), bytes };
            by_room.entry(room).or_default().push(staged);
        }
        for (room, events) in by_room {
            if self.inbound.staging.push(room, events) {
                self.start_worker(room);
            }
        }
        Ok(())
    }

    /// Starts the work on events that were staged before the server started.
    ///
    /// # Errors
    /// Storage errors only.
    pub(crate) fn resume_staged(&self) -> Result<(), StorageError> {
        let mut rooms: BTreeMap<RoomNid, HashMap<ServerName, usize>> = BTreeMap::new();
        for row in self.store.scan(&STAGED, &()).iter() {
            let ((room, ..), row) = row?;
            *rooms.entry(room).or_default().entry(row.origin).or_default() += 1;
        }
        for (room, per_server) in rooms {
            {
                let mut queues = self.inbound.staging.queues.lock();
                let queues = &mut *queues;
                for (server, count) in &per_server {
                    *queues.per_server.entry(server.clone()).or_default() += count;
                }
                queues
                    .rooms
                    .insert(room, RoomQueue { on_disk: 1, per_server, has_worker: true, ..RoomQueue::default() });
            }
            self.start_worker(room);
        }
        Ok(())
    }

    fn start_worker(&self, room: RoomNid) {
        let federation = self.clone();
        self.tasks.spawn("incoming events", async move {
            let mut worker = Worker { staging: &federation.inbound.staging, room, has_ended: false };
            while let Err(error) = federation.work_off(room).await {
                tracing::error!(room = room.0, %error, "staged events are left for a while");
                federation.inbound.staging.put_back(room);
                let rest = tokio::time::sleep(RETRY_WAIT);
                if federation.tasks.shutdown_token().run_until_cancelled(rest).await.is_none() {
                    break;
                }
            }
            worker.has_ended = true;
        });
    }

    async fn work_off(&self, room: RoomNid) -> Result<(), ServeError> {
        let mut held = Held::default();
        while !self.tasks.is_shutting_down() {
            let group = match self.inbound.staging.take(room) {
                Next::Work(group) => group,
                Next::ReadDisk(seen) => self.read_staged(room, seen, &held.rows)?,
                Next::Nothing => return Ok(()),
            };
            if group.is_empty() && held.rows.is_empty() {
                continue;
            }
            let mut rows = std::mem::take(&mut held.rows);
            rows.extend(group.iter().map(Row::of));
            let may_hold = held.rounds < MAX_HELD_ROUNDS;
            let started = self.clock.monotonic();
            let work = self.work_on(room, group, std::mem::take(&mut held.events), may_hold);
            // What is cut off by the shutdown is done again after the next start.
            let worked = self.tasks.shutdown_token().run_until_cancelled(work).await;
            let Some(worked) = worked else { return Ok(()) };
            held.events = worked?;
            let elapsed = self.clock.monotonic().saturating_sub(started);
            tracing::debug!(
                room = room.0,
                events = rows.len(),
                held = held.events.len(),
                ?elapsed,
                "staged events were worked on"
            );
            held.rounds = if held.events.is_empty() { 0 } else { held.rounds + 1 };
            let ids: HashSet<&EventId> = held.events.iter().map(|event| &event.pdu().event_id).collect();
            let is_held = |row: &Row| row.event_id.as_ref().is_some_and(|id| ids.contains(id));
            let (kept, done): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(is_held);
            held.rows = kept;
            self.delete_staged(room, &done).await?;
        }
        Ok(())
    }

    async fn delete_staged(&self, room: RoomNid, rows: &[Row]) -> Result<(), ServeError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for row in rows {
            batch.delete(&STAGED, &row.key);
        }
        self.store.commit(batch).await?;
        self.inbound.staging.release(room, rows.iter().map(|row| &row.origin));
        Ok(())
    }

    /// The oldest staged events of a room, from the disk, but for those that are held already.
    fn read_staged(&self, room: RoomNid, seen: u64, held: &[Row]) -> Result<Vec<Staged>, ServeError> {
        let rules = self.rooms.head(room)?.rules();
        let held: HashSet<StagedKey> = held.iter().map(|row| row.key).collect();
        let most = GROUP.saturating_add(held.len());
        let (mut group, mut rows) = (Vec::new(), 0);
        for row in self.store.scan(&STAGED, &room).iter().take(most) {
            let (key, row) = row?;
            rows += 1;
            if !held.contains(&key) {
                let bytes = row.json.len();
                group.push(Staged { key, origin: row.origin, pdu: read_stored(&row.json, rules), bytes });
            }
        }
        if rows < most {
            self.inbound.staging.finish_disk(room, seen);
        }
        Ok(group)
    }
}

/// Events that cite what may be among those that wait behind them; their rows stay.
#[derive(Debug, Default)]
struct Held {
    events: Vec<Incoming>,
    rows: Vec<Row>,
    /// For how many rounds some have been held.
    rounds: u32,
}

/// The row of a staged event that is worked on.
#[derive(Debug)]
struct Row {
    key: StagedKey,
    origin: ServerName,
    event_id: Option<EventId>,
}

impl Row {
    fn of(event: &Staged) -> Row {
        let event_id = event.pdu.as_ref().map(|pdu| pdu.event_id().clone());
        Row { key: event.key, origin: event.origin.clone(), event_id }
    }
}

fn read_stored(json: &[u8], rules: &RoomVersionRules) -> Option<ReceivedPdu> {
    let object: Map<String, Value> = serde_json::from_slice(json).ok()?;
    ReceivedPdu::check(object, rules).ok()
}

#[cfg(test)]
mod tests;
