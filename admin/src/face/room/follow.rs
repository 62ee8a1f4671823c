//! The follower of the admin room: reads what is said, and hands each administrator's words to their line.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rooms::{Event, RoomSeq, TOPIC_ADMINS, TOPIC_ROOM, UserNid};
use runtime::CancellationToken;
use spec::ids::UserId;
use storage::{Batch, Committed, Read};
use tokio::sync::{Notify, mpsc};

use super::AdminRoom;
use super::line::{Incoming, Line};
use super::page::Page;
use super::rows::{ADMIN_ROOM, ADMIN_ROOM_RUNNING, ADMIN_VERSION, AdminRoomRow, RunningRow, VersionRow};
use super::voice::Voice;
use super::words::{Message, MessageContent, PREFIX};
use crate::admin::Action;
use crate::caller::{Actor, Caller, Face};
use crate::entry::Prepared;
use crate::error::AdminError;
use crate::tree::{self, Parsed};

/// How many events are read at a time.
const CHUNK: usize = 100;
/// How long the follower waits after something failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How many messages of one administrator wait at most.
const MAX_WAITING: usize = 50;

/// What a commit may have changed.
#[derive(Debug, Default)]
struct News {
    /// The room's number, once there is one; 0 before.
    room: AtomicU64,
    /// Whether the administrators may be others now.
    admins: AtomicBool,
    arrived: Notify,
}

impl News {
    fn observe(&self, group: &[Committed]) {
        let room = self.room.load(Ordering::Acquire);
        for topic in group.iter().flat_map(|committed| &committed.topics) {
            if topic.kind() == TOPIC_ADMINS {
                self.admins.store(true, Ordering::Release);
                self.arrived.notify_one();
            } else if topic.kind() == TOPIC_ROOM && topic.id() == room {
                self.arrived.notify_one();
            }
        }
    }
}

/// The room while it is followed.
struct Followed {
    voice: Voice,
    seen: RoomSeq,
    /// When an answer is to be removed, in milliseconds.
    removal_at_ms: Option<u64>,
    lines: HashMap<UserNid, mpsc::Sender<Incoming>>,
}

impl AdminRoom {
    /// Follows until shutdown. What fails is tried again.
    pub(super) async fn follow(self) {
        let shutdown = self.admin.tasks().shutdown_token();
        let news = Arc::new(News::default());
        let observed = Arc::downgrade(&news);
        self.admin.store().on_visible(Arc::new(move |group| {
            if let Some(news) = observed.upgrade() {
                news.observe(group);
            }
        }));
        news.admins.store(true, Ordering::Release);
        let mut followed = None;
        loop {
            if let Err(error) = self.look(&news, &mut followed, &shutdown).await {
                tracing::error!(%error, "the admin room cannot be followed; it is tried again");
                news.admins.store(true, Ordering::Release);
                if shutdown.run_until_cancelled(self.admin.clock().sleep(RETRY_AFTER)).await.is_none() {
                    return;
                }
                continue;
            }
            let removal_at_ms = followed.as_ref().and_then(|followed| followed.removal_at_ms);
            tokio::select! {
                () = news.arrived.notified() => {}
                () = self.admin.announcements().news.notified() => {}
                () = self.admin.clock().sleep_until_ms(removal_at_ms.unwrap_or_default()), if removal_at_ms.is_some() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn look(
        &self,
        news: &News,
        followed: &mut Option<Followed>,
        shutdown: &CancellationToken,
    ) -> Result<(), AdminError> {
        let admins_changed = news.admins.swap(false, Ordering::AcqRel);
        if followed.is_none() && admins_changed {
            *followed = self.begin(news).await?;
        }
        let Some(followed) = followed else { return Ok(()) };
        if admins_changed {
            self.reconcile(&followed.voice).await?;
        }
        while let Some(text) = self.admin.announcements().first() {
            followed.voice.say(&Page::text(text), None).await?;
            self.admin.announcements().remove_first();
        }
        self.read_on(followed, shutdown).await?;
        followed.removal_at_ms = self.remove_passed(&followed.voice).await?;
        Ok(())
    }

    /// Enters the room, tells which commands were interrupted, and announces a new version.
    async fn begin(&self, news: &News) -> Result<Option<Followed>, AdminError> {
        let Some(voice) = self.enter().await? else { return Ok(None) };
        news.room.store(voice.room.0, Ordering::Release);
        let store = self.admin.store();
        let row = store.get(&ADMIN_ROOM, &())?.ok_or_else(|| AdminError::not_found("the admin room has no row"))?;
        let interrupted = store.scan(&ADMIN_ROOM_RUNNING, &()).iter().collect::<Result<Vec<_>, _>>()?;
        for (seq, running) in interrupted {
            let text = "The server was stopped before this command was answered. Whether it was carried out is in the \
                        audit log; it is not run again.";
            voice.say(&Page::text(text), Some(&running.event_id)).await?;
            let mut batch = Batch::new();
            batch.delete(&ADMIN_ROOM_RUNNING, &seq);
            store.commit(batch).await?;
        }
        self.announce_version().await?;
        Ok(Some(Followed { voice, seen: row.seen, removal_at_ms: None, lines: HashMap::new() }))
    }

    async fn announce_version(&self) -> Result<(), AdminError> {
        let version = env!("CARGO_PKG_VERSION");
        let before = self.admin.store().get(&ADMIN_VERSION, &())?;
        if before.as_ref().is_some_and(|before| before.version == version) {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(&ADMIN_VERSION, &(), &VersionRow { version: version.to_owned() });
        self.admin.store().commit(batch).await?;
        if let Some(before) = before {
            self.admin
                .announce(format!("The server was started with version {version}; before, it was {}.", before.version));
        }
        Ok(())
    }

    /// Reads what was said since.
    async fn read_on(&self, followed: &mut Followed, shutdown: &CancellationToken) -> Result<(), AdminError> {
        loop {
            let events = self.admin.rooms().events_after(followed.voice.room, followed.seen, CHUNK)?;
            let is_last = events.len() < CHUNK;
            let mut members_changed = false;
            for event in events {
                members_changed |= event.kind() == "m.room.member";
                self.read_event(followed, &event, shutdown).await?;
                followed.seen = event.seq();
            }
            if members_changed {
                self.reconcile(&followed.voice).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn read_event(
        &self,
        followed: &mut Followed,
        event: &Event,
        shutdown: &CancellationToken,
    ) -> Result<(), AdminError> {
        if event.kind() != "m.room.message" || !event.flags().is_visible() || event.state_key().is_some() {
            return Ok(());
        }
        let sender = event.sender_nid();
        let Some(user_id) = event.sender_id() else { return Ok(()) };
        if user_id == followed.voice.user {
            return self.note_passing(event).await;
        }
        let Some(message) = event.content_as::<MessageContent>().and_then(|content| content.read()) else {
            return Ok(());
        };
        if !self.may_be_here(sender)? {
            return self.refuse(sender, user_id, message).await;
        }
        // From here on it is never read again, whatever happens.
        let mut batch = Batch::new();
        batch.put(&ADMIN_ROOM, &(), &AdminRoomRow { room: followed.voice.room, seen: event.seq() });
        if !matches!(message, Message::Talk(_)) {
            let running = RunningRow { event_id: event.event_id().to_owned() };
            batch.put(&ADMIN_ROOM_RUNNING, &event.seq(), &running);
        }
        self.admin.store().commit(batch).await?;
        let incoming = Incoming { seq: event.seq(), event_id: event.event_id().to_owned(), message };
        self.hand_over(followed, (sender, user_id), incoming, shutdown).await
    }

    /// Records that somebody gave a command who may not. They are not answered: they are about to be removed. Somebody
    /// can write here and may not for as long as it takes to remove them.
    async fn refuse(&self, user: UserNid, user_id: UserId, message: Message) -> Result<(), AdminError> {
        let Message::Command(typed) = message else { return Ok(()) };
        let Parsed::Run(order) = tree::parse(PREFIX, typed.words) else { return Ok(()) };
        let Prepared { entry, arguments, .. } = order.prepared;
        let action = Action { name: entry.name(), needs: entry.needs, effect: entry.effect, arguments };
        let caller = Caller::new(Actor::User(user, user_id), Face::Room);
        let refused = AdminError::forbidden("only administrators and moderators are heard in the admin room");
        self.admin.record_refusal(&caller, action, &refused).await
    }

    async fn hand_over(
        &self,
        followed: &mut Followed,
        (user, user_id): (UserNid, UserId),
        incoming: Incoming,
        shutdown: &CancellationToken,
    ) -> Result<(), AdminError> {
        let line = followed.lines.entry(user).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(MAX_WAITING);
            let line = Line::new(self.admin.clone(), followed.voice.clone(), user, user_id);
            let shutdown = shutdown.clone();
            self.admin.tasks().spawn("admin room line", async move { line.run(receiver, shutdown).await });
            sender
        });
        let Err(refused) = line.try_send(incoming) else { return Ok(()) };
        let incoming = refused.into_inner();
        let text = "Too many of your commands wait already. This one was not run.";
        followed.voice.say(&Page::text(text), Some(&incoming.event_id)).await?;
        let mut batch = Batch::new();
        batch.delete(&ADMIN_ROOM_RUNNING, &incoming.seq);
        self.admin.store().commit(batch).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
