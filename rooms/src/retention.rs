//! How long messages are kept: by the room's `m.room.retention` (MSC1763) and the policy of this server.
//!
//! What has expired is not shown any more, and purged in the background. State never expires; neither does the newest
//! event of a room.

use std::time::Duration;

use runtime::config::Span;
use serde_json::{Map, Value};
use storage::Read;

use crate::error::RoomError;
use crate::ids::RoomNid;
use crate::keyspaces::HEADS;
use crate::purge::{PurgeOrder, PurgeProgress};
use crate::rooms::Rooms;

/// How long a step of a purge is followed by a rest, at least: a busy disk is for sending first.
const REST: Duration = Duration::from_millis(20);

runtime::config_section! {
    /// How long messages are kept (MSC1763). State, such as names and memberships, is always kept.
    pub struct RetentionConfig {
        /// Whether messages expire: those of rooms that say so by an `m.room.retention` event, and
        /// those of all others after `default_max_lifetime`. What has expired is deleted for good.
        pub enabled: bool = false;
        /// After which time messages expire in rooms that do not say so themselves; `"0s"`: never.
        pub default_max_lifetime: Span = Span::seconds(0);
        /// Rooms that want messages to expire earlier get this.
        pub allowed_min_lifetime: Span = Span::seconds(24 * 3600);
        /// Rooms that want messages to expire later get this; `"0s"`: rooms may keep them as long as
        /// they like.
        pub allowed_max_lifetime: Span = Span::seconds(0);
        /// How often it is looked for expired messages.
        pub interval: Span = Span::seconds(24 * 3600);
    }
}

impl RetentionConfig {
    /// The lifetime of messages in a room that wants this one, both in milliseconds.
    fn lifetime_ms(&self, wanted: Option<u64>) -> Option<u64> {
        let span_ms = |span: Span| u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX);
        let default = Some(span_ms(self.default_max_lifetime)).filter(|default| *default > 0);
        let lifetime = wanted.or(default)?.max(span_ms(self.allowed_min_lifetime));
        match span_ms(self.allowed_max_lifetime) {
            0 => Some(lifetime),
            longest => Some(lifetime.min(longest)),
        }
    }
}

impl Rooms {
    /// After how many milliseconds messages of the room expire; `None` if they do not.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn lifetime_of_messages(&self, room: RoomNid) -> Result<Option<u64>, RoomError> {
        if !self.config.retention.enabled {
            return Ok(None);
        }
        let event = self.state_event(room, self.head(room)?.state(), "m.room.retention", "")?;
        let content: Map<String, Value> = event.and_then(|event| event.content_as()).unwrap_or_default();
        let wanted = content.get("max_lifetime").and_then(Value::as_u64).filter(|lifetime| *lifetime > 0);
        Ok(self.config.retention.lifetime_ms(wanted))
    }

    /// Messages of the room that were sent before this time have expired; in milliseconds since the Unix epoch.
    pub(crate) fn expired_before(&self, room: RoomNid) -> Result<Option<i64>, RoomError> {
        let lifetime = self.lifetime_of_messages(room)?;
        Ok(lifetime.map(|lifetime| i64::try_from(self.clock.now_ms().saturating_sub(lifetime)).unwrap_or(i64::MAX)))
    }

    /// Purges what has expired, room by room; rests between steps as long as they take. A room that fails
    /// is logged, and left for the next time. Cancel-safe: the rest goes next time.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn purge_expired(&self) -> Result<PurgeProgress, RoomError> {
        let mut all = PurgeProgress::default();
        let rooms: Vec<RoomNid> = self.store.scan(&HEADS, &()).keys().collect::<Result<_, _>>()?;
        for room in rooms {
            match self.purge_expired_of(room, &mut all).await {
                Ok(()) => {}
                Err(error) if error.is_of_store() => return Err(error),
                Err(error) => tracing::warn!(room = room.0, %error, "expired messages are not deleted yet"),
            }
        }
        all.done = true;
        Ok(all)
    }

    async fn purge_expired_of(&self, room: RoomNid, all: &mut PurgeProgress) -> Result<(), RoomError> {
        if self.memory.gone.read().contains(&room) || self.head(room)?.is_partial() {
            return Ok(());
        }
        let Some(expired) = self.expired_before(room)? else { return Ok(()) };
        let Some(cut) = self.cut_before_time(room, expired)? else { return Ok(()) };
        let order = PurgeOrder { room, cut, local_too: true };
        loop {
            let begun = self.clock.monotonic();
            let part = self.purge_on(order).await?;
            (all.deleted, all.kept, all.nodes) =
                (all.deleted + part.deleted, all.kept + part.kept, all.nodes + part.nodes);
            let rest = self.clock.monotonic().saturating_sub(begun).max(REST);
            if part.done {
                return Ok(());
            }
            self.clock.sleep(rest).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_choose_within_what_is_allowed() {
        let day = 24 * 3600 * 1000;
        let mut config = RetentionConfig { enabled: true, ..RetentionConfig::default() };
        assert_eq!(config.lifetime_ms(None), None);
        assert_eq!(config.lifetime_ms(Some(5)), Some(day));
        assert_eq!(config.lifetime_ms(Some(1000 * day)), Some(1000 * day));
        config.default_max_lifetime = Span::seconds(30 * 24 * 3600);
        config.allowed_max_lifetime = Span::seconds(20 * 24 * 3600);
        assert_eq!(config.lifetime_ms(None), Some(20 * day));
        assert_eq!(config.lifetime_ms(Some(2 * day)), Some(2 * day));
    }
}
