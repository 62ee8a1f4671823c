//! How long messages are kept: by the room's `m.room.retention` (MSC1763) and the policy of this server, which may have
//! one for a room of its own.
//!
//! What has expired is not shown any more, neither here nor to other servers, and purged in the background. State never
//! expires. Whether an event has is asked for each that is read: all that it takes is in the room's head.

use runtime::config::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spec::pdu::Pdu;
use storage::{Read, stored};

use crate::append::Append;
use crate::error::RoomError;
use crate::event::Event;
use crate::head::Head;
use crate::ids::RoomNid;
use crate::keyspaces::{HEADS, RETENTION};
use crate::purge::{PurgeOrder, PurgeProgress};
use crate::rooms::Rooms;

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

/// The type of the state event by which a room says how long its messages are kept.
pub(crate) const RETENTION_EVENT: &str = "m.room.retention";

/// What administrators decided for a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetentionRow {
    /// After how many milliseconds messages expire; 0: never.
    pub lifetime_ms: u64,
}
stored!(RetentionRow, 1);

/// What is said of a room's messages, before the limits: part of its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    /// By the room itself, in milliseconds.
    pub wanted_ms: Option<u64>,
    /// By administrators.
    pub decided: Option<RetentionRow>,
}

/// By what it is decided how long a room's messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionSource {
    /// Messages do not expire on this server.
    Off,
    /// An administrator's word for this room.
    Administrator,
    /// The room's `m.room.retention`, within the limits of the configuration.
    Room,
    /// The configuration's default.
    Default,
}

/// How long a room's messages are kept, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// After how many milliseconds messages expire; `None` if they do not.
    pub lifetime_ms: Option<u64>,
    /// By what.
    pub source: RetentionSource,
    /// What the room wants, in milliseconds.
    pub wanted_ms: Option<u64>,
    /// What an administrator decided, in milliseconds; 0: never.
    pub decided_ms: Option<u64>,
}

/// What an `m.room.retention` event wants, in milliseconds.
pub(crate) fn wanted_by(pdu: &Pdu) -> Option<u64> {
    let content: Map<String, Value> = pdu.content().ok()?;
    content.get("max_lifetime").and_then(Value::as_u64).filter(|lifetime| *lifetime > 0)
}

impl Head {
    /// How long messages are kept here.
    fn retention(&self, config: &RetentionConfig) -> Retention {
        let Lifetimes { wanted_ms, decided } = self.lifetimes;
        let (lifetime_ms, source) = match (config.enabled, decided) {
            (false, _) => (None, RetentionSource::Off),
            (true, Some(RetentionRow { lifetime_ms })) => {
                (Some(lifetime_ms).filter(|lifetime| *lifetime > 0), RetentionSource::Administrator)
            }
            (true, None) => {
                let source = if wanted_ms.is_some() { RetentionSource::Room } else { RetentionSource::Default };
                (config.lifetime_ms(wanted_ms), source)
            }
        };
        Retention { lifetime_ms, source, wanted_ms, decided_ms: decided.map(|row| row.lifetime_ms) }
    }
}

impl Rooms {
    /// How long messages of the room are kept.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn retention(&self, room: RoomNid) -> Result<Retention, RoomError> {
        Ok(self.head(room)?.retention(&self.config.retention))
    }

    /// What messages of all rooms go by.
    #[must_use]
    pub fn retention_config(&self) -> &RetentionConfig {
        &self.config.retention
    }

    /// Decides how long messages of the room are kept, whatever it wants itself and whatever the limits are: so many
    /// milliseconds, for ever (0), or `None` as if nothing had been decided. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Busy`]; storage errors.
    pub async fn set_retention(&self, room: RoomNid, lifetime_ms: Option<u64>) -> Result<(), RoomError> {
        let decided = lifetime_ms.map(|lifetime_ms| RetentionRow { lifetime_ms });
        self.submit_job(room, move |append| append.set_retention(decided)).await
    }

    /// Messages of a room that were sent before this time have expired; in milliseconds since the Unix epoch.
    fn expired_before(&self, head: &Head) -> Option<i64> {
        let lifetime = head.retention(&self.config.retention).lifetime_ms?;
        Some(i64::try_from(self.clock.now_ms().saturating_sub(lifetime)).unwrap_or(i64::MAX))
    }

    /// Whether an event of a room with this head has expired.
    pub(crate) fn is_expired(&self, head: &Head, event: &Event) -> bool {
        self.config.retention.enabled
            && event.state_key().is_none()
            && self.expired_before(head).is_some_and(|expired| event.origin_server_ts() < expired)
    }

    /// Purges what has expired, room by room. A room that fails is logged, and left for the next time. Cancel-safe: the
    /// rest goes next time.
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
        if self.memory.gone.read().contains(&room) {
            return Ok(());
        }
        let head = self.head(room)?;
        let Some(expired) = self.expired_before(&head).filter(|_| !head.is_partial()) else { return Ok(()) };
        let Some(cut) = self.cut_before_time(room, expired)? else { return Ok(()) };
        let order = PurgeOrder { room, cut, local_too: true };
        loop {
            let part = self.purge_on(order).await?;
            (all.deleted, all.kept, all.nodes) =
                (all.deleted + part.deleted, all.kept + part.kept, all.nodes + part.nodes);
            if part.done {
                return Ok(());
            }
        }
    }
}

impl Append<'_> {
    fn set_retention(&mut self, decided: Option<RetentionRow>) -> Result<(), RoomError> {
        let room = self.head.room;
        self.head.lifetimes.decided = decided;
        match decided {
            Some(row) => self.batch.put(&RETENTION, &room, &row),
            None => self.batch.delete(&RETENTION, &room),
        };
        Ok(())
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
