//! Typing, receipts and presence (Application Service API §"Pushing ephemeral data"). They are told only to services
//! that are there: what a service misses while it is away is out of date when it is back.

use std::time::Duration;

use rooms::{Receipt, RoomNid, UserNid};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::Dispatcher;
use crate::error::DispatchError;
use crate::line::{Line, ReceiptKey, Waiting};

/// The most pieces of ephemeral data in a transaction.
const MAX_EPHEMERAL: usize = 100;
/// Changes of presence are gathered for so long: who shares rooms with a user takes some finding out.
const GATHER_PRESENCE: Duration = Duration::from_secs(1);

/// What was taken off a line to be told.
enum Piece {
    Typing(RoomNid),
    Receipt(ReceiptKey, Receipt),
    Presence(UserNid),
}

impl Dispatcher {
    /// Notes who types, until shutdown.
    pub(crate) async fn watch_typing(self) {
        let shutdown = self.tasks.shutdown_token();
        let mut changes = self.rooms.watch_typing();
        loop {
            let changed = tokio::select! {
                changed = changes.recv() => changed,
                () = shutdown.cancelled() => return,
            };
            match changed {
                Ok(_) if self.interest().services().is_empty() => {}
                Ok(room) => self.tell(self.interest().in_room(room), |waiting| waiting.note_typing(room)),
                // Who types tells so again.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Notes whose presence changes, until shutdown.
    pub(crate) async fn watch_presence(self) {
        let shutdown = self.tasks.shutdown_token();
        let mut changes = self.users.observe_presence();
        let mut counter = self.users.presence_counter();
        loop {
            tokio::select! {
                changed = changes.recv() => if let Err(RecvError::Closed) = changed {
                    return;
                },
                () = shutdown.cancelled() => return,
            }
            if shutdown.run_until_cancelled(self.clock.sleep(GATHER_PRESENCE)).await.is_none() {
                return;
            }
            // What the notices are about is read after them.
            while matches!(changes.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
            let (changed, now) = self.users.presence_changes_since(counter);
            counter = now;
            let interest = self.interest();
            if interest.services().is_empty() {
                continue;
            }
            for presence in changed {
                let user = presence.user;
                self.tell(interest.around_user(user), |waiting| waiting.note_presence(user));
            }
        }
    }

    /// Notes something for services that want such things.
    fn tell(&self, services: Result<Vec<usize>, DispatchError>, note: impl Fn(&mut Waiting)) {
        let services = match services {
            Ok(services) => services,
            Err(error) => return tracing::error!(%error, "who cares for ephemeral data cannot be found out"),
        };
        let interest = self.interest();
        for service in services.into_iter().filter_map(|index| interest.services().get(index)) {
            if service.ephemeral().is_some()
                && let Some(line) = self.line(service.id())
            {
                note(&mut line.waiting.lock());
                line.news.notify_one();
            }
        }
    }

    /// Takes ephemeral data off a line, as far as they fit.
    pub(crate) fn take_ephemeral(&self, line: &Line, left: &mut usize) -> Result<Vec<Box<RawValue>>, DispatchError> {
        let mut told = Vec::new();
        while told.len() < MAX_EPHEMERAL {
            let Some(piece) = take_piece(&mut line.waiting.lock()) else { break };
            let event = match piece {
                Piece::Typing(room) => self.describe_typing(room)?,
                Piece::Receipt(key, receipt) => self.describe_receipt(&key, &receipt)?,
                Piece::Presence(user) => match self.describe_presence(user)? {
                    Some(event) => event,
                    None => continue,
                },
            };
            let Ok(event) = to_raw_value(&event) else { continue };
            *left = left.saturating_sub(event.get().len());
            told.push(event);
            if *left == 0 {
                break;
            }
        }
        Ok(told)
    }

    fn describe_typing(&self, room: RoomNid) -> Result<Value, DispatchError> {
        let users = self.rooms.typing_since(room, 0).unwrap_or_default();
        let users = users.into_iter().map(|user| self.rooms.user_id(user)).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({"type": "m.typing", "room_id": self.rooms.room_id(room)?, "content": {"user_ids": users}}))
    }

    fn describe_receipt(&self, key: &ReceiptKey, receipt: &Receipt) -> Result<Value, DispatchError> {
        let mut about = Map::from_iter([("ts".to_owned(), receipt.at.into())]);
        if let Some(thread) = &receipt.thread {
            about.insert("thread_id".to_owned(), (&**thread).into());
        }
        let user = self.rooms.user_id(receipt.user)?;
        let content = json!({&*receipt.event_id: {receipt.kind.as_str(): {user.as_str(): about}}});
        Ok(json!({"type": "m.receipt", "room_id": self.rooms.room_id(key.0)?, "content": content}))
    }

    fn describe_presence(&self, user: UserNid) -> Result<Option<Value>, DispatchError> {
        let Some(presence) = self.users.presence(user) else { return Ok(None) };
        let ago = self.clock.now_ms().saturating_sub(presence.last_active_ms);
        let mut content = json!({
            "presence": presence.state, "last_active_ago": ago, "currently_active": presence.currently_active,
        });
        if let (Some(text), Some(content)) = (&presence.status_msg, content.as_object_mut()) {
            content.insert("status_msg".to_owned(), (&**text).into());
        }
        Ok(Some(json!({"type": "m.presence", "sender": self.rooms.user_id(user)?, "content": content})))
    }
}

fn take_piece(waiting: &mut Waiting) -> Option<Piece> {
    if let Some(room) = waiting.typing.pop_first() {
        return Some(Piece::Typing(room));
    }
    if let Some((key, receipt)) = waiting.receipts.pop_first() {
        return Some(Piece::Receipt(key, receipt));
    }
    waiting.presence.pop_first().map(Piece::Presence)
}
