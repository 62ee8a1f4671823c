//! Counting what has come. It is written together with how far that is, in one batch, so that nothing counts twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rooms::{Head, RoomNid, RoomSeq, UserNid};
use spec::ids::UserId;
use storage::{Batch, Read, StreamPos};

use super::follow::Statistics;
use super::rows::{ACTIVE, CURSOR, FACTS, Fact, KNOWN, MESSAGES, OTHER_TYPE, THE_CURSOR, TOTALS, Total};
use super::{Day, MONTH, day_of};
use crate::error::AdminError;

/// How many events of a room are read at a time.
const CHUNK: usize = 256;
/// How many types of events are told apart on one day.
const MAX_TYPES: usize = 64;
/// A longer type is counted among the others.
const MAX_TYPE_BYTES: usize = 64;

/// The types of events that were counted on a day by their own names.
#[derive(Default)]
pub(super) struct Types {
    day: Day,
    known: BTreeSet<Box<str>>,
}

/// What is to be added: (room, type, whether local) → events, who was active, and what is new.
#[derive(Default)]
struct Counts {
    messages: BTreeMap<(RoomNid, String, bool), i64>,
    active: BTreeSet<UserNid>,
    new_rooms: i64,
}

impl Statistics {
    pub(super) async fn write_counts(
        &self,
        types: &mut Types,
        rooms: &BTreeSet<RoomNid>,
        seen: &BTreeSet<UserNid>,
        upto: StreamPos,
    ) -> Result<(), AdminError> {
        let after = self.parts.store.get(&CURSOR, &THE_CURSOR)?.unwrap_or(upto);
        let day = day_of(self.parts.clock.now_ms());
        let mut counts = Counts::default();
        for user in seen {
            if self.was_seen(*user, day)? {
                counts.active.insert(*user);
            }
        }
        for room in rooms {
            self.count_room_if_readable(*room, (after, upto), &mut counts)?;
        }
        let mut batch = Batch::new();
        let mut named = HashMap::new();
        for ((room, kind, is_local), count) in counts.messages {
            let name = named.entry(kind).or_insert_with_key(|kind| types.name(day, kind)).clone();
            batch.add(&MESSAGES, &(day, room, name, is_local), count);
            batch.add(&FACTS, &Fact::Events.of(day), count);
        }
        if counts.new_rooms > 0 {
            batch.add(&FACTS, &Fact::NewRooms.of(day), counts.new_rooms);
            self.arrivals.lock().do_rooms_differ = true;
        }
        for user in seen.union(&counts.active) {
            self.count_user(&mut batch, *user, counts.active.contains(user).then_some(day))?;
        }
        if upto > after {
            batch.put(&CURSOR, &THE_CURSOR, &upto);
        }
        self.parts.store.commit(batch).await?;
        Ok(())
    }

    /// A room that cannot be read must not keep all others from being counted.
    fn count_room_if_readable(
        &self,
        room: RoomNid,
        range: (StreamPos, StreamPos),
        counts: &mut Counts,
    ) -> Result<(), AdminError> {
        match self.count_room(room, range, counts) {
            Err(error) if !error.is_of_store() => {
                tracing::warn!(room = room.0, %error, "a room is left out of statistics");
                Ok(())
            }
            counted => Ok(counted?),
        }
    }

    /// Counts the events of a room that came after one position and up to another.
    fn count_room(
        &self,
        room: RoomNid,
        (after, upto): (StreamPos, StreamPos),
        counts: &mut Counts,
    ) -> Result<(), rooms::RoomError> {
        let Some(head) = self.head_of(room)? else { return Ok(()) };
        let mut until = head.last_seq().next();
        loop {
            let events = self.parts.rooms.events_back(room, RoomSeq::FIRST, until, CHUNK)?;
            let is_last = events.len() < CHUNK;
            for event in events {
                if event.pos() <= after {
                    return Ok(());
                }
                until = event.seq();
                if event.pos() > upto {
                    continue;
                }
                if event.seq() == RoomSeq::FIRST {
                    counts.new_rooms += 1;
                }
                if !event.flags().is_visible() {
                    continue;
                }
                let is_local = self.is_local(event.sender());
                if is_local && event.sender_id().is_some_and(|sender| self.is_somebody(&sender)) {
                    counts.active.insert(event.sender_nid());
                }
                *counts.messages.entry((room, event.kind().to_owned(), is_local)).or_default() += 1;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The head of a room; none of one that is, or was, deleted.
    pub(super) fn head_of(&self, room: RoomNid) -> Result<Option<Arc<Head>>, rooms::RoomError> {
        if self.parts.rooms.is_deleting(room)? {
            return Ok(None);
        }
        match self.parts.rooms.head(room) {
            // It was deleted just now.
            Err(_) if self.parts.rooms.is_deleting(room)? => Ok(None),
            head => head.map(Some),
        }
    }

    /// Notes of a user what is not counted yet: that the account was made, closed or opened, and that it was active.
    fn count_user(&self, batch: &mut Batch, user: UserNid, active_on: Option<Day>) -> Result<(), AdminError> {
        let known = self.parts.store.get(&KNOWN, &user)?;
        let mut row = known.unwrap_or_default();
        if let Some(account) = self.parts.users.account(user)?.filter(|account| self.is_somebody(&account.user_id)) {
            if !row.has_account {
                batch.add(&FACTS, &Fact::NewUsers.of(day_of(account.created_ms)), 1);
                row.has_account = true;
            }
            let is_open = !account.is_deactivated;
            if row.is_open != is_open {
                batch.add(&TOTALS, &(Total::Users as u8), if is_open { 1 } else { -1 });
                row.is_open = is_open;
            }
        }
        if let Some(day) = active_on
            && !self.parts.store.contains(&ACTIVE, &(day, user))?
        {
            batch.put(&ACTIVE, &(day, user), &());
            batch.add(&FACTS, &Fact::DailyActive.of(day), 1);
            for day in months_gained(row.last_active, day) {
                batch.add(&FACTS, &Fact::MonthlyActive.of(day), 1);
            }
            row.last_active = Some(day);
        }
        if known != Some(row) {
            batch.put(&KNOWN, &user, &row);
        }
        Ok(())
    }

    /// Whether a user's account was used on this day; it may also be that something about it has changed.
    fn was_seen(&self, user: UserNid, day: Day) -> Result<bool, AdminError> {
        let seen = self.parts.users.devices(user)?.into_iter().filter_map(|device| device.last_seen_ms);
        Ok(seen.max().is_some_and(|seen| day_of(seen) >= day))
    }

    /// Whether a user is not the server itself, who answers in the admin room and sends notices.
    pub(super) fn is_somebody(&self, user: &UserId) -> bool {
        !self.parts.users.is_server_user(user)
    }

    fn is_local(&self, sender: &str) -> bool {
        sender.split_once(':').is_some_and(|(_, server)| server == self.parts.rooms.server_name().as_str())
    }
}

/// The days for which a user counts as active in the month up to them, once active on `day`, and did not before, when
/// `last` was the last time. A user who is active every day gains one. A last time that is not in the past is a mistake of
/// the clock, and does not count.
pub(super) fn months_gained(last: Option<Day>, day: Day) -> std::ops::Range<Day> {
    let counted_until = last.filter(|last| *last < day).map_or(0, |last| last.saturating_add(MONTH));
    counted_until.max(day)..day.saturating_add(MONTH)
}

impl Types {
    /// The name under which a type is counted: rows must stay few, whatever types users think of.
    fn name(&mut self, day: Day, kind: &str) -> String {
        if self.day != day {
            *self = Types { day, known: BTreeSet::new() };
        }
        if self.known.contains(kind) {
            return kind.to_owned();
        }
        if kind.len() > MAX_TYPE_BYTES || self.known.len() >= MAX_TYPES {
            return OTHER_TYPE.to_owned();
        }
        self.known.insert(kind.into());
        kind.to_owned()
    }
}
