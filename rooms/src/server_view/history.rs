//! Earlier events for servers that lack them.

use std::collections::{BTreeMap, HashSet, VecDeque};

use spec::ids::EventId;
use storage::Read;

use super::{Citation, ServerView, cited_ids, is_in_timeline, is_served};
use crate::error::RoomError;
use crate::event::Event;
use crate::ids::RoomSeq;
use crate::keyspaces::EVENTS_BY_TIME;
use crate::timeline::Direction;

/// The most events of one `/backfill`.
const MAX_BACKFILL: usize = 100;
/// The most events of one `/get_missing_events`.
const MAX_MISSING: usize = 20;
/// The most ids that are looked at in a request.
const MAX_GIVEN: usize = 100;
/// The most events that one request walks through, those included that are not given.
const MAX_WALKED: usize = 1000;

impl ServerView {
    /// The given events and those before them, the deepest first, at most `limit` (and at most 100):
    /// history as it is here, without outliers and rejected events (Server-Server API `GET
    /// /backfill/{roomId}`). Write each with [`ServerView::pdu_json`].
    ///
    /// # Errors
    /// Storage errors only; unknown ids are passed over.
    pub fn backfill(&self, from: &[EventId], limit: usize) -> Result<Vec<Event>, RoomError> {
        let limit = limit.min(MAX_BACKFILL);
        let (mut waiting, mut met) = (BTreeMap::new(), HashSet::new());
        for id in from.iter().take(MAX_GIVEN) {
            self.meet(id.as_str(), &mut met, |event| drop(waiting.insert((event.depth(), event.seq()), event)))?;
        }
        let (mut events, mut walked) = (Vec::new(), 0);
        while events.len() < limit && walked < MAX_WALKED {
            let Some((_, event)) = waiting.pop_last() else { break };
            walked += 1;
            for id in cited_ids(&event, Citation::Prev)? {
                self.meet(&id, &mut met, |event| drop(waiting.insert((event.depth(), event.seq()), event)))?;
            }
            if self.may_have(&event)? {
                events.push(event);
            }
        }
        Ok(events)
    }

    /// The events before `latest` and not before `earliest`, both excluded: the nearest `limit` (at
    /// most 20), the oldest first (Server-Server API `POST /get_missing_events/{roomId}`). Write each
    /// with [`ServerView::pdu_json`].
    ///
    /// # Errors
    /// Storage errors only; unknown ids are passed over.
    pub fn missing_events(
        &self,
        latest: &[EventId],
        earliest: &[EventId],
        limit: usize,
        min_depth: i64,
    ) -> Result<Vec<Event>, RoomError> {
        let limit = limit.min(MAX_MISSING);
        let (mut waiting, mut met) = (VecDeque::new(), HashSet::new());
        for id in earliest.iter().take(MAX_GIVEN) {
            self.meet(id.as_str(), &mut met, drop)?;
        }
        for id in latest.iter().take(MAX_GIVEN) {
            self.meet(id.as_str(), &mut met, |event| waiting.push_back((event, true)))?;
        }
        let (mut events, mut walked) = (Vec::new(), 0);
        while events.len() < limit && walked < MAX_WALKED {
            let Some((event, is_given)) = waiting.pop_front() else { break };
            walked += 1;
            if event.depth() < min_depth && !is_given {
                continue;
            }
            for id in cited_ids(&event, Citation::Prev)? {
                self.meet(&id, &mut met, |event| waiting.push_back((event, false)))?;
            }
            if !is_given && self.may_have(&event)? {
                events.push(event);
            }
        }
        events.sort_by_key(|event| (event.depth(), event.seq()));
        Ok(events)
    }

    /// The event closest in time to `timestamp` (milliseconds) that the server may see, not before it
    /// (forward) or not after it (backward) (Server-Server API `GET /timestamp_to_event/{roomId}`).
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] if it may see none.
    pub fn event_near(&self, timestamp: i64, direction: Direction) -> Result<Event, RoomError> {
        let scan = self.rooms.store.scan(&EVENTS_BY_TIME, &self.room);
        let scan = match direction {
            Direction::Forward => scan.from(&(self.room, timestamp, RoomSeq::MIN)),
            Direction::Backward => scan.until(&(self.room, timestamp.saturating_add(1), RoomSeq::MIN)).reverse(),
        };
        for row in scan.keys().take(MAX_WALKED) {
            let event = self.rooms.event_at(self.room, row?.2)?;
            if is_in_timeline(&event) && self.may_see(&event)? {
                return Ok(event);
            }
        }
        Err(RoomError::EventNotFound)
    }

    /// Goes to an event of the timeline unless the walk was there before.
    fn meet(&self, id: &str, met: &mut HashSet<RoomSeq>, mut go: impl FnMut(Event)) -> Result<(), RoomError> {
        if let Some(event) = self.find(id)?
            && is_in_timeline(&event)
            && met.insert(event.seq())
        {
            go(event);
        }
        Ok(())
    }

    /// Whether the server is given an event of the timeline, be it redacted.
    fn may_have(&self, event: &Event) -> Result<bool, RoomError> {
        Ok(is_served(event) && (self.joined || self.may_see(event)?))
    }
}
