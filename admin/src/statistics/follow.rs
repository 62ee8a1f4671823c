//! Counting what is committed.
//!
//! The commit observer only notes which rooms and users changed. A task gathers that for a moment, looks at the events,
//! and writes what it counted together with how far it has come: in one batch, so that nothing counts twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{RoomNid, RoomSeq, Rooms, TOPIC_ACCOUNTS, TOPIC_ROOM, UserNid};
use runtime::{CancellationToken, Clock, Tasks};
use storage::{Batch, Committed, Read, Store, StreamPos};
use tokio::sync::Notify;
use users::Users;

use super::rows::{ACTIVE, CURSOR, MESSAGES, OTHER_TYPE, THE_CURSOR};
use super::{Day, day_of};
use crate::error::AdminError;

/// How long changes are gathered before they are counted.
const GATHER: Duration = Duration::from_secs(5);
/// How long it waits after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// How many events of a room are read at a time.
const CHUNK: usize = 256;
/// How many types of events are told apart on one day.
const MAX_TYPES: usize = 64;
/// A longer type is counted among the others.
const MAX_TYPE_BYTES: usize = 64;
/// How often old days are put together.
const TIDY_INTERVAL: Duration = Duration::from_secs(3600);

/// Statistics of a server. A cheap handle.
#[derive(Clone)]
pub struct Statistics(Arc<Inner>);

pub struct Inner {
    pub(super) store: Store,
    pub(super) rooms: Rooms,
    users: Users,
    pub(super) clock: Clock,
    arrivals: Mutex<Arrivals>,
    news: Notify,
    /// Held while counts are written.
    writing: tokio::sync::Mutex<Types>,
}

impl std::ops::Deref for Statistics {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

#[derive(Default)]
struct Arrivals {
    rooms: BTreeSet<RoomNid>,
    seen: BTreeSet<UserNid>,
    upto: StreamPos,
}

/// The types of events that were counted on a day by their own names.
#[derive(Default)]
struct Types {
    day: Day,
    known: BTreeSet<Box<str>>,
}

/// What is to be added: (room, type, whether local) → events, and who was active.
#[derive(Default)]
struct Counts {
    messages: BTreeMap<(RoomNid, String, bool), i64>,
    active: BTreeSet<UserNid>,
}

impl Statistics {
    /// Nothing is counted before [`Statistics::start`].
    #[must_use]
    pub fn new(store: Store, rooms: Rooms, users: Users, clock: Clock) -> Statistics {
        Statistics(Arc::new(Inner {
            store,
            rooms,
            users,
            clock,
            arrivals: Mutex::default(),
            news: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        }))
    }

    /// Counts from where the last run left off until shutdown. To be called once. What is committed from now on is not
    /// missed.
    pub fn start(&self, tasks: &Tasks) {
        // The store would never be closed if its observer held it.
        let observer = Arc::downgrade(&self.0);
        self.store.on_visible(Arc::new(move |group| {
            if let Some(inner) = observer.upgrade() {
                Statistics(inner).observe(group);
            }
        }));
        let (statistics, shutdown) = (self.clone(), tasks.shutdown_token());
        tasks.spawn("statistics", async move { statistics.run(shutdown).await });
        let (statistics, shutdown) = (self.clone(), tasks.shutdown_token());
        tasks.spawn("statistics of old days", async move {
            shutdown.run_until_cancelled(statistics.tidy_forever()).await;
        });
    }

    async fn tidy_forever(&self) {
        loop {
            self.clock.sleep(TIDY_INTERVAL).await;
            if let Err(error) = self.tidy().await {
                tracing::error!(%error, "old statistics were not put together");
            }
        }
    }

    fn observe(&self, group: &[Committed]) {
        let mut arrivals = self.arrivals.lock();
        let before = arrivals.rooms.len() + arrivals.seen.len();
        for committed in group {
            arrivals.upto = arrivals.upto.max(committed.pos);
            for topic in &committed.topics {
                match topic.kind() {
                    TOPIC_ROOM => drop(arrivals.rooms.insert(RoomNid(topic.id()))),
                    TOPIC_ACCOUNTS => drop(arrivals.seen.insert(UserNid(topic.id()))),
                    _ => {}
                }
            }
        }
        let is_news = arrivals.rooms.len() + arrivals.seen.len() > before;
        drop(arrivals);
        if is_news {
            self.news.notify_one();
        }
    }

    async fn run(self, shutdown: CancellationToken) {
        while let Err(error) = self.catch_up().await {
            tracing::error!(%error, "statistics do not know where they were; it is tried again");
            if shutdown.run_until_cancelled(self.clock.sleep(RETRY_AFTER)).await.is_none() {
                return;
            }
        }
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                () = shutdown.cancelled() => return,
            }
            let pause = match self.count_arrived().await {
                Ok(()) => GATHER,
                Err(error) => {
                    tracing::error!(%error, "statistics fall behind; it is tried again");
                    self.news.notify_one();
                    RETRY_AFTER
                }
            };
            if shutdown.run_until_cancelled(self.clock.sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Notes what changed while nobody counted. The first time, counting begins now.
    pub(super) async fn catch_up(&self) -> Result<(), AdminError> {
        let visible = self.store.visible();
        let Some(cursor) = self.store.get(&CURSOR, &THE_CURSOR)? else {
            let mut batch = Batch::new();
            batch.put(&CURSOR, &THE_CURSOR, &visible);
            self.store.commit(batch).await?;
            return Ok(());
        };
        let rooms = self.rooms.rooms_changed_after(cursor)?;
        let mut arrivals = self.arrivals.lock();
        arrivals.rooms.extend(rooms);
        arrivals.upto = arrivals.upto.max(visible);
        drop(arrivals);
        self.news.notify_one();
        Ok(())
    }

    /// Counts what has arrived. On an error it stays to be counted.
    pub(super) async fn count_arrived(&self) -> Result<(), AdminError> {
        let mut types = self.writing.lock().await;
        let (rooms, seen, upto) = {
            let mut arrivals = self.arrivals.lock();
            (std::mem::take(&mut arrivals.rooms), std::mem::take(&mut arrivals.seen), arrivals.upto)
        };
        let counted = self.write_counts(&mut types, &rooms, &seen, upto).await;
        if counted.is_err() {
            let mut arrivals = self.arrivals.lock();
            arrivals.rooms.extend(rooms);
            arrivals.seen.extend(seen);
        }
        counted
    }

    async fn write_counts(
        &self,
        types: &mut Types,
        rooms: &BTreeSet<RoomNid>,
        seen: &BTreeSet<UserNid>,
        upto: StreamPos,
    ) -> Result<(), AdminError> {
        let after = self.store.get(&CURSOR, &THE_CURSOR)?.unwrap_or(upto);
        let day = day_of(self.clock.now_ms());
        let mut counts = Counts::default();
        for user in seen {
            if self.was_seen(*user, day)? {
                counts.active.insert(*user);
            }
        }
        for room in rooms {
            self.count_room(*room, after, upto, &mut counts)?;
        }
        let mut batch = Batch::new();
        let mut named = HashMap::new();
        for ((room, kind, is_local), count) in counts.messages {
            let name = named.entry(kind).or_insert_with_key(|kind| types.name(day, kind)).clone();
            batch.add(&MESSAGES, &(day, room, name, is_local), count);
        }
        for user in counts.active {
            batch.put(&ACTIVE, &(day, user), &());
        }
        if upto > after {
            batch.put(&CURSOR, &THE_CURSOR, &upto);
        }
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Counts the events of a room that came after one position and up to another.
    fn count_room(
        &self,
        room: RoomNid,
        after: StreamPos,
        upto: StreamPos,
        counts: &mut Counts,
    ) -> Result<(), AdminError> {
        if self.rooms.is_deleting(room)? {
            return Ok(());
        }
        let mut until = self.rooms.head(room)?.last_seq().next();
        loop {
            let events = self.rooms.events_back(room, RoomSeq::FIRST, until, CHUNK)?;
            let is_last = events.len() < CHUNK;
            for event in events {
                if event.pos() <= after {
                    return Ok(());
                }
                until = event.seq();
                if event.pos() > upto || !event.flags().is_visible() {
                    continue;
                }
                let is_local = self.is_local(event.sender());
                if is_local {
                    counts.active.insert(event.sender_nid());
                }
                *counts.messages.entry((room, event.kind().to_owned(), is_local)).or_default() += 1;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Whether a user's account was used on this day; it may also be that something about it has changed.
    fn was_seen(&self, user: UserNid, day: Day) -> Result<bool, AdminError> {
        let seen = self.users.devices(user)?.into_iter().filter_map(|device| device.last_seen_ms);
        Ok(seen.max().is_some_and(|seen| day_of(seen) >= day))
    }

    fn is_local(&self, sender: &str) -> bool {
        sender.split_once(':').is_some_and(|(_, server)| server == self.rooms.server_name().as_str())
    }
}

impl Types {
    /// The name under which a type is counted: rows must stay few, whatever types users think of.
    fn name(&mut self, day: Day, kind: &str) -> String {
        if self.day != day {
            *self = Types { day, known: BTreeSet::new() };
        }
        if self.known.contains(kind) {
            return kind.to_owned();
        }
        if kind.len() > MAX_TYPE_BYTES || self.known.len() >= MAX_TYPES {
            return OTHER_TYPE.to_owned();
        }
        self.known.insert(kind.into());
        kind.to_owned()
    }
}
