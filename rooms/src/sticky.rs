//! Sticky events (MSC4354): events that everybody in the room gets while they are sticky, for an hour at most, whatever a
//! gap or the history visibility would keep from them.
//!
//! An event that asks for it carries a flag. As long as it is sticky here, a row says until when, and a second one by
//! that time is there to take both out. Readers look at the time themselves. How many events of a sender, and of a room,
//! are sticky at a time is bounded, for all of them are told at once to whoever comes; further ones are events like any
//! others here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spec::pdu::Pdu;
use storage::{Batch, Keyspace, Profile, Read, StreamPos};

use crate::append::Append;
use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::ids::{RoomNid, RoomSeq, UserNid};
use crate::rooms::Rooms;
use crate::view::RoomView;

/// The longest time for which an event is sticky, in milliseconds.
pub const MAX_STICKY_MS: u64 = 60 * 60 * 1000;
/// The key of the event that asks for it, as long as the proposal is unstable.
pub(crate) const STICKY_KEY: &str = "msc4354_sticky";
/// How many events of one sender are sticky in a room at a time.
const MAX_OF_SENDER: usize = 250;
/// How many events of a room are sticky at a time.
const MAX_OF_ROOM: usize = 2000;
/// How many rows one commit takes out.
const BATCH: usize = 500;

/// The events that are sticky, or were until lately.
pub(crate) const STICKY: Keyspace<(RoomNid, RoomSeq), StickyRow> = Keyspace::new("sticky_events", Profile::Log);
/// When they are sticky no more: (time, room, number).
pub(crate) const STICKY_DUE: Keyspace<(u64, RoomNid, RoomSeq), ()> = Keyspace::new("sticky_events_due", Profile::Log);
/// Delayed event → for how many milliseconds it will be sticky once it is sent.
pub(crate) const DELAYED_STICKY: Keyspace<String, u64> = Keyspace::new("delayed_events_sticky", Profile::Points);

/// See [`STICKY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StickyRow {
    pub sender: UserNid,
    /// Until when, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}
storage::stored!(StickyRow, 1);

/// For how long an event asks to be sticky, in milliseconds; nothing if what it says is not valid.
fn duration_in(json: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Top {
        msc4354_sticky: Option<Value>,
    }
    // Hardly any event has it, and this is looked at for each.
    if !json.windows(STICKY_KEY.len()).any(|part| part == STICKY_KEY.as_bytes()) {
        return None;
    }
    let duration = serde_json::from_slice::<Top>(json).ok()?.msc4354_sticky?.get("duration_ms")?.as_u64()?;
    Some(duration).filter(|duration| *duration <= MAX_STICKY_MS)
}

impl Event {
    /// For how many milliseconds the event asked to be sticky, if it did; one that was redacted does no more.
    #[must_use]
    pub fn sticky_duration(&self) -> Option<u64> {
        let flags = self.flags();
        let asks = flags.has(EventFlags::STICKY) && !flags.has(EventFlags::REDACTED);
        if asks { duration_in(self.json().as_bytes()) } else { None }
    }
}

impl Append<'_> {
    /// The flag of a placed event that asks to be sticky, and the rows of one that is.
    pub(crate) fn note_sticky(
        &mut self,
        pdu: &Pdu,
        sender: UserNid,
        seq: RoomSeq,
        flags: EventFlags,
    ) -> Result<EventFlags, RoomError> {
        let Some(duration) = duration_in(&pdu.json) else { return Ok(flags) };
        let now = self.rooms.clock.now_ms();
        // Whoever claims to send in the future does not gain time by it.
        let start = u64::try_from(pdu.origin_server_ts).unwrap_or(0).min(now);
        let expires_ms = start.saturating_add(duration);
        if flags.is_visible() && expires_ms > now && self.has_room_for_sticky(sender, now)? {
            let room = self.head.room;
            self.batch.put(&STICKY, &(room, seq), &StickyRow { sender, expires_ms });
            self.batch.put(&STICKY_DUE, &(expires_ms, room, seq), &());
        }
        Ok(flags.with(EventFlags::STICKY))
    }

    fn has_room_for_sticky(&self, sender: UserNid, now: u64) -> Result<bool, RoomError> {
        let (mut of_room, mut of_sender) = (0, 0);
        for row in self.rooms.store.scan(&STICKY, &self.head.room).iter() {
            let (_, row) = row?;
            if row.expires_ms > now {
                of_room += 1;
                of_sender += usize::from(row.sender == sender);
            }
        }
        Ok(of_room < MAX_OF_ROOM && of_sender < MAX_OF_SENDER)
    }
}

impl Rooms {
    /// The events of a room that are sticky now, in the order in which they came. What their viewers may see is theirs
    /// to know: whoever is joined, and every server in the room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn sticky_events(&self, room: RoomNid) -> Result<Vec<Event>, RoomError> {
        let now = self.clock.now_ms();
        let mut events = Vec::new();
        for row in self.store.scan(&STICKY, &room).iter() {
            let ((_, seq), row) = row?;
            if row.expires_ms <= now {
                continue;
            }
            let event = self.event_at(room, seq)?;
            if event.flags().is_visible() && event.sticky_duration().is_some() {
                events.push(event);
            }
        }
        events.sort_by_key(|event| (event.pos(), event.seq()));
        Ok(events)
    }

    /// For how many milliseconds the event is still sticky, if it is.
    pub(crate) fn sticky_left(&self, event: &Event) -> Result<Option<u64>, RoomError> {
        if event.sticky_duration().is_none() {
            return Ok(None);
        }
        let row = self.store.get(&STICKY, &(event.room(), event.seq()))?;
        Ok(row.and_then(|row| row.expires_ms.checked_sub(self.clock.now_ms())).filter(|left| *left > 0))
    }

    /// Forgets which events were sticky and are so no more. Cancel-safe: what is left is taken out next time.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn forget_sticky(&self) -> Result<usize, RoomError> {
        let after = self.clock.now_ms().saturating_add(1);
        let mut forgotten = 0;
        loop {
            let mut batch = Batch::new();
            let mut rows = 0;
            for key in self.store.scan(&STICKY_DUE, &()).until_prefix(&after).keys().take(BATCH) {
                let key = key?;
                batch.delete(&STICKY, &(key.1, key.2)).delete(&STICKY_DUE, &key);
                rows += 1;
            }
            if rows == 0 {
                return Ok(forgotten);
            }
            self.store.commit(batch).await?;
            forgotten += rows;
        }
    }
}

impl RoomView {
    /// The sticky events of the room up to a position, whatever the history visibility is; none for those who are not
    /// joined.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn sticky_events(&self, until: StreamPos) -> Result<Vec<Event>, RoomError> {
        if !self.is_joined() {
            return Ok(Vec::new());
        }
        let mut events = self.rooms.sticky_events(self.room)?;
        events.retain(|event| event.pos() <= until && !self.is_expired(event));
        Ok(events)
    }

    /// Whether the viewer may see the event for its being sticky.
    pub(crate) fn sees_as_sticky(&self, event: &Event) -> Result<bool, RoomError> {
        let may_see = self.is_joined() && event.flags().is_visible() && !self.is_expired(event);
        Ok(may_see && self.rooms.sticky_left(event)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_durations_count() {
        let duration =
            |sticky: &str| duration_in(format!(r#"{{"content":{{}},"msc4354_sticky":{sticky}}}"#).as_bytes());
        assert_eq!(duration(r#"{"duration_ms":0}"#), Some(0));
        assert_eq!(duration(r#"{"duration_ms":3600000}"#), Some(3_600_000));
        for invalid in
            [r#"{"duration_ms":3600001}"#, r#"{"duration_ms":-1}"#, r#"{"duration_ms":"5"}"#, "{}", "5", "null"]
        {
            assert_eq!(duration(invalid), None, "{invalid}");
        }
        // Not at the top level.
        assert_eq!(duration_in(br#"{"content":{"msc4354_sticky":{"duration_ms":5}}}"#), None);
    }
}
