//! Presence as `m.presence` events (Client-Server API §Presence).

use std::collections::BTreeSet;

use rooms::UserNid;
use users::{Presence, PresenceState, Session};

use crate::error::SyncError;
use crate::filter::EventFilter;
use crate::json::{Array, Object};
use crate::sync::Inner;

/// From this many changes on, the caller's acquaintances are collected once instead of asked about one by one.
const MANY: usize = 2000;

impl Inner {
    /// Presence that changed after a count of changes, of the caller and of users who share a room with them; and the
    /// count now.
    pub fn read_presence(&self, caller: &Session, since: u64) -> Result<(Vec<Presence>, u64), SyncError> {
        if !self.users.config().settings.presence {
            return Ok((Vec::new(), 0));
        }
        let (mut changes, counter) = self.users.presence_changes_since(since);
        let acquaintances: Option<BTreeSet<UserNid>> =
            if changes.len() > MANY { Some(self.rooms.users_sharing_rooms(caller.user)?) } else { None };
        let mut shown = Vec::new();
        for presence in changes.drain(..) {
            let known = match &acquaintances {
                Some(users) => users.contains(&presence.user),
                None => presence.user == caller.user || self.rooms.shares_room(caller.user, presence.user)?,
            };
            if known {
                shown.push(presence);
            }
        }
        Ok((shown, counter))
    }

    pub fn write_presence(
        &self,
        presence: &[Presence],
        filter: &EventFilter,
        events: &mut Array<'_>,
    ) -> Result<(), SyncError> {
        let now = self.clock.now_ms();
        for presence in presence {
            let user = self.rooms.user_id(presence.user)?;
            if !filter.matches("m.presence", user.as_str()) {
                continue;
            }
            let mut event = Object::open(events.item());
            let mut content = Object::open(event.key("content"));
            content.bool("currently_active", presence.currently_active);
            if presence.last_active_ms > 0 {
                content.number("last_active_ago", now.saturating_sub(presence.last_active_ms));
            }
            let state = match presence.state {
                PresenceState::Online => "online",
                PresenceState::Unavailable => "unavailable",
                PresenceState::Offline => "offline",
            };
            content.text("presence", state);
            if let Some(text) = &presence.status_msg {
                content.text("status_msg", text);
            }
            content.close();
            event.text("sender", user.as_str());
            event.text("type", "m.presence");
            event.close();
        }
        Ok(())
    }
}
