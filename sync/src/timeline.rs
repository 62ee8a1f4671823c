//! The newest events of a room, up to a limit and back to where the client stands.

use rooms::{Cursor, Event, Membership, RoomSeq, RoomView, Rooms, SnapshotId, UserNid, UserRoom};
use spec::ids::UserId;
use storage::StreamPos;

use crate::error::SyncError;

/// How many events that a filter refuses are passed over before one gives up.
const MAX_SCANNED: usize = 500;

/// One of the user's rooms, as far as they may see it.
pub(crate) struct Room<'a> {
    pub rooms: &'a Rooms,
    pub row: UserRoom,
    pub view: RoomView,
    /// Nothing after this position is shown.
    pub until: StreamPos,
}

/// Part of a timeline, oldest first.
pub(crate) struct Timeline {
    pub events: Vec<Event>,
    /// Whether events lie between where the client stands and the first of `events`.
    pub limited: bool,
    /// The place before the first event.
    pub prev_batch: Cursor,
    /// The room's state at the end.
    pub snapshot: SnapshotId,
}

impl<'a> Room<'a> {
    pub fn open(
        rooms: &'a Rooms,
        viewer: UserNid,
        row: UserRoom,
        nid: rooms::RoomNid,
        until: StreamPos,
    ) -> Result<Room<'a>, SyncError> {
        let view = rooms.view(nid, viewer)?;
        let until = match view.ends_at() {
            Some(end) => until.min(rooms.event_at(nid, end)?.pos()),
            None => until,
        };
        Ok(Room { rooms, row, view, until })
    }

    /// At most `limit` of the newest events after `since` that are `wanted` and that the viewer may see.
    pub fn read_timeline(
        &self,
        since: Option<StreamPos>,
        limit: usize,
        wanted: &dyn Fn(&Event) -> bool,
    ) -> Result<Timeline, SyncError> {
        let newest = self.view.ends_at().unwrap_or(self.view.head().last_seq());
        let mut events = Vec::new();
        let (mut at, mut scanned) = (newest, 0);
        let mut limited = false;
        let begins = self.view.head().history_begins();
        while at >= RoomSeq::FIRST {
            if scanned >= MAX_SCANNED {
                limited = true;
                break;
            }
            scanned += 1;
            let Some(event) = self.rooms.event_at_or_before(self.view.room(), at)? else { break };
            if begins.is_some_and(|begins| Cursor::after(&event) <= begins)
                || since.is_some_and(|since| event.pos() <= since)
            {
                break;
            }
            at = RoomSeq(event.seq().0 - 1);
            let is_shown = event.flags().is_visible() && !self.view.is_expired(&event);
            if event.pos() > self.until || !is_shown || !wanted(&event) {
                continue;
            }
            if events.len() >= limit {
                limited = true;
                break;
            }
            events.push(event);
        }
        let prev_batch = match events.last() {
            Some(event) => Cursor::after(event).before(),
            None => self.view.newest()?,
        };
        let mut events = self.keep_visible(events)?;
        events.reverse();
        // The present may be a little ahead of the timeline; what it has ahead comes again with the next answer.
        let snapshot = match self.view.ends_at() {
            Some(end) => self.rooms.event_at(self.view.room(), end)?.state_after(),
            None => self.view.head().state(),
        };
        Ok(Timeline { events, limited, prev_batch, snapshot })
    }

    /// The member event of a user whom the timeline shows; in a room whose members are not all known, what their newest
    /// event of the timeline cites.
    pub fn find_member(&self, timeline: &Timeline, user: UserNid, user_id: &str) -> Result<Option<RoomSeq>, SyncError> {
        let known = self.rooms.state_seq(self.view.room(), timeline.snapshot, "m.room.member", user_id)?;
        if known.is_some() || !self.view.head().is_partial() {
            return Ok(known);
        }
        let newest = timeline.events.iter().rfind(|event| event.sender_nid() == user);
        Ok(newest.map(|event| self.rooms.cited_member(event)).transpose()?.flatten())
    }

    fn keep_visible(&self, mut events: Vec<Event>) -> Result<Vec<Event>, SyncError> {
        // Since their latest member event a joined user sees everything; only what came before needs a look.
        let joined = self.row.membership == Membership::Join;
        let unclear = events.iter().position(|event| !joined || event.seq() < self.row.seq);
        if let Some(unclear) = unclear {
            let older = events.split_off(unclear);
            events.extend(self.view.visible(older)?);
        }
        Ok(events)
    }

    /// Whether the user has become a member after `since`, be it again.
    pub fn is_newly_joined(&self, since: StreamPos) -> Result<bool, SyncError> {
        let mut next = Some(self.row.seq);
        while let Some(seq) = next {
            let event = self.rooms.event_at(self.view.room(), seq)?;
            if membership_of(&event) != Some(Membership::Join) {
                return Ok(true);
            }
            if event.pos() <= since {
                return Ok(false);
            }
            next = event.replaces();
        }
        Ok(true)
    }
}

impl Timeline {
    /// Whether the event of this number is in it.
    pub fn has(&self, seq: RoomSeq) -> bool {
        self.events.iter().any(|event| event.seq() == seq)
    }
}

/// The membership that a member event sets.
pub(crate) fn membership_of(event: &Event) -> Option<Membership> {
    #[derive(serde::Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        membership: std::borrow::Cow<'a, str>,
    }
    Membership::parse(&event.content_as::<Content<'_>>()?.membership)
}

/// Whether someone who ignores these users is not to be shown the event: state events are always shown.
pub(crate) fn is_ignored(ignored: &std::collections::BTreeSet<UserId>, event: &Event) -> bool {
    !ignored.is_empty() && event.state_key().is_none() && ignored.contains(event.sender())
}
