//! What lists ask of every room, kept in memory and brought up to date by what is new in the room.

use std::borrow::Cow;
use std::sync::Arc;

use quick_cache::sync::Cache;
use rooms::{Head, RoomNid, RoomSeq, Rooms, SnapshotId, UserNid};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::StreamPos;

use crate::error::SyncError;
use crate::summary::{avatar_of, name_of, state_text};

const ROOMS: usize = 20_000;
/// How far back one looks for an event that counts as activity.
const MAX_LOOK_BACK: i64 = 100;

/// Types of events that count as activity (MSC4186, `bump_stamp`).
const ACTIVITY: &[&str] = &[
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "org.matrix.msc3381.poll.start",
    "m.beacon_info",
    "org.matrix.msc3672.beacon_info",
];

/// A room as lists see it.
#[derive(Clone, Debug)]
pub(crate) struct RoomFact {
    last_seq: RoomSeq,
    snapshot: SnapshotId,
    /// When its last event came.
    pub last_pos: StreamPos,
    /// When its last event that counts as activity came.
    pub bump_stamp: StreamPos,
    pub is_encrypted: bool,
    pub room_type: Option<Box<str>>,
    pub name: Option<Box<str>>,
    pub avatar: Option<Box<str>>,
}

impl RoomFact {
    /// A room that this server is not in, as another one told it to an invited or knocking user; `None` for other rooms.
    pub fn of_stripped_state(rooms: &Rooms, room: RoomNid, user: UserNid) -> Result<Option<RoomFact>, SyncError> {
        #[derive(Deserialize)]
        struct Stripped<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            state_key: Cow<'a, str>,
            #[serde(borrow)]
            content: &'a RawValue,
        }
        let Some(told) = rooms.stripped_state(room, user)? else { return Ok(None) };
        let mut fact = RoomFact::EMPTY;
        for event in told.iter().filter_map(|event| serde_json::from_str::<Stripped<'_>>(event.get()).ok()) {
            let content = event.content.get();
            match &*event.kind {
                _ if !event.state_key.is_empty() => {}
                "m.room.create" => fact.room_type = type_of(content).map(Into::into),
                "m.room.encryption" => fact.is_encrypted = true,
                "m.room.name" => fact.name = name_of(content).filter(|name| !name.is_empty()).map(Into::into),
                "m.room.avatar" => fact.avatar = avatar_of(content).filter(|url| !url.is_empty()).map(Into::into),
                _ => {}
            }
        }
        Ok(Some(fact))
    }

    const EMPTY: RoomFact = RoomFact {
        last_seq: RoomSeq(0),
        snapshot: SnapshotId::EMPTY,
        last_pos: StreamPos::ZERO,
        bump_stamp: StreamPos::ZERO,
        is_encrypted: false,
        room_type: None,
        name: None,
        avatar: None,
    };
}

pub(crate) struct RoomFacts(Cache<RoomNid, Arc<RoomFact>>);

impl RoomFacts {
    pub fn new() -> RoomFacts {
        RoomFacts(Cache::new(ROOMS))
    }

    /// The room as it is now.
    pub fn get(&self, rooms: &Rooms, room: RoomNid) -> Result<Arc<RoomFact>, SyncError> {
        let head = rooms.head(room)?;
        let known = self.0.get(&room);
        if let Some(known) = &known
            && known.last_seq == head.last_seq()
            && known.snapshot == head.state()
        {
            return Ok(known.clone());
        }
        let fact = Arc::new(read_fact(rooms, &head, known.as_deref())?);
        self.0.insert(room, fact.clone());
        Ok(fact)
    }
}

fn read_fact(rooms: &Rooms, head: &Head, known: Option<&RoomFact>) -> Result<RoomFact, SyncError> {
    let (room, snapshot, last_seq) = (head.room(), head.state(), head.last_seq());
    let mut fact = match known {
        Some(known) => known.clone(),
        None => RoomFact { room_type: room_type(head), ..RoomFact::EMPTY },
    };
    if fact.snapshot != snapshot {
        fact.is_encrypted = rooms.state_seq(room, snapshot, "m.room.encryption", "")?.is_some();
        fact.name = state_text(rooms, room, snapshot, "m.room.name", name_of)?.map(Into::into);
        fact.avatar = state_text(rooms, room, snapshot, "m.room.avatar", avatar_of)?.map(Into::into);
        fact.room_type = room_type(head);
        fact.snapshot = snapshot;
    }
    let floor = fact.last_seq.0.max(last_seq.0 - MAX_LOOK_BACK);
    let mut at = last_seq;
    while at.0 > floor {
        let Some(event) = rooms.event_at_or_before(room, at)? else { break };
        fact.last_pos = fact.last_pos.max(event.pos());
        if event.flags().is_visible() && ACTIVITY.contains(&event.kind()) {
            fact.bump_stamp = event.pos();
            break;
        }
        at = RoomSeq(event.seq().0 - 1);
    }
    if fact.bump_stamp == StreamPos::ZERO && last_seq >= RoomSeq::FIRST {
        // Nothing but other events for long: as if the oldest of those had been some activity.
        let oldest = rooms.events_after(room, RoomSeq(floor), 1)?.pop();
        fact.bump_stamp = oldest.map_or(fact.last_pos, |event| event.pos());
    }
    fact.last_seq = last_seq;
    Ok(fact)
}

fn room_type(head: &Head) -> Option<Box<str>> {
    type_of(head.create()?.content.get()).map(Into::into)
}

/// `type` of `m.room.create`.
fn type_of(content: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "type")]
        room_type: Option<String>,
    }
    serde_json::from_str::<Content>(content).ok()?.room_type
}
