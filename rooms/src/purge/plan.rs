//! The plan of a purge: what remains, and what that needs.

use std::collections::{HashMap, HashSet, VecDeque};

use storage::{Read, StreamPos};

use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq, SnapshotId};
use crate::keyspaces::{ROOM_MEMBERS, STATE_LOG};
use crate::rooms::Rooms;
use crate::server_view::{Citation, cited_ids};
use crate::snapshot;
use crate::timeline::Cursor;

/// How many events one look goes over.
const LOOK: usize = 1000;
/// How many ids of events that remain are remembered: what they follow is mostly the one before.
const REMEMBERED: usize = 64;

/// Which events remain, and what that needs. Kept in memory: some bytes for each event of the states that remain.
pub(crate) struct Plan {
    room: RoomNid,
    cut: Cursor,
    local_too: bool,
    server: String,
    /// What always remains.
    extremities: HashSet<RoomSeq>,
    /// Numbers that were looked at: from the first to before the second.
    looked: (RoomSeq, RoomSeq),
    has_looked: bool,
    /// Events that have to stay.
    needed: HashSet<RoomSeq>,
    /// Those of them whose auth events were not looked at yet.
    unfollowed: Vec<RoomSeq>,
    followed: HashSet<Box<str>>,
    /// The nodes of the states that remain; others up to `last_node` go.
    nodes: HashSet<u64>,
    pub(super) last_node: u64,
    current: SnapshotId,
    /// What remaining events follow of what goes, with their depth.
    pub(super) edges: HashMap<Box<str>, i64>,
    /// What remaining events follow that is not here.
    pub(super) unknown: HashSet<Box<str>>,
    recent: VecDeque<Box<str>>,
    /// Where the log of the state names events that go.
    pub(super) log: HashMap<RoomSeq, Vec<(StreamPos, u32)>>,
    /// The last event that goes.
    pub(super) last_old: Option<RoomSeq>,
    /// How many events go, or lose their place.
    pub(super) old: u64,
}

impl Plan {
    pub fn new(room: RoomNid, cut: Cursor, local_too: bool, rooms: &Rooms) -> Result<Plan, RoomError> {
        let head = rooms.head(room)?;
        Ok(Plan {
            room,
            cut,
            local_too,
            server: rooms.server_name().as_str().to_owned(),
            extremities: head.row.extremities.iter().map(|(_, seq)| *seq).collect(),
            looked: (RoomSeq::MIN, RoomSeq::MIN),
            has_looked: false,
            needed: HashSet::new(),
            unfollowed: Vec::new(),
            followed: HashSet::new(),
            nodes: HashSet::new(),
            last_node: head.row.last_node,
            current: SnapshotId::EMPTY,
            edges: HashMap::new(),
            unknown: HashSet::new(),
            recent: VecDeque::new(),
            log: HashMap::new(),
            last_old: None,
            old: 0,
        })
    }

    /// The first event that was there when it was made.
    pub fn first(&self) -> RoomSeq {
        self.looked.0
    }

    /// Below which number events may be missing afterwards.
    pub fn upto(&self) -> RoomSeq {
        self.last_old.map_or(RoomSeq::MIN, RoomSeq::next)
    }

    /// Whether the event goes, or loses its place.
    pub fn is_old(&self, event: &Event) -> bool {
        // What lost its place to an earlier purge has neither depth nor states that count.
        event.flags().has(EventFlags::OUTLIER)
            || (Cursor::after(event) <= self.cut && !self.extremities.contains(&event.seq()))
    }

    /// Whether an old event has to stay: for what remains, or for its own sake.
    pub fn stays(&self, event: &Event) -> bool {
        self.needed.contains(&event.seq()) || self.stays_for_itself(event)
    }

    /// Whether an old event is one of this server's that are to be kept.
    pub fn stays_for_itself(&self, event: &Event) -> bool {
        let is_ours = || event.sender_id().is_some_and(|sender| sender.server_name() == self.server);
        !self.local_too && is_ours()
    }

    /// Whether the row of an outlier is needed.
    pub fn needs(&self, seq: RoomSeq) -> bool {
        self.needed.contains(&seq)
    }

    pub fn needs_node(&self, id: u64) -> bool {
        id > self.last_node || self.nodes.contains(&id)
    }

    /// Looks at the next events; says whether all were looked at. Beside the writer: what comes meanwhile is looked at
    /// later.
    pub fn look_on(&mut self, rooms: &Rooms) -> Result<bool, RoomError> {
        if !self.has_looked {
            self.has_looked = true;
            // History that comes later is numbered below.
            let first = rooms.scan_events(self.room, RoomSeq::MIN, RoomSeq::FIRST_OUTLIER, 1, false)?.pop();
            let first = first.map_or(RoomSeq::FIRST, |event| event.seq());
            self.looked = (first, first);
        }
        let events = rooms.scan_events(self.room, self.looked.1, RoomSeq::FIRST_OUTLIER, LOOK, false)?;
        for event in &events {
            self.look_at(rooms, event)?;
            self.looked.1 = event.seq().next();
        }
        if events.len() >= LOOK {
            return Ok(false);
        }
        self.look_around(rooms)?;
        Ok(true)
    }

    /// What has to stay beside what events say, and where the log names what goes.
    fn look_around(&mut self, rooms: &Rooms) -> Result<(), RoomError> {
        for row in rooms.store.scan(&ROOM_MEMBERS, &self.room).iter() {
            let (_, row) = row?;
            self.need(row.seq);
            row.left_at.into_iter().for_each(|seq| self.need(seq));
        }
        // Since when this server is in the room is told by the position of an event.
        let stays = rooms.room_servers(self.room)?;
        if let Some(stay) = stays.get(rooms.server_name()) {
            self.need(stay.since);
        }
        let head = rooms.head(self.room)?;
        self.mark_state(rooms, head.state())?;
        self.current = head.state();
        self.follow_auth(rooms)?;
        for row in rooms.store.scan(&STATE_LOG, &self.room).iter() {
            let ((_, pos, slot), seq) = row?;
            if self.last_old.is_some_and(|last| seq <= last) {
                self.log.entry(seq).or_default().push((pos, slot));
            }
        }
        Ok(())
    }

    /// Takes in what has come since. In the room's writer.
    pub fn catch_up(&mut self, rooms: &Rooms, head: &Head) -> Result<(), RoomError> {
        let before = rooms.scan_events(self.room, RoomSeq::MIN, self.looked.0, usize::MAX, false)?;
        let after = rooms.scan_events(self.room, self.looked.1, RoomSeq::FIRST_OUTLIER, usize::MAX, false)?;
        for event in before.iter().chain(&after) {
            self.keep(rooms, event)?;
            self.looked.0 = self.looked.0.min(event.seq());
            self.looked.1 = self.looked.1.max(event.seq().next());
        }
        if head.state() != self.current {
            self.mark_state(rooms, head.state())?;
            self.current = head.state();
        }
        self.follow_auth(rooms)
    }

    fn look_at(&mut self, rooms: &Rooms, event: &Event) -> Result<(), RoomError> {
        if self.is_old(event) {
            self.last_old = self.last_old.max(Some(event.seq()));
            self.old += u64::from(!event.flags().has(EventFlags::OUTLIER));
            return Ok(());
        }
        self.keep(rooms, event)
    }

    /// Notes what an event that remains needs.
    fn keep(&mut self, rooms: &Rooms, event: &Event) -> Result<(), RoomError> {
        self.mark_state(rooms, event.state_before())?;
        self.mark_state(rooms, event.state_after())?;
        event.redacted_by().into_iter().chain(event.replaces()).for_each(|seq| self.need(seq));
        for id in cited_ids(event, Citation::Auth)? {
            self.follow(rooms, &id)?;
        }
        if !event.flags().has(EventFlags::REJECTED) {
            for id in cited_ids(event, Citation::Prev)? {
                self.note_edge(rooms, id.into(), event.depth())?;
            }
        }
        self.recent.push_back(event.event_id().into());
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// Notes what a remaining event follows, if that goes.
    fn note_edge(&mut self, rooms: &Rooms, id: Box<str>, depth: i64) -> Result<(), RoomError> {
        if self.recent.contains(&id) {
            return Ok(());
        }
        match rooms.find_in_room(self.room, &id)? {
            Some(event) if event.seq() >= RoomSeq::FIRST_OUTLIER => drop(self.unknown.insert(id)),
            Some(event) if self.is_old(&event) => drop(self.edges.insert(id, depth)),
            Some(_) => {}
            None => drop(self.unknown.insert(id)),
        }
        Ok(())
    }

    fn need(&mut self, seq: RoomSeq) {
        if self.needed.insert(seq) {
            self.unfollowed.push(seq);
        }
    }

    /// Notes the events and nodes of a state. Costs what it does not share with those that were noted.
    fn mark_state(&mut self, rooms: &Rooms, state: SnapshotId) -> Result<(), RoomError> {
        let Plan { nodes, needed, unfollowed, .. } = self;
        snapshot::visit_new(&rooms.nodes(self.room), state, nodes, &mut |seq| {
            if needed.insert(seq) {
                unfollowed.push(seq);
            }
        })
    }

    fn follow(&mut self, rooms: &Rooms, id: &str) -> Result<(), RoomError> {
        if self.followed.contains(id) {
            return Ok(());
        }
        self.followed.insert(id.into());
        if let Some(place) = rooms.find_event(id)?.filter(|place| place.room == self.room) {
            self.need(place.seq);
        }
        Ok(())
    }

    /// Notes the auth chains of what has to stay.
    fn follow_auth(&mut self, rooms: &Rooms) -> Result<(), RoomError> {
        while let Some(seq) = self.unfollowed.pop() {
            let Some(event) = rooms.scan_events(self.room, seq, seq.next(), 1, false)?.pop() else { continue };
            for id in cited_ids(&event, Citation::Auth)? {
                self.follow(rooms, &id)?;
            }
        }
        Ok(())
    }
}
