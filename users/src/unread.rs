//! Unread counts per room and thread, computed when they are asked for.
//!
//! Spec: Client-Server API §"Receiving notifications", §"Threading" (unread counts), §"Receipts".
//!
//! Nothing is written when an event arrives. A reader's tally remembers, in memory, up to which event it has looked
//! and which of those events notify; asking again looks only at newer ones. A tally that was evicted, or lost by a
//! restart, is made again from the user's receipts. Tallies are bounded both ways: they look back over at most
//! [`MAX_LOOK_BACK`] events and stop counting at [`MAX_NOTABLE`] notifying ones.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use rooms::{Event, EventFlags, Head, Membership, Receipt, RoomNid, RoomSeq, UserNid};
use serde::Deserialize;

use crate::{
    UserError, Users,
    notices::{NoticeReader, NoticeRoom},
};

pub(crate) mod glance;

/// How far back a new tally looks, in events.
const MAX_LOOK_BACK: i64 = 10_000;
/// How many notifying events a tally keeps; further ones push the oldest out.
const MAX_NOTABLE: usize = 1_000;
const PAGE_EVENTS: usize = 500;
const CACHED_TALLIES: usize = 20_000;

/// Unread events that notify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnreadCounts {
    /// How many.
    pub notifications: u64,
    /// How many of them are highlighted.
    pub highlights: u64,
}

/// The unread counts of one user in one room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomUnread {
    /// Of events in no thread.
    pub main: UnreadCounts,
    /// Of events in threads, by thread root; threads without unread events are absent.
    pub threads: BTreeMap<Box<str>, UnreadCounts>,
}

impl RoomUnread {
    /// All of them together: what a client sees that does not ask for threads.
    pub fn total(&self) -> UnreadCounts {
        self.threads.values().fold(self.main, |sum, counts| UnreadCounts {
            notifications: sum.notifications + counts.notifications,
            highlights: sum.highlights + counts.highlights,
        })
    }
}

/// Tallies by reader and room.
pub(crate) struct Tallies(Cache<(UserNid, RoomNid), Arc<Mutex<Tally>>>);

impl Tallies {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CACHED_TALLIES))
    }

    fn of(&self, user: UserNid, room: RoomNid) -> Arc<Mutex<Tally>> {
        let key = (user, room);
        self.0.get(&key).unwrap_or_else(|| {
            let tally = Arc::<Mutex<Tally>>::default();
            // Two readers at once may make two tallies: each is right, one is kept.
            self.0.insert(key, Arc::clone(&tally));
            tally
        })
    }
}

#[derive(Clone, Debug)]
struct Notable {
    seq: RoomSeq,
    thread: Option<Box<str>>,
    highlight: bool,
}

#[derive(Debug)]
pub(crate) struct Tally {
    counted_to: RoomSeq,
    notable: VecDeque<Notable>,
    /// Whether some of them may have been redacted since they were counted.
    saw_redaction: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self { counted_to: RoomSeq(0), notable: VecDeque::new(), saw_redaction: false }
    }
}

impl Tally {
    fn add(&mut self, notable: Notable) {
        if self.notable.len() >= MAX_NOTABLE {
            self.notable.pop_front();
        }
        self.notable.push_back(notable);
    }

    /// Forgets what has been read (receipts never move back) and counts the rest.
    fn count(&mut self, marks: &ReadMarks) -> RoomUnread {
        self.notable.retain(|notable| !marks.has_read(notable.seq, notable.thread.as_deref()));
        let mut unread = RoomUnread::default();
        for notable in &self.notable {
            let counts = match &notable.thread {
                Some(thread) => unread.threads.entry(thread.clone()).or_default(),
                None => &mut unread.main,
            };
            counts.notifications += 1;
            counts.highlights += u64::from(notable.highlight);
        }
        unread
    }
}

/// Up to where a user has read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadMarks {
    /// By unthreaded receipts: in the whole room.
    everywhere: RoomSeq,
    /// By receipts for `main`: in no thread.
    main: RoomSeq,
    /// By receipts for a thread: in it.
    threads: BTreeMap<Box<str>, RoomSeq>,
}

impl ReadMarks {
    /// Without any receipt, what came before the user's own member event counts as read.
    fn of(receipts: &[Receipt], member_since: RoomSeq) -> Self {
        let mut marks = Self { everywhere: RoomSeq(0), main: RoomSeq(0), threads: BTreeMap::new() };
        if receipts.is_empty() {
            marks.everywhere = member_since;
        }
        for receipt in receipts {
            let mark = match receipt.thread.as_deref() {
                None | Some("") => &mut marks.everywhere,
                Some("main") => &mut marks.main,
                Some(root) => marks.threads.entry(root.into()).or_insert(RoomSeq(0)),
            };
            *mark = (*mark).max(receipt.seq);
        }
        marks
    }

    /// Whether the event is read.
    pub(crate) fn covers(&self, event: &Event) -> bool {
        self.has_read(event.seq(), thread_root(event.content()).as_deref())
    }

    fn has_read(&self, seq: RoomSeq, thread: Option<&str>) -> bool {
        let in_thread = match thread {
            None => Some(self.main),
            Some(root) => self.threads.get(root).copied(),
        };
        seq <= self.everywhere || in_thread.is_some_and(|mark| seq <= mark)
    }
}

#[derive(Deserialize)]
struct RelatingContent<'a> {
    #[serde(borrow, default, rename = "m.relates_to")]
    relates_to: Option<Relation<'a>>,
}

#[derive(Deserialize)]
struct Relation<'a> {
    #[serde(borrow, default)]
    rel_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    event_id: Option<Cow<'a, str>>,
}

/// The root of the thread that an event is in.
pub(crate) fn thread_root(content: &str) -> Option<Box<str>> {
    // Most events relate to nothing: looking for the word is cheaper than parsing.
    if !content.contains("m.thread") {
        return None;
    }
    let relation = serde_json::from_str::<RelatingContent<'_>>(content).ok()?.relates_to?;
    relation.rel_type.filter(|rel_type| rel_type == "m.thread")?;
    relation.event_id.map(|root| root.as_ref().into())
}

/// What an event of a room is to a reader, if it notifies them.
fn judge(event: &Event, room: &NoticeRoom, reader: &NoticeReader) -> Result<Option<Notable>, UserError> {
    let Some(prepared) = room.event(event).filter(|_| event.flags().is_visible()) else { return Ok(None) };
    let outcome = prepared.outcome(reader)?;
    let highlight = outcome.highlight;
    Ok(outcome.notify.then(|| Notable { seq: event.seq(), thread: thread_root(event.content()), highlight }))
}

impl Users {
    /// The unread counts of `user` in `room`; zero unless they are joined. Costs the events that arrived since it was
    /// last asked, a few microseconds each.
    pub fn unread_counts(&self, user: UserNid, room: RoomNid) -> Result<RoomUnread, UserError> {
        let member = self.rooms().membership(room, user)?;
        let Some(member) = member.filter(|member| member.membership == Membership::Join) else {
            return Ok(RoomUnread::default());
        };
        let head = self.rooms().head(room)?;
        let marks = self.read_marks_since(room, user, member.seq)?;
        let tally = self.inner.tallies.of(user, room);
        let mut tally = tally.lock();
        if tally.counted_to < head.last_seq() || tally.saw_redaction {
            self.catch_up(&mut tally, user, &head, &marks)?;
        }
        Ok(tally.count(&marks))
    }

    /// Up to where the user has read the room.
    pub(crate) fn read_marks(&self, room: RoomNid, user: UserNid) -> Result<ReadMarks, UserError> {
        let member_since = self.rooms().membership(room, user)?.map_or(RoomSeq(0), |row| row.seq);
        self.read_marks_since(room, user, member_since)
    }

    fn read_marks_since(&self, room: RoomNid, user: UserNid, member_since: RoomSeq) -> Result<ReadMarks, UserError> {
        Ok(ReadMarks::of(&self.rooms().user_receipts(room, user)?, member_since))
    }

    fn catch_up(&self, tally: &mut Tally, user: UserNid, head: &Arc<Head>, marks: &ReadMarks) -> Result<(), UserError> {
        let (reader, room) = (self.notice_reader(user)?, NoticeRoom::of_head(Arc::clone(head)));
        let look_back = RoomSeq(head.last_seq().0.saturating_sub(MAX_LOOK_BACK));
        let mut after = tally.counted_to.max(marks.everywhere).max(look_back);
        loop {
            let events = self.rooms().events_after(head.room(), after, PAGE_EVENTS)?;
            let Some(last) = events.last() else { break };
            after = last.seq();
            for event in &events {
                tally.saw_redaction |= event.kind() == "m.room.redaction";
                if let Some(notable) = judge(event, &room, &reader)? {
                    tally.add(notable);
                }
                // One by one: what was counted is not counted again if the next one cannot be judged or read.
                tally.counted_to = event.seq();
            }
        }
        tally.counted_to = after;
        // Once for all of them: a room may be full of redactions.
        if tally.saw_redaction {
            self.forget_redacted(tally, head.room())?;
            tally.saw_redaction = false;
        }
        Ok(())
    }

    /// Drops events that have been redacted since they were counted.
    fn forget_redacted(&self, tally: &mut Tally, room: RoomNid) -> Result<(), UserError> {
        let mut kept = VecDeque::with_capacity(tally.notable.len());
        for notable in &tally.notable {
            let event = self.rooms().find_event_at(room, notable.seq)?;
            if event.is_some_and(|event| !event.flags().has(EventFlags::REDACTED)) {
                kept.push_back(notable.clone());
            }
        }
        tally.notable = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
