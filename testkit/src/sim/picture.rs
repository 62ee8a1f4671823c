//! What a server has of a room, and whether that is what the others have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rooms::{EventFlags, Membership, RoomNid, RoomSeq, Rooms, SnapshotId};
use serde::Deserialize;
use spec::ids::{EventId, RoomId, ServerName};

use super::server::SimServer;

/// A state: type and state key → event id.
pub type StateMap = BTreeMap<(String, String), String>;

/// One event as a server has it.
#[derive(Clone, Debug)]
pub struct EventPicture {
    /// The state before it.
    pub before: Arc<StateMap>,
    /// The state after it.
    pub after: Arc<StateMap>,
    /// What it follows.
    pub prev_events: Vec<String>,
    /// What the server thinks of it.
    pub flags: EventFlags,
    /// Whether that, and the states, are final: not so for what came in a partial room that the server left as such.
    pub is_final: bool,
    /// Its number there.
    pub seq: RoomSeq,
    /// `type`.
    pub kind: String,
    /// Who sent it.
    pub sender: String,
    /// Present in state events.
    pub state_key: Option<String>,
    /// The content as it is stored there.
    pub content: String,
}

impl EventPicture {
    /// The event in one line.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} of {} for {:?} {}", self.kind, self.sender, self.state_key, self.content)
    }
}

/// A room as one server has it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Whose.
    pub server: ServerName,
    /// Whether it is in the room.
    pub is_resident: bool,
    /// Its timeline and history.
    pub events: BTreeMap<String, EventPicture>,
    /// Where the room goes on.
    pub extremities: BTreeSet<String>,
    /// The current state.
    pub state: Arc<StateMap>,
    /// The membership that each member event in one of the states sets.
    pub memberships: HashMap<String, Membership>,
}

#[derive(Deserialize)]
struct MemberContent {
    membership: Membership,
}

#[derive(Deserialize)]
struct Follows {
    prev_events: Vec<EventId>,
}

/// Reads states, each once.
struct States<'a> {
    rooms: &'a Rooms,
    room: RoomNid,
    known: HashMap<SnapshotId, Arc<StateMap>>,
    events: HashMap<RoomSeq, ((String, String), String)>,
    memberships: HashMap<String, Membership>,
}

impl States<'_> {
    fn read(&mut self, snapshot: SnapshotId) -> Arc<StateMap> {
        if let Some(known) = self.known.get(&snapshot) {
            return known.clone();
        }
        let mut state = StateMap::new();
        for seq in self.rooms.state_seqs(self.room, snapshot).expect("a state can be read") {
            let (key, id) = self.events.entry(seq).or_insert_with(|| {
                let event = self.rooms.event_at(self.room, seq).expect("an event of a state");
                let id = event.event_id().to_owned();
                if event.kind() == "m.room.member"
                    && let Some(MemberContent { membership }) = event.content_as()
                {
                    self.memberships.insert(id.clone(), membership);
                }
                ((event.kind().to_owned(), event.state_key().unwrap_or_default().to_owned()), id)
            });
            state.insert(key.clone(), id.clone());
        }
        let state = Arc::new(state);
        self.known.insert(snapshot, state.clone());
        state
    }
}

impl Picture {
    /// What the server has of the room; `None` if it does not know it.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn take(server: &SimServer, room: &RoomId) -> Option<Picture> {
        let rooms = server.rooms();
        let nid = rooms.room_nid(room).expect("the room can be looked up")?;
        let head = rooms.head(nid).expect("the room has a head");
        let mut states =
            States { rooms, room: nid, known: HashMap::new(), events: HashMap::new(), memberships: HashMap::new() };
        let mut events = BTreeMap::new();
        for event in rooms.events_after(nid, RoomSeq::MIN, usize::MAX).expect("the timeline can be read") {
            let follows: Follows = serde_json::from_str(event.json()).expect("a stored event");
            let picture = EventPicture {
                before: states.read(event.state_before()),
                after: states.read(event.state_after()),
                prev_events: follows.prev_events.iter().map(|id| id.as_str().to_owned()).collect(),
                flags: event.flags(),
                is_final: rooms.is_state_known(&event).expect("what is provisional can be read"),
                seq: event.seq(),
                kind: event.kind().to_owned(),
                sender: event.sender().to_owned(),
                state_key: event.state_key().map(str::to_owned),
                content: event.content().to_owned(),
            };
            events.insert(event.event_id().to_owned(), picture);
        }
        let state = states.read(head.state());
        Some(Picture {
            server: server.name().clone(),
            is_resident: rooms.is_resident(nid).expect("the servers of the room"),
            events,
            extremities: head.extremities().map(str::to_owned).collect(),
            state,
            memberships: states.memberships,
        })
    }

    /// All events in their order, for a person who looks for a mistake.
    #[must_use]
    pub fn render(&self) -> String {
        let mut events: Vec<_> = self.events.iter().collect();
        events.sort_by_key(|(_, event)| event.seq);
        let lines = events.into_iter().map(|(id, event)| {
            let flags = [EventFlags::REJECTED, EventFlags::SOFT_FAILED].map(|flag| event.flags.has(flag));
            let (seq, follows) = (event.seq.0, &event.prev_events);
            format!("{seq} {id} {} rejected, soft-failed: {flags:?} follows {follows:?}", event.describe())
        });
        let lines: Vec<String> = lines.collect();
        let members = self.state.iter().filter(|((kind, _), _)| kind == "m.room.member");
        let members: Vec<_> = members.map(|((_, user), id)| (user, id, self.memberships.get(id))).collect();
        format!("{}:\n{}\nextremities {:?}\nmembers {members:#?}", self.server, lines.join("\n"), self.extremities)
    }

    /// Whether an event passed at its place but not in the present.
    #[must_use]
    pub fn has_soft_failed(&self) -> bool {
        self.events.values().any(|event| event.flags.has(EventFlags::SOFT_FAILED))
    }

    /// The events that were not allowed where they stand.
    pub fn rejected(&self) -> impl Iterator<Item = (&String, &EventPicture)> {
        self.events.iter().filter(|(_, event)| event.is_final && event.flags.has(EventFlags::REJECTED))
    }

    /// All that lies before the extremities, and they themselves, as far as `union` knows it.
    fn ancestors<'a>(&'a self, union: &BTreeMap<&'a str, &'a EventPicture>) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<&str> = self.extremities.iter().map(String::as_str).collect();
        while let Some(id) = waiting.pop() {
            if let Some(event) = union.get(id)
                && found.insert(id)
            {
                waiting.extend(event.prev_events.iter().map(String::as_str));
            }
        }
        found
    }
}

/// What differs between servers that ought to agree: all of these are in the room, have heard of each other's last
/// events, and have filled the holes in their history. One line for each difference, at most some of each kind.
#[must_use]
pub fn compare_pictures(pictures: &[Picture]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut union: BTreeMap<&str, &EventPicture> = BTreeMap::new();
    for picture in pictures {
        for (id, event) in &picture.events {
            union.entry(id).or_insert(event);
        }
    }
    for (index, one) in pictures.iter().enumerate() {
        for other in pictures.iter().skip(index + 1) {
            compare_states(one, other, &mut problems);
        }
    }
    let needed: BTreeSet<&str> = pictures.iter().flat_map(|picture| picture.ancestors(&union)).collect();
    for picture in pictures {
        let missing = find_missing(picture, pictures, &union, &needed);
        if let Some(first) = missing.first() {
            let (count, what) = (missing.len(), union[*first].describe());
            problems.push(format!("{} lacks {count} events, the first {first} ({what})", picture.server));
        }
    }
    if !pictures.iter().any(Picture::has_soft_failed) {
        problems.extend(compare_present(pictures));
    }
    problems
}

/// What a server ought to have and has not: events from while it was in the room, after something that it has. The
/// history from before it came need not be complete.
fn find_missing<'a>(
    picture: &Picture,
    pictures: &[Picture],
    union: &BTreeMap<&'a str, &'a EventPicture>,
    needed: &BTreeSet<&'a str>,
) -> Vec<&'a str> {
    let is_joined = |id: &str| pictures.iter().any(|of| of.memberships.get(id) == Some(&Membership::Join));
    let was_there = |event: &EventPicture| {
        event.before.iter().any(|((kind, user), id)| {
            let is_theirs = user.split_once(':').is_some_and(|(_, server)| server == picture.server.as_str());
            kind == "m.room.member" && is_theirs && is_joined(id)
        })
    };
    let follows_known = |id: &str| {
        let (mut met, mut waiting) = (BTreeSet::new(), vec![id]);
        while let Some(event) = waiting.pop().and_then(|id| union.get(id)) {
            for prev in &event.prev_events {
                if picture.events.contains_key(prev) {
                    return true;
                }
                if met.insert(prev.as_str()) && union.contains_key(prev.as_str()) {
                    waiting.push(prev);
                }
            }
        }
        false
    };
    let absent = needed.iter().copied().filter(|id| !picture.events.contains_key(*id));
    absent.filter(|id| union.get(id).is_some_and(|event| was_there(event)) && follows_known(id)).collect()
}

/// State at every event that both have.
fn compare_states(one: &Picture, other: &Picture, problems: &mut Vec<String>) {
    let mut differing = Vec::new();
    for (id, event) in &one.events {
        let Some(same) = other.events.get(id) else { continue };
        if event.is_final && same.is_final && (event.before != same.before || event.after != same.after) {
            differing.push((event.seq, id, event, same));
        }
    }
    differing.sort_by_key(|(seq, ..)| *seq);
    if let Some((_, id, event, same)) = differing.first() {
        problems.push(format!(
            "{} and {} have other states at {} events, the first {id} ({}): before: {}; after: {}; follows {:?}",
            one.server,
            other.server,
            differing.len(),
            event.describe(),
            describe_difference(&event.before, &same.before),
            describe_difference(&event.after, &same.after),
            event.prev_events,
        ));
    }
}

/// Differences in current state and extremities: there are to be none where nothing was soft-failed.
#[must_use]
pub fn compare_present(pictures: &[Picture]) -> Vec<String> {
    let mut problems = Vec::new();
    let Some((first, others)) = pictures.split_first() else { return problems };
    for other in others {
        if first.state != other.state {
            let difference = describe_difference(&first.state, &other.state);
            problems.push(format!("{} and {} have another current state: {difference}", first.server, other.server));
        }
        if first.extremities != other.extremities {
            problems.push(format!(
                "{} and {} have other extremities: {:?} and {:?}",
                first.server, other.server, first.extremities, other.extremities
            ));
        }
    }
    problems
}

fn describe_difference(one: &StateMap, other: &StateMap) -> String {
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).filter(|key| one.get(*key) != other.get(*key)).collect();
    if keys.is_empty() {
        return "the same".to_owned();
    }
    let lines = keys.into_iter().map(|key| format!("{key:?} is {:?} and {:?}", one.get(key), other.get(key)));
    lines.collect::<Vec<_>>().join(", ")
}
