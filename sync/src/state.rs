//! Which state events a client needs along with a timeline.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rooms::{Event, RoomNid, RoomSeq, Rooms, SnapshotId, UserNid};
use storage::StreamPos;

use crate::error::SyncError;
use crate::filter::RoomEventFilter;
use crate::sync::Inner;
use crate::timeline::{Room, Timeline};

const MEMBER: &str = "m.room.member";
const CACHED_ROOMS: usize = 4000;
const CACHED_BYTES: u64 = 16 << 20;
/// Up to this many members, telling members from other state is quickly done.
const CHEAP_MEMBERS: u32 = 100;

/// What state is asked for.
pub(crate) struct StateQuery<'a> {
    /// Changes after this position; everything if `None`.
    pub since: Option<StreamPos>,
    /// State at the end of the timeline instead of at its start.
    pub after_timeline: bool,
    /// Leave out the members that the client need not know now.
    pub lazy: Option<LazyMembers<'a>>,
    pub filter: &'a RoomEventFilter,
}

/// Who is to be known, and what the client has.
pub(crate) struct LazyMembers<'a> {
    /// For [`crate::members::SentMembers`].
    pub to: u64,
    pub since: StreamPos,
    pub include_redundant: bool,
    /// Needed besides the senders of the timeline: the heroes, the user.
    pub needed: &'a [UserNid],
}

impl Inner {
    /// The state events asked for, without those that the timeline holds (unless `after_timeline`).
    pub fn read_state(
        &self,
        room: &Room<'_>,
        timeline: &Timeline,
        query: &StateQuery<'_>,
    ) -> Result<Vec<Event>, SyncError> {
        let nid = room.view.room();
        let mut seqs = match (query.since, &query.lazy) {
            (None, None) => self.rooms.state_seqs(nid, timeline.snapshot)?,
            (None, Some(_)) => self.plain_states.read(&self.rooms, nid, timeline.snapshot)?.seqs().collect(),
            (Some(since), _) => self.rooms.state_changes(nid, since, room.until)?,
        };
        if !query.after_timeline {
            seqs.retain(|seq| !timeline.has(*seq));
        }
        let mut events = Vec::with_capacity(seqs.len());
        for seq in seqs {
            events.push(self.rooms.event_at(nid, seq)?);
        }
        if !query.after_timeline {
            self.add_replaced(timeline, query, &mut events)?;
        }
        if let Some(lazy) = &query.lazy {
            self.add_lazy_members(room, timeline, query, lazy, &mut events)?;
        }
        events.retain(|event| query.filter.matches(event));
        Ok(events)
    }

    /// What state events of the timeline replace was the state before it.
    fn add_replaced(
        &self,
        timeline: &Timeline,
        query: &StateQuery<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), SyncError> {
        for event in timeline.events.iter().filter(|event| event.state_key().is_some()) {
            let Some(seq) = event.replaces().filter(|seq| !timeline.has(*seq)) else { continue };
            let replaced = self.rooms.event_at(event.room(), seq)?;
            let unknown = query.since.is_none_or(|since| replaced.pos() > since);
            let shown = query.lazy.is_some() && event.kind() == MEMBER && is_sender(timeline, event.state_key());
            let all = query.lazy.is_none() || event.kind() != MEMBER || query.since.is_some();
            if (unknown && all) || shown {
                events.push(replaced);
            }
        }
        Ok(())
    }

    fn add_lazy_members(
        &self,
        room: &Room<'_>,
        timeline: &Timeline,
        query: &StateQuery<'_>,
        lazy: &LazyMembers<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), SyncError> {
        let nid = room.view.room();
        let mut needed: Vec<UserNid> =
            timeline.events.iter().map(Event::sender_nid).chain(lazy.needed.iter().copied()).collect();
        needed.sort_unstable();
        needed.dedup();
        let mut sent = Vec::with_capacity(needed.len());
        for member in needed {
            let id = self.rooms.user_id(member)?;
            let Some(seq) = room.find_member(timeline, member, id.as_str())? else { continue };
            sent.push((member, seq));
            let there = events.iter().any(|event| event.seq() == seq) || (!query.after_timeline && timeline.has(seq));
            let known = !lazy.include_redundant && self.sent_members.has(lazy.to, nid, member, seq, lazy.since);
            if !there && !known {
                events.push(self.rooms.event_at(nid, seq)?);
            }
        }
        // Entries that were there before keep their older answer, unless this one had to bring them again.
        sent.retain(|(member, seq)| !self.sent_members.has(lazy.to, nid, *member, *seq, lazy.since));
        self.sent_members.record(lazy.to, nid, &sent, room.until, query.since.is_none());
        Ok(())
    }
}

fn is_sender(timeline: &Timeline, user: Option<&str>) -> bool {
    timeline.events.iter().any(|event| Some(event.sender()) == user)
}

/// One state event that is not a member event.
pub(crate) struct PlainEntry {
    pub seq: RoomSeq,
    pub kind: Box<str>,
    pub state_key: Box<str>,
}

/// A room's state, and which of it are not member events.
pub(crate) struct PlainState {
    snapshot: SnapshotId,
    /// Everything, in order of numbers.
    all: Box<[RoomSeq]>,
    /// In order of numbers.
    pub plain: Box<[PlainEntry]>,
}

impl PlainState {
    /// The number of the event of this type and state key, which is not that of members.
    pub fn find(&self, kind: &str, state_key: &str) -> Option<RoomSeq> {
        let found = self.plain.iter().find(|entry| &*entry.kind == kind && &*entry.state_key == state_key);
        found.map(|entry| entry.seq)
    }

    /// The numbers of all.
    pub fn seqs(&self) -> impl Iterator<Item = RoomSeq> + '_ {
        self.plain.iter().map(|entry| entry.seq)
    }

    fn entry(&self, seq: RoomSeq) -> Option<&PlainEntry> {
        let place = self.plain.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
        self.plain.get(place)
    }
}

/// Counts the bytes of what is cached, roughly.
#[derive(Clone)]
struct StateWeight;

impl Weighter<RoomNid, Arc<PlainState>> for StateWeight {
    fn weight(&self, _: &RoomNid, state: &Arc<PlainState>) -> u64 {
        100 + state.all.len() as u64 * 8 + state.plain.len() as u64 * 80
    }
}

/// The last state asked for of some rooms: finding the few events that are not members among many costs a read of each
/// event, so it is done once, and for a later state only with what is new.
pub(crate) struct PlainStates(Cache<RoomNid, Arc<PlainState>, StateWeight>);

impl PlainStates {
    pub fn new() -> PlainStates {
        PlainStates(Cache::with_weighter(CACHED_ROOMS, CACHED_BYTES, StateWeight))
    }

    /// As [`PlainStates::read`], but for rooms where that may take long only if it is at hand.
    pub fn read_if_cheap(
        &self,
        rooms: &Rooms,
        room: RoomNid,
        snapshot: SnapshotId,
    ) -> Result<Option<Arc<PlainState>>, SyncError> {
        if rooms.head(room)?.joined_count() <= CHEAP_MEMBERS {
            return self.read(rooms, room, snapshot).map(Some);
        }
        Ok(self.0.get(&room).filter(|known| known.snapshot == snapshot))
    }

    /// The state of a room without its members.
    pub fn read(&self, rooms: &Rooms, room: RoomNid, snapshot: SnapshotId) -> Result<Arc<PlainState>, SyncError> {
        let known = self.0.get(&room);
        if let Some(known) = known.as_ref().filter(|known| known.snapshot == snapshot) {
            return Ok(known.clone());
        }
        let mut all = rooms.state_seqs(room, snapshot)?;
        all.sort_unstable();
        let mut plain = Vec::new();
        for &seq in &all {
            let old = known.as_ref().filter(|known| known.all.binary_search(&seq).is_ok());
            let (kind, state_key) = match old.map(|old| old.entry(seq)) {
                Some(None) => continue,
                Some(Some(entry)) => (entry.kind.clone(), entry.state_key.clone()),
                None => {
                    let event = rooms.event_at(room, seq)?;
                    if event.kind() == MEMBER {
                        continue;
                    }
                    (event.kind().into(), event.state_key().unwrap_or_default().into())
                }
            };
            plain.push(PlainEntry { seq, kind, state_key });
        }
        let state = Arc::new(PlainState { snapshot, all: all.into(), plain: plain.into() });
        self.0.insert(room, state.clone());
        Ok(state)
    }
}
