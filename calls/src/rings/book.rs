//! The calls that ring now.

use std::collections::HashMap;

use rooms::{RoomNid, UserNid};

use super::{RingOutcome, RingRow};

/// How many calls may ring at a time; more are not noted.
const MAX_RINGING: usize = 10_000;

/// A call that rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    pub room: RoomNid,
    pub caller: UserNid,
    pub event_id: String,
    /// The name of a call between two.
    pub call: Option<String>,
    pub rang_ms: u64,
    pub until_ms: u64,
    /// Users of this server, and what they did.
    pub callees: Vec<(UserNid, Option<RingOutcome>)>,
}

impl Ring {
    fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms || self.callees.iter().all(|(_, outcome)| outcome.is_some())
    }

    /// The first thing that somebody does counts.
    fn note(&mut self, user: UserNid, outcome: RingOutcome) {
        for (callee, noted) in &mut self.callees {
            if *callee == user {
                noted.get_or_insert(outcome);
            }
        }
    }

    fn into_row(self) -> RingRow {
        let missed = |(user, outcome): (UserNid, Option<RingOutcome>)| (user, outcome.unwrap_or(RingOutcome::Missed));
        RingRow {
            room: self.room,
            caller: self.caller,
            event_id: self.event_id,
            rang_ms: self.rang_ms,
            callees: self.callees.into_iter().map(missed).collect(),
        }
    }
}

/// All of them, by room.
#[derive(Debug, Default)]
pub(crate) struct Book {
    rings: HashMap<RoomNid, Vec<Ring>>,
}

impl Book {
    /// It begins to ring. Nothing is noted that rings for nobody here.
    pub fn begin(&mut self, ring: Ring) {
        if !ring.callees.is_empty() && self.rings.values().map(Vec::len).sum::<usize>() < MAX_RINGING {
            self.rings.entry(ring.room).or_default().push(ring);
        }
    }

    /// A user takes part in the call of the room.
    pub fn note_join(&mut self, room: RoomNid, user: UserNid) {
        for ring in self.rings.get_mut(&room).into_iter().flatten().filter(|ring| ring.call.is_none()) {
            ring.note(user, RingOutcome::Answered);
        }
    }

    /// A user refuses the call that an event began.
    pub fn note_decline(&mut self, room: RoomNid, user: UserNid, event_id: &str) {
        for ring in self.rings.get_mut(&room).into_iter().flatten().filter(|ring| ring.event_id == event_id) {
            ring.note(user, RingOutcome::Declined);
        }
    }

    /// A user answers a call between two.
    pub fn note_answer(&mut self, room: RoomNid, user: UserNid, call: &str) {
        for ring in self.between_two(room, call) {
            ring.note(user, RingOutcome::Answered);
        }
    }

    /// A user refuses a call between two, or its caller gives up.
    pub fn note_end(&mut self, room: RoomNid, user: UserNid, call: &str) {
        for ring in self.between_two(room, call) {
            if user == ring.caller {
                ring.until_ms = 0;
            }
            ring.note(user, RingOutcome::Declined);
        }
    }

    fn between_two<'a>(&'a mut self, room: RoomNid, call: &'a str) -> impl Iterator<Item = &'a mut Ring> {
        self.rings.get_mut(&room).into_iter().flatten().filter(move |ring| ring.call.as_deref() == Some(call))
    }

    /// Takes out what rings no more.
    pub fn take_over(&mut self, now_ms: u64) -> Vec<RingRow> {
        let mut over = Vec::new();
        self.rings.retain(|_, rings| {
            over.extend(rings.extract_if(.., |ring| ring.is_over(now_ms)).map(Ring::into_row));
            !rings.is_empty()
        });
        over
    }

    /// When the next one is over if nobody does anything.
    pub fn next_end_ms(&self) -> Option<u64> {
        self.rings.values().flatten().map(|ring| ring.until_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomNid = RoomNid(1);
    const CALLER: UserNid = UserNid(1);
    const ALICE: UserNid = UserNid(2);
    const BOB: UserNid = UserNid(3);

    fn ring(call: Option<&str>) -> Ring {
        Ring {
            room: ROOM,
            caller: CALLER,
            event_id: "$ring".to_owned(),
            call: call.map(str::to_owned),
            rang_ms: 1_000,
            until_ms: 31_000,
            callees: vec![(ALICE, None), (BOB, None)],
        }
    }

    fn outcomes(rows: &[RingRow]) -> Vec<(UserNid, RingOutcome)> {
        rows.iter().flat_map(|row| row.callees.clone()).collect()
    }

    #[test]
    fn whoever_does_nothing_has_missed_it() {
        let mut book = Book::default();
        book.begin(ring(None));
        book.note_join(RoomNid(9), ALICE);
        book.note_decline(ROOM, BOB, "$another");
        book.note_join(ROOM, ALICE);
        book.note_decline(ROOM, ALICE, "$ring");
        assert_eq!((book.take_over(30_999), book.next_end_ms()), (Vec::new(), Some(31_000)));
        let over = book.take_over(31_000);
        assert_eq!(outcomes(&over), [(ALICE, RingOutcome::Answered), (BOB, RingOutcome::Missed)]);
        assert_eq!(book.next_end_ms(), None);
    }

    #[test]
    fn it_is_over_when_all_have_done_something() {
        let mut book = Book::default();
        book.begin(ring(None));
        book.note_join(ROOM, BOB);
        book.note_decline(ROOM, ALICE, "$ring");
        assert_eq!(outcomes(&book.take_over(2_000)), [(ALICE, RingOutcome::Declined), (BOB, RingOutcome::Answered)]);
    }

    #[test]
    fn a_caller_who_gives_up_is_missed() {
        let mut book = Book::default();
        book.begin(ring(Some("call")));
        book.note_join(ROOM, ALICE);
        book.note_end(ROOM, CALLER, "another");
        assert!(book.take_over(2_000).is_empty());
        book.note_answer(ROOM, ALICE, "call");
        book.note_end(ROOM, CALLER, "call");
        assert_eq!(outcomes(&book.take_over(2_000)), [(ALICE, RingOutcome::Answered), (BOB, RingOutcome::Missed)]);
    }
}
