//! The follower: looks at what was committed and queues what notifies somebody.
//!
//! The commit observer only writes down which rooms and users changed and up to which position; the work is done in a
//! task. What was looked at is on the disk as a cursor, moved together with the rows that came of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{
    Event, Membership, RoomNid, RoomSeq, TOPIC_EPHEMERAL, TOPIC_MEMBERSHIP, TOPIC_PUSHERS, TOPIC_ROOM, TOPIC_USER,
    UserNid,
};
use runtime::CancellationToken;
use storage::{Batch, Committed, Read, StreamPos};
use tokio::sync::Notify;
use users::{Notice, NoticeRoom};

use crate::Push;
use crate::audience::{Audience, Listener};
use crate::deliver::span_ms;
use crate::error::PushError;
use crate::notification::is_hidden_invite;
use crate::rows::{self, BadgeRow, FOLLOWER, NewRows, Place, PusherKey, QueuedRow};

const CHUNK: usize = 200;
/// How often the cursor is written although nothing was queued.
const CURSOR_EVERY: Duration = Duration::from_secs(5);
/// How long the follower waits after the store failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Of how many rooms it is remembered up to where they were looked at; the others are found by reading.
const MAX_REMEMBERED: usize = 10_000;
/// After how many readers of an event other tasks get their turn.
const READERS_AT_ONCE: usize = 64;
/// How long receipts gather before a badge follows them, in milliseconds.
const GATHER_MS: u64 = 1_000;

/// What was committed and not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    arrived: Mutex<Arrived>,
    news: Notify,
}

#[derive(Clone, Debug, Default)]
struct Arrived {
    rooms: BTreeSet<RoomNid>,
    /// Users whose pushers changed.
    pushers: BTreeSet<UserNid>,
    /// Users whose memberships changed.
    members: BTreeSet<UserNid>,
    /// Users whose receipts changed.
    readers: BTreeSet<UserNid>,
    /// The users are everybody with pushers, after a start: their badges are as they were.
    is_start: bool,
    /// All of the above is from batches up to here, and all of theirs is above.
    upto: StreamPos,
}

impl Arrivals {
    /// Called with each group of commits.
    pub fn observe(&self, group: &[Committed]) {
        let mut arrived = self.arrived.lock();
        let mut is_news = false;
        for committed in group {
            arrived.upto = arrived.upto.max(committed.pos);
            let has_receipt = committed.topics.iter().any(|topic| topic.kind() == TOPIC_EPHEMERAL);
            for topic in &committed.topics {
                is_news |= match topic.kind() {
                    TOPIC_ROOM => arrived.rooms.insert(RoomNid(topic.id())),
                    TOPIC_PUSHERS => arrived.pushers.insert(UserNid(topic.id())),
                    TOPIC_MEMBERSHIP => arrived.members.insert(UserNid(topic.id())),
                    TOPIC_USER if has_receipt => arrived.readers.insert(UserNid(topic.id())),
                    _ => false,
                };
            }
        }
        drop(arrived);
        if is_news {
            self.news.notify_one();
        }
    }

    fn take(&self) -> Arrived {
        let mut arrived = self.arrived.lock();
        let upto = arrived.upto;
        std::mem::replace(&mut *arrived, Arrived { upto, ..Arrived::default() })
    }

    /// Whether everything that came was taken.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let arrived = self.arrived.lock();
        arrived.rooms.is_empty() && arrived.pushers.is_empty() && arrived.members.is_empty()
    }

    /// Puts back what could not be worked on.
    fn put_back(&self, taken: Arrived) {
        let mut arrived = self.arrived.lock();
        arrived.rooms.extend(taken.rooms);
        arrived.pushers.extend(taken.pushers);
        arrived.members.extend(taken.members);
        arrived.readers.extend(taken.readers);
        arrived.is_start |= taken.is_start;
    }
}

/// What the follower remembers between two rounds.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// Everything up to here was looked at.
    done: StreamPos,
    /// Whether something was looked at since the cursor was written.
    is_ahead: bool,
    audience: Audience,
    rooms: HashMap<RoomNid, RoomSeq>,
}

/// What one round found.
#[derive(Default)]
struct Found {
    /// By pusher, in the order of sending.
    queued: BTreeMap<PusherKey, BTreeMap<Place, QueuedRow>>,
    /// Pushers whose badge may have to change.
    badges: BTreeSet<PusherKey>,
    /// Pushers that are no more.
    gone: Vec<PusherKey>,
    /// Up to where rooms were looked at.
    seen: Vec<(RoomNid, RoomSeq)>,
}

impl Push {
    /// Follows until shutdown. Everything after the cursor is looked at first.
    pub(crate) async fn follow(self, mut follower: Follower, shutdown: CancellationToken) {
        loop {
            let taken = self.arrivals.take();
            if let Err(error) = self.look_at(&taken, &mut follower).await {
                tracing::error!(%error, "what was committed cannot be looked at for push; it is tried again");
                self.arrivals.put_back(taken);
                if shutdown.run_until_cancelled(self.clock.sleep(RETRY_AFTER)).await.is_none() {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = self.arrivals.news.notified() => {}
                () = self.clock.sleep(CURSOR_EVERY), if follower.is_ahead => self.write_cursor(&mut follower).await,
                () = shutdown.cancelled() => {
                    self.write_cursor(&mut follower).await;
                    return;
                }
            }
        }
    }

    /// Where the follower goes on after a restart, with what it missed; or `begin`, where it follows for the first time.
    pub(crate) fn resume_following(&self, begin: StreamPos) -> Result<Follower, PushError> {
        let visible = self.store.visible();
        let mut follower = Follower::default();
        for user in self.users.users_with_pushers()? {
            follower.audience.set(user, self.read_listener(user)?);
        }
        let cursor = self.store.get(&FOLLOWER, &())?.filter(|_| !follower.audience.is_empty());
        follower.done = cursor.unwrap_or(begin);
        let mut changed = self.rooms.rooms_changed_after(follower.done)?;
        changed.retain(|room| !follower.audience.members(*room).is_empty());
        let mut arrived = self.arrivals.arrived.lock();
        arrived.rooms.extend(changed);
        arrived.members.extend(follower.audience.users());
        arrived.is_start = true;
        arrived.upto = arrived.upto.max(visible);
        self.arrivals.news.notify_one();
        Ok(follower)
    }

    /// Forgets where the follower was, so that what comes until push is switched on again notifies nobody.
    pub(crate) async fn forget_cursor(&self) -> Result<(), PushError> {
        if self.store.contains(&FOLLOWER, &())? {
            let mut batch = Batch::new();
            batch.delete(&FOLLOWER, &());
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    async fn write_cursor(&self, follower: &mut Follower) {
        if !follower.is_ahead {
            return;
        }
        match NewRows::default().commit(&self.store, Some(follower.done)).await {
            Ok(()) => follower.is_ahead = false,
            // It is only the work of looking again that is lost.
            Err(error) => tracing::debug!(%error, "the cursor of push was not written"),
        }
    }

    fn read_listener(&self, user: UserNid) -> Result<Listener, PushError> {
        let pushers = self.users.pushers(user)?.into_iter().map(|kept| kept.pusher);
        let pushers = pushers.filter(|pusher| pusher.kind == "http" && pusher.is_enabled());
        let pushers = pushers.map(|pusher| PusherKey { user, app_id: pusher.app_id, pushkey: pusher.pushkey });
        Ok(Listener { pushers: pushers.collect(), rooms: self.rooms.joined_rooms(user)? })
    }

    /// Looks at what has arrived, and queues what notifies.
    async fn look_at(&self, taken: &Arrived, follower: &mut Follower) -> Result<(), PushError> {
        if taken.upto <= follower.done && taken.members.is_empty() {
            return Ok(());
        }
        let mut found = Found::default();
        let is_new = self.look_at_users(taken, follower, &mut found)?;
        for room in &taken.rooms {
            if follower.audience.members(*room).is_empty() {
                continue;
            }
            if let Err(error) = self.look_at_room(*room, taken.upto, follower, &mut found).await {
                tracing::error!(room = room.0, %error, "a room cannot be read for push");
            }
        }
        let rows = self.plan_rows(&mut found)?;
        follower.is_ahead |= !follower.audience.is_empty();
        // For new pushers nothing before them is news, should this server end now.
        if is_new || !rows.is_empty() {
            rows.commit(&self.store, Some(taken.upto)).await?;
            follower.is_ahead = false;
        }
        follower.done = taken.upto;
        if follower.rooms.len() > MAX_REMEMBERED {
            follower.rooms.clear();
        }
        follower.rooms.extend(found.seen.iter().copied());
        self.make_pending(found);
        Ok(())
    }

    /// Brings the audience up to date, and looks for invitations and badges. Whether somebody has a new pusher.
    fn look_at_users(&self, taken: &Arrived, follower: &mut Follower, found: &mut Found) -> Result<bool, PushError> {
        let mut is_new = false;
        for user in taken.pushers.union(&taken.members) {
            if !taken.pushers.contains(user) && follower.audience.pushers(*user).is_empty() {
                continue;
            }
            let old = follower.audience.set(*user, self.read_listener(*user)?);
            let now = follower.audience.pushers(*user);
            is_new |= now.iter().any(|pusher| !old.pushers.contains(pusher));
            found.gone.extend(old.pushers.into_iter().filter(|pusher| !now.contains(pusher)));
            if taken.members.contains(user) {
                self.look_at_invites(*user, taken.upto, follower, found)?;
                // Counting all of them again would keep a large server busy for minutes.
                if !taken.is_start {
                    found.badges.extend(now.iter().cloned());
                }
            }
        }
        for user in &taken.readers {
            found.badges.extend(follower.audience.pushers(*user).iter().cloned());
        }
        Ok(is_new)
    }

    /// Invitations are found by their user: one to a room of other servers is in no timeline.
    fn look_at_invites(
        &self,
        user: UserNid,
        upto: StreamPos,
        follower: &Follower,
        found: &mut Found,
    ) -> Result<(), PushError> {
        for (room, row) in self.rooms.user_rooms(user)?.iter() {
            let is_news = row.pos > follower.done && row.pos <= upto;
            if row.membership != Membership::Invite || row.forgotten || !is_news {
                continue;
            }
            let event = self.rooms.event_at(*room, row.seq)?;
            if is_hidden_invite(&self.users, user, &event)? {
                continue;
            }
            let notices = self.users.notice_room(*room)?;
            if let Some(prepared) = notices.event(&event).filter(|_| !self.is_too_old(&event))
                && let Some(notice) = self.users.notice(&prepared, user)?
            {
                self.note(follower, user, &event, &notice, found)?;
            }
        }
        Ok(())
    }

    async fn look_at_room(
        &self,
        room: RoomNid,
        upto: StreamPos,
        follower: &Follower,
        found: &mut Found,
    ) -> Result<(), PushError> {
        let mut after = match follower.rooms.get(&room) {
            Some(seen) => *seen,
            None => self.last_seen(room, follower.done)?,
        };
        let notices = self.users.notice_room(room)?;
        loop {
            let events = self.rooms.events_after(room, after, CHUNK)?;
            let is_last = events.len() < CHUNK;
            for event in events {
                if event.pos() > upto {
                    found.seen.push((room, after));
                    return Ok(());
                }
                after = event.seq();
                if event.pos() > follower.done && event.flags().is_visible() && !self.is_too_old(&event) {
                    self.look_at_event(&event, &notices, follower, found).await?;
                }
            }
            if is_last {
                found.seen.push((room, after));
                return Ok(());
            }
        }
    }

    /// An event at or before the last one of the room that was looked at when everything up to `done` was.
    fn last_seen(&self, room: RoomNid, done: StreamPos) -> Result<RoomSeq, PushError> {
        let last = self.rooms.head(room)?.last_seq();
        let mut back = 16i64;
        loop {
            let after = RoomSeq(last.0.saturating_sub(back).max(0));
            let first = self.rooms.events_after(room, after, 1)?;
            if after.0 == 0 || first.first().is_none_or(|event| event.pos() <= done) {
                return Ok(after);
            }
            back = back.saturating_mul(4);
        }
    }

    async fn look_at_event(
        &self,
        event: &Event,
        notices: &NoticeRoom,
        follower: &Follower,
        found: &mut Found,
    ) -> Result<(), PushError> {
        for readers in follower.audience.members(event.room()).chunks(READERS_AT_ONCE) {
            let Some(prepared) = notices.event(event) else { return Ok(()) };
            for user in readers {
                if let Some(notice) = self.users.notice(&prepared, *user)?
                    && self.users.reached(event, *user)?
                {
                    self.note(follower, *user, event, &notice, found)?;
                }
            }
            drop(prepared);
            if readers.len() == READERS_AT_ONCE {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// What comes with the history of a room, or after a long outage, is no news.
    fn is_too_old(&self, event: &Event) -> bool {
        let oldest = self.clock.now_ms().saturating_sub(span_ms(self.config.retry_for));
        u64::try_from(event.origin_server_ts()).unwrap_or(0) < oldest
    }

    fn note(
        &self,
        follower: &Follower,
        user: UserNid,
        event: &Event,
        notice: &Notice,
        found: &mut Found,
    ) -> Result<(), PushError> {
        let actions = serde_json::to_string(&notice.actions);
        let actions = actions.map_err(|_| PushError::Inconsistent("actions do not serialise"))?;
        let row = QueuedRow { room: event.room(), at_ms: self.clock.now_ms(), actions };
        let place = (event.pos(), event.seq());
        for pusher in follower.audience.pushers(user) {
            found.queued.entry(pusher.clone()).or_default().insert(place, row.clone());
        }
        Ok(())
    }

    /// The rows that what was found needs. What is too much for a pusher is taken out.
    fn plan_rows(&self, found: &mut Found) -> Result<NewRows, PushError> {
        let mut rows = NewRows::default();
        let limit = self.config.max_queued.max(1);
        for (pusher, queued) in &mut found.queued {
            while queued.len() > limit {
                queued.pop_first();
                self.metrics.given_up.add(1);
            }
            for place in self.table.lock().overflow(pusher, queued.len(), limit) {
                rows.unqueue(pusher, place);
            }
            for (place, row) in queued {
                rows.queue(pusher, *place, row);
            }
        }
        let mut due = BTreeSet::new();
        for pusher in std::mem::take(&mut found.badges) {
            let badge = rows::read_badge(&self.store, &pusher)?;
            // Who was told no count has none to correct; and each notification brings it anyway.
            if badge.shown > 0 && !found.queued.contains_key(&pusher) {
                rows.set_badge(&pusher, BadgeRow { is_due: true, ..badge });
                due.insert(pusher);
            }
        }
        found.badges = due;
        Ok(rows)
    }

    /// Notes what now has rows, and puts its pushers in line.
    fn make_pending(&self, found: Found) {
        let limit = self.config.max_queued.max(1);
        let now_ms = self.clock.now_ms();
        let mut table = self.table.lock();
        for (pusher, queued) in found.queued {
            for place in table.overflow(&pusher, queued.len(), limit) {
                table.remove(&pusher, place);
                self.metrics.given_up.add(1);
            }
            for place in queued.into_keys() {
                self.metrics.queued.add(1);
                table.add(&pusher, place);
            }
        }
        for pusher in found.badges {
            table.add_badge(&pusher, now_ms.saturating_add(GATHER_MS));
        }
        // Their turn finds out that there is nobody to send to.
        for pusher in found.gone {
            table.add_badge(&pusher, now_ms);
        }
        drop(table);
        self.wake.notify_one();
    }
}
