//! Rooms that were deleted: the user is in them no more, and nothing else is known of them.

use std::sync::Arc;

use rooms::{Departure, Membership, TOPIC_MEMBERSHIP};
use storage::{StreamPos, Topic};

use super::Look;
use super::connection::SentRoom;
use crate::error::SyncError;
use crate::json::{Array, Object};

/// The most rooms that a new connection is told of: the last ones.
const MAX_TOLD: usize = 100;

impl Look<'_> {
    /// The deleted rooms that the client is to be told of: those that this connection has sent as something else than left;
    /// on a new one, which may be that of a client which knows them from before, all of late. They are in no list.
    pub(super) fn find_departures(&self) -> Result<Vec<Departure>, SyncError> {
        let (rooms, user) = (&self.sync.rooms, self.caller.user);
        let Some(since) = self.since else {
            if self.request.lists.is_empty() {
                return Ok(Vec::new());
            }
            let mut all = rooms.departures(user, StreamPos::ZERO, self.until)?;
            return Ok(all.split_off(all.len().saturating_sub(MAX_TOLD)));
        };
        let is_in = |membership| !matches!(membership, Membership::Leave | Membership::Ban);
        let sent = &self.connection.rooms;
        let is_missed = || sent.iter().any(|(room, sent)| is_in(sent.membership) && !self.rows.contains_key(room));
        if !self.sync.feed.may_have_changed(Topic::new(TOPIC_MEMBERSHIP, user.0), since) || !is_missed() {
            return Ok(Vec::new());
        }
        let mut departures = rooms.departures(user, StreamPos::ZERO, self.until)?;
        departures.retain(|departure| sent.get(&departure.room).is_some_and(|sent| is_in(sent.membership)));
        Ok(departures)
    }

    /// Tells of one. Clients take the membership from the event.
    pub(super) fn write_departure(&self, rooms: &mut Object<'_>, departure: &Departure) -> SentRoom {
        let mut object = Object::open(rooms.key(departure.room_id.as_str()));
        object.text("membership", departure.membership.as_str());
        object.number("bump_stamp", departure.pos.0);
        for name in ["required_state", "timeline"] {
            let mut events = Array::open(object.key(name));
            events.raw(departure.event.get());
            events.close();
        }
        object.bool("limited", false);
        object.number("num_live", 0);
        object.number("notification_count", 0);
        object.number("highlight_count", 0);
        object.close();
        SentRoom { up_to: self.until, events: 0, state: Arc::default(), is_dm: false, membership: departure.membership }
    }
}
