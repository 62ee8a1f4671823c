//! What changed lately, in memory: the last commits' topics in order, and each topic's last change.
//!
//! It is brought up to date on the committer's thread before a position becomes visible: who reads at
//! a visible position finds in here everything up to it. Of what changed before its floor it knows
//! nothing, and says so: there everything may have changed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;
use rooms::{Membership, RoomNid, TOPIC_EPHEMERAL, TOPIC_MEMBERSHIP, TOPIC_ROOM, UserNid, UserRoom};
use storage::{Committed, Store, StreamPos, Topic};

/// Hashes the dense numbers that this server itself gives out; nobody outside chooses them.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;
pub(crate) type NumberSet<K> = std::collections::HashSet<K, BuildHasherDefault<NumberHasher>>;

/// How many of the user's rooms one looks up instead of walking through this many changes.
const WALK_PER_ROOM: usize = 4;
const WALK_ALWAYS: usize = 64;

#[derive(Default)]
struct Log {
    /// (position, topic), oldest first.
    entries: VecDeque<(StreamPos, Topic)>,
    /// Positions up to here are not, or not completely, in `entries`.
    floor: StreamPos,
    last: NumberMap<Topic, StreamPos>,
}

/// The recent changes.
pub(crate) struct Feed {
    log: RwLock<Log>,
    capacity: usize,
}

/// Which of a user's joined rooms changed after some position. Each list is sorted, without duplicates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomChanges {
    /// Rooms with new events.
    pub timelines: Vec<RoomNid>,
    /// Rooms with new receipts.
    pub receipts: Vec<RoomNid>,
    /// Whose membership changed where; `None` if that has to be looked up in the rooms.
    pub members: Option<Vec<(RoomNid, UserNid)>>,
}

impl Feed {
    /// Follows a store's commits from now on.
    pub fn follow(store: &Store, capacity: usize) -> Arc<Feed> {
        let feed = Arc::new(Feed { log: RwLock::default(), capacity: capacity.max(1024) });
        let observer = feed.clone();
        store.on_commit(Arc::new(move |commits| observer.record(commits)));
        // What was committed while this was being set up may be half known.
        let mut log = feed.log.write();
        log.floor = log.floor.max(store.visible().next());
        drop(log);
        feed
    }

    fn record(&self, commits: &[Committed]) {
        let mut log = self.log.write();
        for commit in commits {
            for &topic in &commit.topics {
                log.entries.push_back((commit.pos, topic));
                log.last.insert(topic, commit.pos);
            }
        }
        while log.entries.len() > self.capacity {
            let Some((pos, topic)) = log.entries.pop_front() else { break };
            log.floor = log.floor.max(pos);
            if log.last.get(&topic) == Some(&pos) {
                log.last.remove(&topic);
            }
        }
    }

    /// Whether the topic changed after a position; true also if that is not known.
    pub fn may_have_changed(&self, topic: Topic, since: StreamPos) -> bool {
        let log = self.log.read();
        since < log.floor || log.last.get(&topic).is_some_and(|pos| *pos > since)
    }

    /// Which of the user's joined rooms changed after `since`.
    pub fn room_changes(&self, since: StreamPos, rows: &BTreeMap<RoomNid, UserRoom>) -> RoomChanges {
        let log = self.log.read();
        if since < log.floor {
            let all: Vec<_> = joined(rows).collect();
            return RoomChanges { timelines: all.clone(), receipts: all, members: None };
        }
        let start = log.entries.partition_point(|(pos, _)| *pos <= since);
        if log.entries.len() - start <= WALK_ALWAYS.max(rows.len() * WALK_PER_ROOM) {
            return walk(log.entries.range(start..), rows);
        }
        let changed = |kind: u8| {
            let newer = |room: &RoomNid| log.last.get(&Topic::new(kind, room.0)).is_some_and(|pos| *pos > since);
            joined(rows).filter(newer).collect()
        };
        RoomChanges { timelines: changed(TOPIC_ROOM), receipts: changed(TOPIC_EPHEMERAL), members: None }
    }
}

fn joined(rows: &BTreeMap<RoomNid, UserRoom>) -> impl Iterator<Item = RoomNid> + '_ {
    rows.iter().filter(|(_, row)| row.membership == Membership::Join).map(|(room, _)| *room)
}

fn walk<'a>(entries: impl Iterator<Item = &'a (StreamPos, Topic)>, rows: &BTreeMap<RoomNid, UserRoom>) -> RoomChanges {
    let mut changes = RoomChanges::default();
    let mut members = Vec::new();
    let (mut at, mut here, mut moved) = (StreamPos::ZERO, None, Vec::new());
    let is_joined = |room: &RoomNid| rows.get(room).is_some_and(|row| row.membership == Membership::Join);
    for &(pos, topic) in entries {
        if pos != at {
            pair_up(&mut members, here.take(), &mut moved);
            at = pos;
        }
        match topic.kind() {
            TOPIC_ROOM => {
                let room = RoomNid(topic.id());
                if is_joined(&room) {
                    changes.timelines.push(room);
                    here = Some(room);
                }
            }
            TOPIC_EPHEMERAL => changes.receipts.extend(Some(RoomNid(topic.id())).filter(is_joined)),
            TOPIC_MEMBERSHIP => moved.push(UserNid(topic.id())),
            _ => {}
        }
    }
    pair_up(&mut members, here, &mut moved);
    for list in [&mut changes.timelines, &mut changes.receipts] {
        list.sort_unstable();
        list.dedup();
    }
    members.sort_unstable();
    members.dedup();
    changes.members = Some(members);
    changes
}

/// One commit changes one room: the users whose membership it changes are moved in that room.
fn pair_up(members: &mut Vec<(RoomNid, UserNid)>, room: Option<RoomNid>, moved: &mut Vec<UserNid>) {
    members.extend(room.into_iter().flat_map(|room| moved.iter().map(move |user| (room, *user))));
    moved.clear();
}

#[cfg(test)]
mod tests;
