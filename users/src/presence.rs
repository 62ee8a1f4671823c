//! Presence: in memory only, with a counter of its own. A restart forgets it.
//!
//! Spec: Client-Server API §"Presence". Time passes only when [`Users::expire_presence`] is called (about every ten
//! seconds): a user is no longer "currently active" a minute after the last activity, idle after five minutes and
//! offline half a minute after the last sync ended.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use rooms::UserNid;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::{UserError, Users};

const CURRENTLY_ACTIVE_MS: u64 = 60_000;
const IDLE_MS: u64 = 5 * 60_000;
const OFFLINE_MS: u64 = 30_000;
/// Another server that says nothing for this long has lost the user's connection, or ours.
const REMOTE_OFFLINE_MS: u64 = 30 * 60_000;
const MAX_STATUS_BYTES: usize = 1_024;
const OBSERVER_BACKLOG: usize = 1_024;

/// `presence` of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceState {
    /// Connected.
    Online,
    /// Idle.
    Unavailable,
    /// Not connected.
    #[default]
    Offline,
}

/// What others may know about a user's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Whose.
    pub user: UserNid,
    /// The state.
    pub state: PresenceState,
    /// Free text of the user.
    pub status_msg: Option<Arc<str>>,
    /// When the user last did something, in milliseconds since 1970.
    pub last_active_ms: u64,
    /// Whether that was within the last minute or so.
    pub currently_active: bool,
}

#[derive(Debug, Default)]
struct Row {
    state: PresenceState,
    status_msg: Option<Arc<str>>,
    last_active_ms: u64,
    currently_active: bool,
    last_sync_ms: u64,
    /// Syncs under way now.
    syncing: u32,
    is_remote: bool,
    /// Counter value of the latest visible change.
    change: u64,
    /// When the row is looked at next.
    check_at_ms: Option<u64>,
}

#[derive(Default)]
struct Table {
    rows: HashMap<UserNid, Row>,
    by_change: BTreeMap<u64, UserNid>,
    checks: BTreeSet<(u64, UserNid)>,
    counter: u64,
}

/// All presence known here.
pub(crate) struct PresenceTable {
    table: Mutex<Table>,
    observers: broadcast::Sender<UserNid>,
}

impl PresenceTable {
    pub(crate) fn new() -> Self {
        Self { table: Mutex::default(), observers: broadcast::Sender::new(OBSERVER_BACKLOG) }
    }

    /// Applies `change` to a row; if others can see a difference, numbers it and tells the observers.
    fn update(&self, user: UserNid, now_ms: u64, change: impl FnOnce(&mut Row)) {
        let is_visible = {
            let mut table = self.table.lock();
            table.update(user, now_ms, change)
        };
        if is_visible {
            // An error means that nobody observes.
            let _nobody = self.observers.send(user);
        }
    }
}

impl Table {
    fn update(&mut self, user: UserNid, now_ms: u64, change: impl FnOnce(&mut Row)) -> bool {
        let row = self.rows.entry(user).or_default();
        let before = (row.state, row.currently_active, row.status_msg.clone());
        change(row);
        let is_visible = before != (row.state, row.currently_active, row.status_msg.clone());
        if is_visible {
            self.counter += 1;
            self.by_change.remove(&row.change);
            row.change = self.counter;
            self.by_change.insert(self.counter, user);
        }
        let next = row.next_check(now_ms);
        // A later check is left where it is: activity is frequent, and an early look costs little.
        if row.check_at_ms.is_none_or(|at| next.is_some_and(|next| next < at)) {
            if let Some(at) = row.check_at_ms.take() {
                self.checks.remove(&(at, user));
            }
            row.check_at_ms = next;
            self.checks.extend(next.map(|at| (at, user)));
        }
        is_visible
    }

    fn take_due(&mut self, now_ms: u64) -> Vec<UserNid> {
        let mut due = Vec::new();
        while let Some((at, user)) = self.checks.first().copied() {
            if at > now_ms {
                break;
            }
            self.checks.pop_first();
            if let Some(row) = self.rows.get_mut(&user) {
                row.check_at_ms = None;
            }
            due.push(user);
        }
        due
    }
}

impl Row {
    fn offline_at(&self) -> Option<u64> {
        match (self.is_remote, self.syncing) {
            (true, _) => Some(self.last_sync_ms + REMOTE_OFFLINE_MS),
            (false, 0) => Some(self.last_sync_ms + OFFLINE_MS),
            (false, _) => None,
        }
    }

    /// When time alone changes the row next.
    fn next_check(&self, now_ms: u64) -> Option<u64> {
        if self.state == PresenceState::Offline {
            return None;
        }
        let active_until = self.currently_active.then_some(self.last_active_ms + CURRENTLY_ACTIVE_MS);
        let idle_at = (self.state == PresenceState::Online && !self.is_remote).then_some(self.last_active_ms + IDLE_MS);
        [active_until.filter(|_| !self.is_remote), idle_at, self.offline_at()]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(now_ms + 1))
    }

    fn decay(&mut self, now_ms: u64) {
        if self.offline_at().is_some_and(|at| at <= now_ms) {
            self.state = PresenceState::Offline;
            self.currently_active = false;
        } else if !self.is_remote {
            self.currently_active &= self.last_active_ms + CURRENTLY_ACTIVE_MS > now_ms;
            if self.state == PresenceState::Online && self.last_active_ms + IDLE_MS <= now_ms {
                self.state = PresenceState::Unavailable;
            }
        }
    }

    fn view(&self, user: UserNid) -> Presence {
        Presence {
            user,
            state: self.state,
            status_msg: self.status_msg.clone(),
            last_active_ms: self.last_active_ms,
            currently_active: self.currently_active && self.state == PresenceState::Online,
        }
    }
}

/// Lives as long as a sync request of a user; they cannot go offline meanwhile.
#[must_use = "the user counts as syncing only while this lives"]
pub struct SyncingPresence {
    users: Users,
    user: UserNid,
}

impl Drop for SyncingPresence {
    fn drop(&mut self) {
        let now = self.users.now_ms();
        self.users.inner.presence.update(self.user, now, |row| {
            row.syncing = row.syncing.saturating_sub(1);
            row.last_sync_ms = now;
        });
    }
}

impl Users {
    /// The presence of a user; `None` if nothing is known.
    pub fn presence(&self, user: UserNid) -> Option<Presence> {
        self.inner.presence.table.lock().rows.get(&user).map(|row| row.view(user))
    }

    /// Sets a local user's presence and status (`None` clears it). Does nothing when presence is switched off.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn set_presence(&self, user: UserNid, state: PresenceState, status_msg: Option<&str>) -> Result<(), UserError> {
        if status_msg.is_some_and(|text| text.len() > MAX_STATUS_BYTES) {
            return Err(UserError::TooLarge("the status message"));
        }
        if self.config().settings.presence {
            let now = self.now_ms();
            self.inner.presence.update(user, now, |row| {
                row.state = state;
                row.status_msg = status_msg.filter(|text| !text.is_empty()).map(Arc::from);
                row.last_active_ms = now;
                row.last_sync_ms = now;
                row.currently_active = state == PresenceState::Online;
            });
        }
        Ok(())
    }

    /// Notes that a sync with `set_presence` begins; `Offline` (or presence switched off) leaves no trace.
    pub fn begin_sync(&self, user: UserNid, set_presence: PresenceState) -> Option<SyncingPresence> {
        if !self.config().settings.presence || set_presence == PresenceState::Offline {
            return None;
        }
        let now = self.now_ms();
        self.inner.presence.update(user, now, |row| {
            row.syncing += 1;
            row.last_sync_ms = now;
            if row.state == PresenceState::Offline {
                row.state = set_presence;
                row.last_active_ms = now;
                row.currently_active = set_presence == PresenceState::Online;
            } else if set_presence == PresenceState::Unavailable {
                row.state = PresenceState::Unavailable;
                row.currently_active = false;
            }
        });
        Some(SyncingPresence { users: self.clone(), user })
    }

    /// Notes that a local user did something: sent an event, read a message, typed.
    pub fn record_activity(&self, user: UserNid) {
        if !self.config().settings.presence {
            return;
        }
        let now = self.now_ms();
        self.inner.presence.update(user, now, |row| {
            row.last_active_ms = now;
            row.last_sync_ms = row.last_sync_ms.max(now);
            row.state = PresenceState::Online;
            row.currently_active = true;
        });
    }

    /// Takes over what another server says about its user (`m.presence` EDU).
    pub fn record_remote_presence(&self, presence: Presence) {
        if !self.config().settings.presence {
            return;
        }
        let now = self.now_ms();
        let status_msg = presence.status_msg.filter(|text| text.len() <= MAX_STATUS_BYTES);
        self.inner.presence.update(presence.user, now, |row| {
            row.is_remote = true;
            row.state = presence.state;
            row.status_msg = status_msg;
            row.last_active_ms = presence.last_active_ms.min(now);
            row.currently_active = presence.currently_active;
            row.last_sync_ms = now;
        });
    }

    /// Lets time pass. Costs what is due.
    pub fn expire_presence(&self) {
        let now = self.now_ms();
        let due = self.inner.presence.table.lock().take_due(now);
        for user in due {
            self.inner.presence.update(user, now, |row| row.decay(now));
        }
    }

    /// The current counter: where a new reader starts.
    pub fn presence_counter(&self) -> u64 {
        self.inner.presence.table.lock().counter
    }

    /// Visible changes after `counter`, each user once, and the counter to continue from. Costs what changed.
    /// A counter from before a restart is answered with everything known.
    pub fn presence_changes_since(&self, counter: u64) -> (Vec<Presence>, u64) {
        let table = self.inner.presence.table.lock();
        let since = if counter > table.counter { 0 } else { counter };
        let changes = table
            .by_change
            .range(since + 1..)
            .filter_map(|(_, user)| table.rows.get(user).map(|row| row.view(*user)))
            .collect();
        (changes, table.counter)
    }

    /// Tells which user's presence changed, as it happens. A slow reader is told that it missed some.
    pub fn observe_presence(&self) -> broadcast::Receiver<UserNid> {
        self.inner.presence.observers.subscribe()
    }
}

#[cfg(test)]
mod tests;
