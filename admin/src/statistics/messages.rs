//! Asking for events by day, room, type and origin.

use std::collections::BTreeMap;

use rooms::RoomNid;
use storage::Read;

use super::follow::Statistics;
use super::rows::{ALL_ROOMS, MESSAGES};
use super::{Day, Dimension, check_range};
use crate::error::AdminError;

/// A number of events, and what they have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageCount {
    /// The day, if days are told apart.
    pub day: Option<Day>,
    /// The room, if rooms are told apart; `None` for old days, of which it is not known any more.
    pub room: Option<RoomNid>,
    /// The type, if types are told apart.
    pub kind: Option<String>,
    /// Whether of users of this server, if that is told apart.
    pub is_local: Option<bool>,
    /// How many.
    pub count: u64,
}

impl Statistics {
    /// Events from one day to another, both included, by the dimensions that are asked for; of one room if it is given.
    ///
    /// # Errors
    /// A range that is too long; storage errors.
    pub fn messages(
        &self,
        range: (Day, Day),
        room: Option<RoomNid>,
        by: &[Dimension],
    ) -> Result<Vec<MessageCount>, AdminError> {
        check_range(range)?;
        let mut sums = BTreeMap::new();
        let scan = self.parts.store.scan(&MESSAGES, &());
        for row in scan.from_prefix(&range.0).until_prefix(&range.1.saturating_add(1)).iter() {
            let ((day, in_room, kind, is_local), count) = row?;
            if room.is_some_and(|room| room != in_room) {
                continue;
            }
            let key = (
                by.contains(&Dimension::Day).then_some(day),
                (by.contains(&Dimension::Room) && in_room != ALL_ROOMS).then_some(in_room),
                by.contains(&Dimension::Type).then_some(kind),
                by.contains(&Dimension::Origin).then_some(is_local),
            );
            let sum: &mut u64 = sums.entry(key).or_default();
            *sum = sum.saturating_add(u64::try_from(count).unwrap_or(0));
        }
        let counts = sums.into_iter();
        Ok(counts
            .map(|((day, room, kind, is_local), count)| MessageCount { day, room, kind, is_local, count })
            .collect())
    }

    /// The id of a room; none if it was deleted.
    ///
    /// # Errors
    /// Storage errors.
    pub fn room_id(&self, room: RoomNid) -> Result<Option<String>, AdminError> {
        Ok(self.head_of(room)?.map(|head| head.room_id().to_string()))
    }
}
