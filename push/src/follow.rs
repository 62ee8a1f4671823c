//! The follower: looks at what was committed and queues what notifies somebody.
//!
//! What was looked at is on the disk as a cursor, moved together with the rows that came of it. While the store fails
//! the cursor stays; a room or user of which something else cannot be read is left out, so that all others go on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use rooms::{Event, Membership, RoomNid, RoomSeq, UserNid, UserRoom};
use runtime::CancellationToken;
use storage::{Batch, Read, StreamPos};
use users::{Notice, NoticeEvent, NoticeRoom};

use crate::Push;
use crate::arrivals::Arrived;
use crate::audience::{Audience, Listener};
use crate::deliver::span_ms;
use crate::error::{PushError, leave_out};
use crate::notification::is_hidden_invite;
use crate::rows::{self, BadgeRow, FOLLOWER, NewRows, Place, PusherKey, QueuedRow};

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

/// What the follower remembers between two rounds.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// Everything up to here was looked at.
    done: StreamPos,
    /// Whether something was looked at since the cursor was written.
    is_ahead: bool,
    audience: Audience,
    rooms: HashMap<RoomNid, RoomSeq>,
    /// Whether somebody has a new pusher and no cursor was written since.
    is_new: bool,
    /// Pushers that are no more, and of which nobody was told yet.
    gone: Vec<PusherKey>,
}

/// What one round found.
#[derive(Default)]
struct Found {
    /// By pusher, in the order of sending.
    queued: BTreeMap<PusherKey, BTreeMap<Place, QueuedRow>>,
    /// Pushers whose badge may have to change.
    badges: BTreeSet<PusherKey>,
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
                () = self.arrivals.wait() => {}
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
            match self.read_listener(user) {
                Ok(listener) => drop(follower.audience.set(user, listener)),
                Err(error) => leave_out("user", user.0, error)?,
            }
        }
        let cursor = self.store.get(&FOLLOWER, &())?.filter(|_| !follower.audience.is_empty());
        follower.done = cursor.unwrap_or(begin);
        let mut changed = self.rooms.rooms_changed_after(follower.done)?;
        changed.retain(|room| !follower.audience.members(*room).is_empty());
        self.arrivals.begin(changed, follower.audience.users(), visible);
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
        self.look_at_users(taken, follower, &mut found)?;
        for room in &taken.rooms {
            if follower.audience.members(*room).is_empty() {
                continue;
            }
            if let Err(error) = self.look_at_room(*room, taken.upto, follower, &mut found).await {
                leave_out("room", room.0, error)?;
            }
        }
        let badges = if found.badges.is_empty() { None } else { Some(self.badges.write().await) };
        let rows = self.plan_rows(&mut found)?;
        follower.is_ahead |= !follower.audience.is_empty();
        // For new pushers nothing before them is news, should this server end now.
        if follower.is_new || !rows.is_empty() {
            rows.commit(&self.store, Some(taken.upto)).await?;
            (follower.is_ahead, follower.is_new) = (false, false);
        }
        follower.done = taken.upto;
        if follower.rooms.len() > MAX_REMEMBERED {
            follower.rooms.clear();
        }
        follower.rooms.extend(found.seen.iter().copied());
        self.make_pending(found, std::mem::take(&mut follower.gone));
        drop(badges);
        Ok(())
    }

    /// Brings the audience up to date, and looks for invitations and badges.
    fn look_at_users(&self, taken: &Arrived, follower: &mut Follower, found: &mut Found) -> Result<(), PushError> {
        for user in taken.pushers.union(&taken.members) {
            if !taken.pushers.contains(user) && follower.audience.pushers(*user).is_empty() {
                continue;
            }
            if let Err(error) = self.look_at_user(*user, taken, follower, found) {
                leave_out("user", user.0, error)?;
            }
        }
        for user in &taken.readers {
            found.badges.extend(follower.audience.pushers(*user).iter().cloned());
        }
        Ok(())
    }

    fn look_at_user(
        &self,
        user: UserNid,
        taken: &Arrived,
        follower: &mut Follower,
        found: &mut Found,
    ) -> Result<(), PushError> {
        let old = follower.audience.set(user, self.read_listener(user)?);
        let now = follower.audience.pushers(user);
        follower.is_new |= now.iter().any(|pusher| !old.pushers.contains(pusher));
        follower.gone.extend(old.pushers.into_iter().filter(|pusher| !now.contains(pusher)));
        if !taken.members.contains(&user) {
            return Ok(());
        }
        // Counting all of them again would keep a large server busy for minutes.
        if !taken.is_start {
            found.badges.extend(now.iter().cloned());
        }
        // Invitations are found by their user: one to a room of other servers is in no timeline.
        for (room, row) in self.rooms.user_rooms(user)?.iter() {
            let is_news = row.pos > follower.done && row.pos <= taken.upto;
            if row.membership == Membership::Invite
                && !row.forgotten
                && is_news
                && let Err(error) = self.look_at_invite(user, *room, row, follower, found)
            {
                leave_out("room", room.0, error)?;
            }
        }
        Ok(())
    }

    fn look_at_invite(
        &self,
        user: UserNid,
        room: RoomNid,
        row: &UserRoom,
        follower: &Follower,
        found: &mut Found,
    ) -> Result<(), PushError> {
        let event = self.rooms.event_at(room, row.seq)?;
        if self.is_too_old(&event) || is_hidden_invite(&self.users, user, &event)? {
            return Ok(());
        }
        let notices = self.users.room_for_notices(room)?;
        if let Some(prepared) = notices.event(&event)
            && let Some(notice) = self.users.notice(&prepared, user)?
        {
            self.note(follower, user, &event, &notice, found)?;
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
        let notices = self.users.room_for_notices(room)?;
        let mut news = self.rooms.new_events(room, follower.rooms.get(&room).copied(), follower.done, upto)?;
        for event in news.by_ref() {
            let event = event?;
            if !self.is_too_old(&event) {
                self.look_at_event(&event, &notices, follower, found).await?;
            }
        }
        found.seen.push((room, news.seen()));
        Ok(())
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
                if let Err(error) = self.look_for(*user, event, &prepared, follower, found) {
                    leave_out("user", user.0, error)?;
                }
            }
            drop(prepared);
            if readers.len() == READERS_AT_ONCE {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn look_for(
        &self,
        user: UserNid,
        event: &Event,
        prepared: &NoticeEvent<'_>,
        follower: &Follower,
        found: &mut Found,
    ) -> Result<(), PushError> {
        match self.users.notice(prepared, user)? {
            Some(notice) if self.users.reached(event, user)? => self.note(follower, user, event, &notice, found),
            _ => Ok(()),
        }
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
            let badge = match rows::read_badge(&self.store, &pusher) {
                Ok(badge) => badge,
                Err(error) => {
                    leave_out("user", pusher.user.0, error.into())?;
                    continue;
                }
            };
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
    fn make_pending(&self, found: Found, gone: Vec<PusherKey>) {
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
        for pusher in gone {
            table.add_badge(&pusher, now_ms);
        }
        drop(table);
        self.wake.notify_one();
    }
}
