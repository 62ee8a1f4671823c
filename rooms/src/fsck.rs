//! Checks of every stored invariant of this crate, for `conduit fsck`. Reads only.

use std::collections::{BTreeMap, HashMap, HashSet};

use storage::{Read, Store};

use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::head::HeadRow;
use crate::ids::{RoomNid, RoomSeq, SnapshotId, UserNid};
use crate::keyspaces::{
    ALIASES, BACKWARD, DELETING, EVENT_IDS, EVENTS_BY_TIME, HEADS, ORDER, PARTIAL_ROOMS, PUBLIC_ROOMS, PURGED,
    RECEIPT_LOG, RECEIPTS, RELATIONS, RETENTION, ROOM_ALIASES, ROOM_MEMBERS, ROOM_NIDS, SLOT_KEYS, STATE_LOG,
    STATE_NODES, STATE_SLOTS, THREADS, THREADS_BY_LATEST, TIMELINE, USER_IDS, USER_NIDS, USER_ROOMS,
};
use crate::membership::Membership;
use crate::snapshot::{self, NewNodes, Node, Nodes};
use crate::visibility::membership_of;

mod delayed;
mod partial;
mod servers;
mod sticky;

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a room or user, as far as known.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// Counts of what was checked, and what was found broken.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How many rooms were checked.
    pub rooms: usize,
    /// How many events were checked.
    pub events: usize,
    /// What is broken.
    pub problems: Vec<Problem>,
}

impl Findings {
    fn add(&mut self, place: &str, what: impl Into<String>) {
        self.problems.push(Problem { place: place.to_owned(), what: what.into() });
    }

    fn expect(&mut self, holds: bool, place: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.add(place, what());
        }
    }
}

/// The stored nodes of one room, each read once.
struct StoredNodes<'a> {
    store: &'a Store,
    room: RoomNid,
}

impl Nodes for StoredNodes<'_> {
    type Error = RoomError;

    fn node(&self, id: u64) -> Result<std::sync::Arc<Node>, RoomError> {
        let node = self.store.get(&STATE_NODES, &(self.room, id))?;
        Ok(std::sync::Arc::new(node.ok_or(RoomError::Inconsistent("missing state node"))?))
    }
}

/// The id of a user with this number, for those who name users in findings of their own.
///
/// # Errors
/// Where the store cannot be read.
pub fn find_user_id(store: &Store, user: UserNid) -> Result<Option<String>, RoomError> {
    Ok(store.get(&USER_IDS, &user)?)
}

/// The keyspaces that have rows of a room: of one that was deleted there must be none.
///
/// # Errors
/// Where the store cannot be read.
pub fn rows_of(store: &Store, room: RoomNid) -> Result<Vec<&'static str>, RoomError> {
    let mut found = Vec::new();
    macro_rules! look {
        ($($keyspace:ident),*) => {
            $(if !store.scan(&crate::keyspaces::$keyspace, &room).is_empty()? { found.push(crate::keyspaces::$keyspace.name()); })*
        };
    }
    look!(TIMELINE, ORDER, EVENTS_BY_TIME, STATE_SLOTS, SLOT_KEYS, STATE_NODES, STATE_LOG, ROOM_MEMBERS, ROOM_SERVERS);
    look!(SERVER_MEMBERS, STRIPPED, RELATIONS, THREADS, THREADS_BY_LATEST, PROMOTED, BACKWARD, EARLY_REDACTIONS);
    look!(RECEIPTS, RECEIPT_LOG, ROOM_ALIASES, DELAYED_OF_STATE, PARTIAL_SERVERS, PARTIAL_EVENTS, MISSED_SERVERS);
    look!(EARLY_INVITES);
    for key in store.scan(&EVENT_IDS, &()).iter() {
        if key?.1.room == room {
            found.push(EVENT_IDS.name());
            break;
        }
    }
    let has_one = store.contains(&PURGED, &room)? || store.contains(&RETENTION, &room)?;
    if store.contains(&HEADS, &room)? || has_one || store.contains(&PUBLIC_ROOMS, &room)? {
        found.push(HEADS.name());
    }
    Ok(found)
}

/// Checks everything stored about rooms. `progress` is told of each room before it is checked.
///
/// # Errors
/// Where the store cannot be read at all; what can be read and is wrong is in the findings.
pub fn check(store: &Store, progress: &mut dyn FnMut(usize)) -> Result<Findings, RoomError> {
    let mut findings = Findings::default();
    check_users(store, &mut findings)?;
    for row in store.scan(&HEADS, &()).iter() {
        let (room, head) = row?;
        progress(findings.rooms);
        if store.contains(&DELETING, &room)? {
            // Its rows are being taken out, in any order.
            continue;
        }
        let place = head.room_id.to_string();
        if let Err(error) = check_room(store, room, &head, &place, &mut findings) {
            findings.add(&place, format!("cannot be read: {error}"));
        }
        findings.rooms += 1;
    }
    check_event_ids(store, &mut findings)?;
    servers::check_strays(store, &mut findings)?;
    partial::check_strays(store, &mut findings)?;
    delayed::check_delayed(store, &mut findings)?;
    sticky::check_sticky(store, &mut findings)?;
    check_directory(store, &mut findings)?;
    Ok(findings)
}

fn check_users(store: &Store, findings: &mut Findings) -> Result<(), RoomError> {
    for row in store.scan(&USER_NIDS, &()).iter() {
        let (user, nid) = row?;
        let back = store.get(&USER_IDS, &nid)?;
        findings.expect(back.as_ref() == Some(&user), &user, || format!("its number {} belongs to {back:?}", nid.0));
    }
    for row in store.scan(&USER_IDS, &()).iter() {
        let (nid, user) = row?;
        let forth = store.get(&USER_NIDS, &user)?;
        findings.expect(forth == Some(nid), &user, || format!("number {} is not found by its id", nid.0));
    }
    Ok(())
}

fn check_room(
    store: &Store,
    room: RoomNid,
    head: &HeadRow,
    place: &str,
    findings: &mut Findings,
) -> Result<(), RoomError> {
    let nid = store.get(&ROOM_NIDS, &place.to_owned())?;
    findings.expect(nid == Some(room), place, || format!("the room id leads to {nid:?}, not to {room:?}"));
    for (id, seq) in &head.extremities {
        let found = store.get(&EVENT_IDS, &id.to_string())?;
        findings.expect(found.is_some_and(|found| found.room == room && found.seq == *seq), place, || {
            format!("forward extremity {id} is not event {} of the room", seq.0)
        });
    }
    let events = check_timeline(store, room, head, place, findings)?;
    check_state(store, room, head, &events, place, findings)?;
    check_members(store, room, head, place, findings)?;
    servers::check_room_servers(store, room, place, findings)?;
    partial::check_partial(store, room, head, place, findings)?;
    check_relations(store, room, place, findings)?;
    check_receipts(store, room, place, findings)
}

/// What other checks need of an event.
struct Known {
    before: SnapshotId,
    after: SnapshotId,
    is_state: bool,
    /// Whether a purge took its place in the timeline from it.
    is_displaced: bool,
}

fn check_timeline(
    store: &Store,
    room: RoomNid,
    head: &HeadRow,
    place: &str,
    findings: &mut Findings,
) -> Result<BTreeMap<RoomSeq, Known>, RoomError> {
    let (mut events, mut ids) = (BTreeMap::new(), HashSet::new());
    let mut cited: HashMap<String, RoomSeq> = HashMap::new();
    // What is numbered below may have been purged.
    let purge = store.get(&PURGED, &room)?.map(|row| row.value);
    let purged = purge.map_or(RoomSeq::MIN, |row| row.upto);
    let history = store.scan(&TIMELINE, &room).until(&(room, RoomSeq::FIRST)).keys();
    let history: Vec<RoomSeq> = history.map(|key| key.map(|(_, seq)| seq)).collect::<Result<_, _>>()?;
    findings.expect(history.first().is_none_or(|first| *first >= head.first_seq), place, || {
        "there is history before the room's first".into()
    });
    for seq in history.into_iter().chain((1..head.next_seq.0).map(RoomSeq)) {
        let read = store.get_with(&TIMELINE, &(room, seq), |row| Event::from_stored(room, seq, row))?;
        let event = match read {
            Some(Ok(event)) => event,
            Some(Err(corrupt)) => {
                findings.add(place, format!("event {}: {corrupt}", seq.0));
                continue;
            }
            None => {
                findings.expect(seq < purged, place, || format!("event {} is missing", seq.0));
                continue;
            }
        };
        let is_displaced = seq < purged && event.flags().has(EventFlags::OUTLIER);
        findings.events += 1;
        findings.expect(event.pos().0 > 0, place, || format!("event {} has no position", seq.0));
        let found = store.get(&EVENT_IDS, &event.event_id().to_owned())?;
        findings.expect(found.is_some_and(|found| found.room == room && found.seq == seq), place, || {
            format!("event {} is not found by its id {}", seq.0, event.event_id())
        });
        let timed = store.contains(&EVENTS_BY_TIME, &(room, event.origin_server_ts(), seq))?;
        findings.expect(timed != is_displaced, place, || format!("event {} is not found by its time", seq.0));
        let ordered = store.contains(&ORDER, &(room, event.depth(), seq))?;
        findings.expect(ordered == event.flags().is_visible(), place, || {
            format!("event {} is in the order of the timeline: {ordered}", seq.0)
        });
        findings.expect(ids.insert(event.event_id().to_owned()), place, || {
            format!("event {} is there twice", event.event_id())
        });
        match event.to_pdu() {
            // What a rejected event follows is of no interest.
            // What an old event followed may be gone already while it is not.
            Ok(_) if event.flags().has(EventFlags::REJECTED) || is_displaced => {}
            Ok(_) if seq < purged && purge.is_some_and(|row| event.depth() <= row.depth) => {}
            Ok(pdu) => cited.extend(pdu.prev_events.iter().map(|id| (id.as_str().to_owned(), seq))),
            Err(error) => findings.add(place, format!("event {}: {error}", seq.0)),
        }
        let (before, after) = (event.state_before(), event.state_after());
        let known = Known { before, after, is_state: event.state_key().is_some(), is_displaced };
        events.insert(seq, known);
    }
    for (id, seq) in cited {
        let known = ids.contains(&id) || store.contains(&BACKWARD, &(room, id.clone()))?;
        findings.expect(known, place, || format!("event {} follows {id}, which is not there", seq.0));
    }
    for key in store.scan(&BACKWARD, &room).keys() {
        let (_, id) = key?;
        findings.expect(!ids.contains(&id), place, || format!("history ends at {id}, which is there"));
    }
    let beyond =
        store.scan(&TIMELINE, &room).from(&(room, head.next_seq)).until(&(room, RoomSeq::FIRST_OUTLIER)).keys().next();
    findings.expect(beyond.is_none(), place, || "there are events beyond the room's last".into());
    Ok(events)
}

fn check_state(
    store: &Store,
    room: RoomNid,
    head: &HeadRow,
    events: &BTreeMap<RoomSeq, Known>,
    place: &str,
    findings: &mut Findings,
) -> Result<(), RoomError> {
    let nodes = StoredNodes { store, room };
    let (mut roots, mut seen) = (HashSet::from([head.state]), HashSet::new());
    roots.extend(events.values().flat_map(|event| [event.before, event.after]));
    for root in roots {
        match snapshot::node_ids(&nodes, root) {
            Ok(ids) => seen.extend(ids),
            Err(error) => findings.add(place, format!("snapshot {}: {error}", root.0)),
        }
    }
    findings.expect(seen.iter().all(|id| *id <= head.last_node), place, || {
        "a state node has a number not yet given".into()
    });
    for row in store.scan(&STATE_SLOTS, &room).iter() {
        let ((_, kind, key), slot) = row?;
        let back = store.get(&SLOT_KEYS, &(room, slot))?;
        findings.expect(back.is_some_and(|back| *back.kind == *kind && *back.state_key == *key), place, || {
            format!("state slot {slot} does not lead back to ({kind}, {key})")
        });
    }
    for (slot, seq) in snapshot::full(&nodes, head.state)? {
        let is_state = seq >= RoomSeq::FIRST_OUTLIER || events.get(&seq).is_some_and(|event| event.is_state);
        findings.expect(is_state, place, || {
            format!("the current state names event {}, which is no state event of the room", seq.0)
        });
        let key = store.get(&SLOT_KEYS, &(room, slot))?;
        let event = store.get_with(&TIMELINE, &(room, seq), |row| Event::from_stored(room, seq, row))?.transpose()?;
        let fits = matches!((&key, &event), (Some(key), Some(event)) if *key.kind == *event.kind() && event.state_key() == Some(&*key.state_key));
        findings
            .expect(fits, place, || format!("slot {slot} of the current state holds event {} of another key", seq.0));
    }
    for row in store.scan(&STATE_LOG, &room).iter() {
        let ((_, pos, slot), seq) = row?;
        if seq >= RoomSeq::FIRST_OUTLIER || events.get(&seq).is_some_and(|event| event.is_displaced) {
            continue;
        }
        let after = events.get(&seq).map(|event| event.after);
        let value = after.map(|after| snapshot::get(&nodes, &NewNodes::default(), after, slot)).transpose()?.flatten();
        findings
            .expect(value == Some(seq), place, || format!("the state log at {} names event {} wrongly", pos.0, seq.0));
    }
    Ok(())
}

fn check_members(
    store: &Store,
    room: RoomNid,
    head: &HeadRow,
    place: &str,
    findings: &mut Findings,
) -> Result<(), RoomError> {
    let nodes = StoredNodes { store, room };
    let partial = store.get(&PARTIAL_ROOMS, &room)?;
    if partial.as_ref().is_some_and(|partial| partial.full.is_some()) {
        // A finish that was cut off leaves members of the state to come; the next attempt overwrites them.
        return Ok(());
    }
    let (mut joined, mut invited) = (0, 0);
    for row in store.scan(&ROOM_MEMBERS, &room).iter() {
        let ((_, user), row) = row?;
        joined += u32::from(row.membership == Membership::Join);
        invited += u32::from(row.membership == Membership::Invite);
        let other = store.get(&USER_ROOMS, &(user, room))?;
        let same = other.is_some_and(|other| other.value.membership == row.membership && other.value.seq == row.seq);
        findings.expect(same, place, || format!("member {} is another in their own list of rooms", user.0));
        let id = store.get(&USER_IDS, &user)?.unwrap_or_default();
        let slot = store.get(&STATE_SLOTS, &(room, "m.room.member".to_owned(), id.clone()))?;
        let current =
            slot.map(|slot| snapshot::get(&nodes, &NewNodes::default(), head.state, slot)).transpose()?.flatten();
        let event = store
            .get_with(&TIMELINE, &(room, row.seq), |stored| Event::from_stored(room, row.seq, stored))?
            .transpose()?;
        let is_outside = event.as_ref().map(|event| servers::is_outside(store, event)).transpose()?.unwrap_or(false);
        // In a partial room a user whom the state does not name is unknown, and ours keep what they had.
        let is_kept = partial.is_some() && current.is_none() && row.membership != Membership::Join;
        findings.expect(current == Some(row.seq) || is_outside || is_kept, place, || {
            format!("the membership of {id} is not what the state says")
        });
        findings.expect(event.as_ref().and_then(membership_of) == Some(row.membership), place, || {
            format!("the membership of {id} is not what its event says")
        });
    }
    findings.expect(joined == head.joined, place, || {
        format!("{joined} members are joined, and {} are counted", head.joined)
    });
    findings.expect(invited == head.invited, place, || {
        format!("{invited} users are invited, and {} are counted", head.invited)
    });
    Ok(())
}

fn check_relations(store: &Store, room: RoomNid, place: &str, findings: &mut Findings) -> Result<(), RoomError> {
    for row in store.scan(&RELATIONS, &room).iter() {
        let ((_, parent, child), _) = row?;
        let flagged =
            store.get_with(&TIMELINE, &(room, parent), |row| Event::from_stored(room, parent, row))?.transpose()?;
        findings.expect(flagged.is_some_and(|event| event.flags().has(EventFlags::HAS_RELATIONS)), place, || {
            format!("event {} does not know that event {} relates to it", parent.0, child.0)
        });
        let there = store.contains(&TIMELINE, &(room, child))?;
        findings.expect(there, place, || format!("event {}, which relates to {}, is missing", child.0, parent.0));
    }
    for row in store.scan(&THREADS, &room).iter() {
        let ((_, root), latest) = row?;
        let back = store.get(&THREADS_BY_LATEST, &(room, latest))?;
        findings.expect(back == Some(root), place, || format!("thread {} is not found by its latest event", root.0));
    }
    for row in store.scan(&THREADS_BY_LATEST, &room).iter() {
        let ((_, latest), root) = row?;
        let forth = store.get(&THREADS, &(room, root))?;
        findings.expect(forth == Some(latest), place, || {
            format!("the latest event of thread {} is not {}", root.0, latest.0)
        });
    }
    Ok(())
}

fn check_receipts(store: &Store, room: RoomNid, place: &str, findings: &mut Findings) -> Result<(), RoomError> {
    let mut logged = HashSet::new();
    for key in store.scan(&RECEIPT_LOG, &room).keys() {
        let (_, pos, user, kind, thread) = key?;
        let row = store.get(&RECEIPTS, &(room, user, kind, thread.clone()))?;
        findings.expect(row.is_some_and(|row| row.pos == pos), place, || {
            format!("a receipt logged at {} is not there", pos.0)
        });
        logged.insert((user, kind, thread));
    }
    for row in store.scan(&RECEIPTS, &room).iter() {
        let ((_, user, kind, thread), _) = row?;
        findings.expect(logged.contains(&(user, kind, thread)), place, || {
            format!("a receipt of user {} is not logged", user.0)
        });
    }
    Ok(())
}

fn check_event_ids(store: &Store, findings: &mut Findings) -> Result<(), RoomError> {
    for row in store.scan(&EVENT_IDS, &()).iter() {
        let (id, found) = row?;
        let there = store.get_with(&TIMELINE, &(found.room, found.seq), |row| {
            Event::from_stored(found.room, found.seq, row).is_ok_and(|event| event.event_id() == id)
        })?;
        findings.expect(there == Some(true), &id, || "the event id leads to another event, or to none".into());
    }
    Ok(())
}

fn check_directory(store: &Store, findings: &mut Findings) -> Result<(), RoomError> {
    for row in store.scan(&ALIASES, &()).iter() {
        let (alias, row) = row?;
        findings.expect(store.contains(&ROOM_ALIASES, &(row.room, alias.clone()))?, &alias, || {
            "its room does not know it".into()
        });
        findings.expect(store.contains(&HEADS, &row.room)?, &alias, || "its room does not exist".into());
    }
    for key in store.scan(&ROOM_ALIASES, &()).keys() {
        let (room, alias) = key?;
        let row = store.get(&ALIASES, &alias)?;
        findings.expect(row.is_some_and(|row| row.room == room), &alias, || {
            "a room claims it that it does not lead to".into()
        });
    }
    for room in store.scan(&PUBLIC_ROOMS, &()).keys() {
        let room = room?;
        findings.expect(store.contains(&HEADS, &room)?, &format!("room {}", room.0), || {
            "listed, but does not exist".into()
        });
    }
    Ok(())
}
