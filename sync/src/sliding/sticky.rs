//! The extension for sticky events (MSC4480).

use std::collections::BTreeSet;

use rooms::{Membership, RoomNid, RoomSeq};
use storage::StreamPos;

use super::{Look, ToldRoom};
use crate::error::SyncError;
use crate::events::EventWriter;
use crate::json::{Array, Object};
use crate::sticky::{MAX_STICKY, StickyEvent, keep_oldest, read_sticky, read_token, write_token};
use crate::timeline::Room;

/// What came of writing the extension.
pub(super) struct Written {
    /// Whether there is anything in it.
    pub has_events: bool,
    /// Whether the client waits for it.
    pub is_news: bool,
}

impl Look<'_> {
    /// The sticky events of the user's rooms that came after the client's token and are in no timeline of the answer.
    pub(super) fn write_sticky(&self, out: &mut Vec<u8>, told: &[ToldRoom]) -> Result<Written, SyncError> {
        let wanted = &self.request.extensions.sticky_events;
        let since = wanted.since.as_deref().map(read_token).transpose()?;
        let ignored = self.sync.users.ignored_users(self.caller.user)?;
        let mut events = Vec::new();
        for nid in self.rooms_with_sticky(since) {
            let Some(row) = self.rows.get(&nid) else { continue };
            let room = Room::open(&self.sync.rooms, self.caller.user, *row, nid, self.until)?;
            events.extend(read_sticky(&room, since, &ignored)?.into_iter().map(|sticky| (nid, sticky)));
        }
        let limit = usize::try_from(wanted.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).clamp(1, MAX_STICKY);
        let next = keep_oldest(&mut events, limit).unwrap_or(self.until);
        // A client that sends no token is told everything each time, but not without delay.
        let is_news = match since {
            Some(_) => !events.is_empty(),
            None => events.iter().any(|(_, sticky)| self.since.is_none_or(|since| sticky.came > since)),
        };
        let in_timelines: BTreeSet<(RoomNid, RoomSeq)> =
            told.iter().flat_map(|told| told.timeline.iter().map(|seq| (told.room, *seq))).collect();
        let has_events = !events.is_empty();
        events.retain(|(room, sticky)| !in_timelines.contains(&(*room, sticky.event.seq())));
        if !has_events {
            return Ok(Written { has_events, is_news });
        }
        let mut object = Object::open(out);
        object.text("next_batch", &write_token(next));
        if !events.is_empty() {
            self.write_sticky_rooms(object.key("rooms"), events)?;
        }
        object.close();
        Ok(Written { has_events, is_news })
    }

    /// The joined rooms that may have sticky events after a position.
    fn rooms_with_sticky(&self, since: Option<StreamPos>) -> Vec<RoomNid> {
        match since {
            Some(since) => self.sync.feed.room_changes(since, self.rows).timelines,
            None => {
                let joined = self.rows.iter().filter(|(_, row)| row.membership == Membership::Join);
                joined.map(|(room, _)| *room).collect()
            }
        }
    }

    fn write_sticky_rooms(&self, out: &mut Vec<u8>, mut events: Vec<(RoomNid, StickyEvent)>) -> Result<(), SyncError> {
        // Within a room they stay in the order in which they came.
        events.sort_by_key(|(room, _)| *room);
        let mut rooms = Object::open(out);
        for group in events.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((room, _)) = group.first() else { continue };
            let view = self.sync.rooms.view(*room, self.caller.user)?;
            let writer = EventWriter::new(&view, &self.caller.device_id, None);
            let mut section = Object::open(rooms.key(&self.room_id(*room)?));
            let mut array = Array::open(section.key("events"));
            for (_, sticky) in group {
                writer.write(&sticky.event, array.item())?;
            }
            array.close();
            section.close();
        }
        rooms.close();
        Ok(())
    }
}
