//! Watching what other servers are told of but nothing keeps: who types, and who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rooms::{RoomNid, UserNid};
use spec::ids::ServerName;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::ephemeral::Ephemeral;
use super::{SendError, Sender};

/// How long receipts are gathered, in milliseconds, unless something else goes out anyway.
pub(super) const GATHER_RECEIPTS_MS: u64 = 250;
/// How long presence is gathered, in milliseconds.
pub(super) const GATHER_PRESENCE_MS: u64 = 1000;
/// Other servers forget that somebody types unless they are told again.
const TELL_TYPING_AGAIN: Duration = Duration::from_secs(25);

/// Of whom other servers were told that they type.
type Told = BTreeMap<RoomNid, BTreeSet<UserNid>>;

impl Sender {
    /// Tells of typing until shutdown.
    pub(super) async fn watch_typing(self, shutdown: runtime::CancellationToken) {
        let mut notices = self.rooms.watch_typing();
        let mut told = Told::new();
        loop {
            let is_anyone = !told.is_empty();
            tokio::select! {
                notice = notices.recv() => match notice {
                    Ok(room) => self.note_typing(room, &mut told),
                    Err(RecvError::Lagged(_)) => {
                        for room in self.rooms.rooms_with_typing_since(0) {
                            self.note_typing(room, &mut told);
                        }
                    }
                    Err(RecvError::Closed) => return,
                },
                () = self.clock.sleep(TELL_TYPING_AGAIN), if is_anyone => self.tell_typing_again(&told),
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn note_typing(&self, room: RoomNid, told: &mut Told) {
        if let Err(error) = self.compare_typing(room, told) {
            tracing::error!(room = room.0, %error, "typing cannot be told to other servers");
        }
    }

    fn compare_typing(&self, room: RoomNid, told: &mut Told) -> Result<(), SendError> {
        let mut now = BTreeSet::new();
        for user in self.rooms.typing_since(room, 0).unwrap_or_default() {
            if self.is_local(user)? {
                now.insert(user);
            }
        }
        let before = told.remove(&room).unwrap_or_default();
        let changed: Vec<(UserNid, bool)> =
            before.symmetric_difference(&now).map(|of| (*of, now.contains(of))).collect();
        if !now.is_empty() {
            told.insert(room, now);
        }
        if !changed.is_empty() {
            self.tell_typing(room, &changed)?;
        }
        Ok(())
    }

    fn tell_typing(&self, room: RoomNid, changed: &[(UserNid, bool)]) -> Result<(), SendError> {
        for server in self.servers_in(room)? {
            self.tell(&server, 0, |ephemeral| {
                for (user, is_typing) in changed {
                    ephemeral.note_typing(room, *user, *is_typing);
                }
            });
        }
        Ok(())
    }

    fn tell_typing_again(&self, told: &Told) {
        for (room, users) in told {
            let typing: Vec<(UserNid, bool)> = users.iter().map(|user| (*user, true)).collect();
            if let Err(error) = self.tell_typing(*room, &typing) {
                tracing::error!(room = room.0, %error, "typing cannot be told to other servers");
            }
        }
    }

    /// Tells of presence until shutdown. Changes are gathered first: who shares rooms with a user takes some finding out.
    pub(super) async fn watch_presence(self, shutdown: runtime::CancellationToken) {
        let mut changes = self.users.observe_presence();
        let mut counter = self.users.presence_counter();
        loop {
            tokio::select! {
                change = changes.recv() => if let Err(RecvError::Closed) = change {
                    return;
                },
                () = shutdown.cancelled() => return,
            }
            let pause = self.clock.sleep(Duration::from_millis(GATHER_PRESENCE_MS));
            if shutdown.run_until_cancelled(pause).await.is_none() {
                return;
            }
            skip_waiting(&mut changes);
            let (changed, now) = self.users.presence_changes_since(counter);
            counter = now;
            for presence in changed {
                if let Err(error) = self.tell_presence(presence.user) {
                    tracing::error!(%error, "presence cannot be told to other servers");
                }
            }
        }
    }

    fn tell_presence(&self, user: UserNid) -> Result<(), SendError> {
        if !self.is_local(user)? {
            return Ok(());
        }
        for server in self.servers_of_rooms(user, None)? {
            self.tell(&server, 0, |ephemeral| ephemeral.note_presence(user));
        }
        Ok(())
    }

    /// Notes something for a server that is told once, and puts it in line after a time to gather more. A server that is
    /// left alone is not told.
    pub(super) fn tell(&self, server: &ServerName, gather_ms: u64, note: impl FnOnce(&mut Ephemeral)) {
        if !self.destinations.is_allowed(server) || self.destinations.check(server).is_err() {
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut table = self.table.lock();
        let destination = table.destination(server);
        if destination.is_backing_off() {
            return;
        }
        note(&mut destination.ephemeral);
        if gather_ms == 0 {
            table.wake(server);
        } else {
            table.wake_at(server, now_ms.saturating_add(gather_ms));
        }
        drop(table);
        self.wake.notify_one();
    }
}

/// Drops the notices that wait: what they are about is read after.
fn skip_waiting(changes: &mut Receiver<UserNid>) {
    while matches!(changes.try_recv(), Ok(_) | Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_))) {}
}
