//! `rooms.join`.

use rooms::{Event, RoomNid, UserNid, UserRoom};
use storage::StreamPos;

use super::Assembly;
use crate::counts::write_unread;
use crate::error::SyncError;
use crate::events::EventWriter;
use crate::json::{Array, Object, write_typed};
use crate::receipts::write_receipt_events;
use crate::state::{LazyMembers, StateQuery};
use crate::sticky::read_sticky;
use crate::summary::find_heroes;
use crate::timeline::{Room, Timeline, is_ignored};
use crate::typing::write_typing;

/// Events of a timeline if the filter does not say.
const DEFAULT_LIMIT: u64 = 10;

/// Where the client stands in one room.
#[derive(Clone, Copy)]
pub(super) struct Stand {
    /// For the timeline and all else: `None` where the room is new to the client.
    pub since: Option<StreamPos>,
    /// For state: also `None` where the whole state was asked for.
    pub state_since: Option<StreamPos>,
    /// Whether all of the room's state has come to be known here since then.
    pub resynced: bool,
}

impl Assembly<'_> {
    pub(super) fn write_joined(&self, section: &mut Object<'_>, room: RoomNid, row: UserRoom) -> Result<(), SyncError> {
        let nid = room;
        let room = Room::open(&self.sync.rooms, self.caller.user, row, nid, self.until)?;
        let room_id = room.view.head().room_id().clone();
        if !self.filter.room.matches_room(room_id.as_str()) {
            return Ok(());
        }
        let resynced_at = room.rooms.resynced_at(nid)?;
        let is_eager = !self.filter.room.state.lazy_load_members;
        // Who wants all members gets the room once they are known (MSC3902).
        if is_eager && (room.view.head().is_partial() || resynced_at > self.until) {
            return Ok(());
        }
        let resynced = self.since.is_some_and(|since| resynced_at > since) && resynced_at <= self.until;
        let since = match self.since {
            Some(since) if row.pos > since && room.is_newly_joined(since)? => None,
            // Or who was thought to have gone and had not.
            Some(since) if resynced && (is_eager || row.pos > since) => None,
            since => since,
        };
        let stand = Stand { since, state_since: since.filter(|_| !self.request.full_state), resynced };
        section.optional(room_id.as_str(), |out| {
            let mut object = Object::open(out);
            let mut timeline = self.read_timeline(&room, stand.since)?;
            // Whoever was here before has events from then: between those and these there is a gap.
            timeline.limited |= self.since.is_some() && stand.since.is_none();
            let heroes = self.write_events(&mut object, &room, &timeline, stand)?;
            let mut news = heroes.is_some();
            if let Some(heroes) = heroes.filter(|heroes| heroes.changed) {
                self.write_summary(&mut object, &room, heroes.users.as_deref())?;
            }
            news |= object.events("msc4354_sticky", |events| self.write_sticky(&room, &timeline, stand, events))?;
            news |= object.events("ephemeral", |events| self.write_ephemeral(&room, stand, events))?;
            news |= object.events("account_data", |events| self.write_room_data(&room, stand, events))?;
            if news {
                let unread = self.sync.users.unread_counts(self.caller.user, room.view.room())?;
                write_unread(&mut object, &unread, self.filter.room.timeline.unread_thread_notifications);
            }
            object.close();
            Ok::<_, SyncError>(news)
        })?;
        Ok(())
    }

    /// Timeline and state. `None` if there is nothing of either.
    fn write_events(
        &self,
        object: &mut Object<'_>,
        room: &Room<'_>,
        timeline: &Timeline,
        stand: Stand,
    ) -> Result<Option<Heroes>, SyncError> {
        let changed = stand.state_since.is_none() || stand.resynced || shows_members(timeline);
        let mut heroes = Heroes { changed, users: None };
        if heroes.changed {
            heroes.users = find_heroes(room.rooms, room.view.room(), timeline.snapshot, self.caller.user)?;
        }
        let state = self.read_state(room, timeline, stand, heroes.users.as_deref())?;
        let is_whole = stand.state_since.is_none() || stand.resynced;
        let news = is_whole || !timeline.events.is_empty() || timeline.limited || !state.is_empty();
        if news {
            self.write_timeline_and_state(object, room, timeline, &state)?;
        }
        Ok(news.then_some(heroes))
    }

    pub(super) fn read_timeline(&self, room: &Room<'_>, since: Option<StreamPos>) -> Result<Timeline, SyncError> {
        let filter = &self.filter.room.timeline;
        let limit = filter.events.limit.unwrap_or(DEFAULT_LIMIT);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(self.sync.config.max_timeline_events);
        let wants_room = filter.matches_room(room.view.head().room_id().as_str());
        let trivial = filter.is_trivial();
        room.read_timeline(since, limit, &|event: &Event| {
            (trivial || (wants_room && filter.matches_in(&room.view, event))) && !is_ignored(&self.ignored, event)
        })
    }

    pub(super) fn read_state(
        &self,
        room: &Room<'_>,
        timeline: &Timeline,
        stand: Stand,
        heroes: Option<&[UserNid]>,
    ) -> Result<Vec<Event>, SyncError> {
        let filter = &self.filter.room.state;
        if !filter.matches_room(room.view.head().room_id().as_str()) {
            return Ok(Vec::new());
        }
        let mut needed: Vec<UserNid> = heroes.unwrap_or_default().to_vec();
        if stand.state_since.is_none() {
            needed.push(self.caller.user);
        }
        let lazy = filter.lazy_load_members.then(|| LazyMembers {
            to: self.caller.device.0,
            since: stand.state_since.unwrap_or(StreamPos::ZERO),
            include_redundant: filter.include_redundant_members,
            needed: &needed,
        });
        let after_timeline = self.request.state_after.is_some();
        self.sync.read_state(room, timeline, &StateQuery { since: stand.state_since, after_timeline, lazy, filter })
    }

    pub(super) fn write_timeline_and_state(
        &self,
        object: &mut Object<'_>,
        room: &Room<'_>,
        timeline: &Timeline,
        state: &[Event],
    ) -> Result<(), SyncError> {
        let writer = EventWriter::new(&room.view, &self.caller.device_id, Some(self.filter));
        let mut section = Object::open(object.key("timeline"));
        writer.write_all(&timeline.events, section.key("events"))?;
        section.bool("limited", timeline.limited);
        section.text("prev_batch", &timeline.prev_batch.to_string());
        section.close();
        let name = self.request.state_after.unwrap_or("state");
        let mut section = Object::open(object.key(name));
        writer.write_all(state, section.key("events"))?;
        section.close();
        Ok(())
    }

    fn write_summary(
        &self,
        object: &mut Object<'_>,
        room: &Room<'_>,
        heroes: Option<&[UserNid]>,
    ) -> Result<(), SyncError> {
        let mut summary = Object::open(object.key("summary"));
        if let Some(heroes) = heroes {
            let mut array = Array::open(summary.key("m.heroes"));
            for hero in heroes {
                array.text(room.rooms.user_id(*hero)?.as_str());
            }
            array.close();
        }
        summary.number("m.invited_member_count", u64::from(room.view.head().invited_count()));
        summary.number("m.joined_member_count", u64::from(room.view.head().joined_count()));
        summary.close();
        Ok(())
    }

    /// The sticky events that came and are not in the timeline: the filter of that does not keep them out.
    fn write_sticky(
        &self,
        room: &Room<'_>,
        timeline: &Timeline,
        stand: Stand,
        events: &mut Array<'_>,
    ) -> Result<(), SyncError> {
        let writer = EventWriter::new(&room.view, &self.caller.device_id, Some(self.filter));
        for sticky in read_sticky(room, stand.since, &self.ignored)? {
            if !timeline.has(sticky.event.seq()) {
                writer.write(&sticky.event, events.item())?;
            }
        }
        Ok(())
    }

    fn write_ephemeral(&self, room: &Room<'_>, stand: Stand, events: &mut Array<'_>) -> Result<(), SyncError> {
        let nid = room.view.room();
        let filter = &self.filter.room.ephemeral;
        if !filter.matches_room(room.view.head().room_id().as_str()) {
            return Ok(());
        }
        let changed = stand.since.is_none() || self.changes.receipts.binary_search(&nid).is_ok();
        if changed && filter.events.matches_type("m.receipt") {
            let since = stand.since.unwrap_or(StreamPos::ZERO);
            let receipts = room.rooms.receipts_since(nid, self.caller.user, since, self.until)?;
            write_receipt_events(room.rooms, &receipts, events)?;
        }
        let typing_since = if stand.since.is_some() { self.typing_since } else { 0 };
        if filter.events.matches_type("m.typing")
            && let Some(typing) = room.rooms.typing_since(nid, typing_since)
            && (stand.since.is_some() || !typing.is_empty())
        {
            write_typing(room.rooms, &typing, events.item())?;
        }
        Ok(())
    }

    fn write_room_data(&self, room: &Room<'_>, stand: Stand, events: &mut Array<'_>) -> Result<(), SyncError> {
        let nid = room.view.room();
        let filter = &self.filter.room.account_data;
        if !filter.matches_room(room.view.head().room_id().as_str()) {
            return Ok(());
        }
        let all = match stand.since {
            None => self.sync.users.all_room_account_data(self.caller.user, nid)?,
            Some(_) => Vec::new(),
        };
        let changed = self.account_data.rooms.get(&nid).filter(|_| stand.since.is_some());
        for event in all.iter().chain(changed.into_iter().flatten()) {
            if filter.events.matches_type(&event.kind) {
                write_typed(events.item(), &event.kind, event.content.get());
            }
        }
        Ok(())
    }
}

/// What becomes of the room's summary.
pub(super) struct Heroes {
    changed: bool,
    users: Option<Vec<UserNid>>,
}

/// Whether a timeline tells, or leaves out, what a summary depends on.
fn shows_members(timeline: &Timeline) -> bool {
    let decisive = |event: &Event| {
        event.state_key().is_some()
            && matches!(event.kind(), "m.room.member" | "m.room.name" | "m.room.canonical_alias")
    };
    timeline.limited || timeline.events.iter().any(decisive)
}
