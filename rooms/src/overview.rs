//! Rooms as those see them who run the server: one line a room, all rooms in any order.
//!
//! What is said of a room is read once and remembered until something happens in it, so that a list of thousands of rooms
//! costs what has changed since the last one.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use spec::ids::RoomId;
use storage::Read;

use crate::error::RoomError;
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq, SnapshotId};
use crate::keyspaces::{
    EVENTS_BY_TIME, HEADS, ORDER, RECEIPT_LOG, RECEIPTS, RELATIONS, ROOM_MEMBERS, ROOM_SERVERS, STATE_LOG, STATE_NODES,
    STATE_SLOTS, TIMELINE,
};
use crate::rooms::Rooms;

/// What there is to say of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomOverview {
    /// Its number.
    pub room: RoomNid,
    /// Its id.
    pub room_id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// Its avatar, an `mxc` URI.
    pub avatar: Option<String>,
    /// Its canonical alias.
    pub canonical_alias: Option<String>,
    /// How many users are joined.
    pub joined_members: u32,
    /// How many users of this server are joined.
    pub joined_local_members: u32,
    /// Its version.
    pub version: String,
    /// Who made it.
    pub creator: Option<String>,
    /// The encryption algorithm.
    pub encryption: Option<String>,
    /// Whether other servers may take part.
    pub federatable: bool,
    /// Whether it is in the list of public rooms.
    pub public: bool,
    /// Who may join.
    pub join_rules: Option<String>,
    /// Whether guests may join.
    pub guest_access: Option<String>,
    /// Who may read what.
    pub history_visibility: Option<String>,
    /// How many events its state has.
    pub state_events: usize,
    /// Its type, such as `m.space`.
    pub room_type: Option<String>,
    /// Whether it was replaced by another room.
    pub tombstoned: bool,
    /// How many forward extremities it has.
    pub forward_extremities: usize,
}

/// By what rooms are sorted. Texts go from A to Z and numbers from large to small, unless reversed; rooms without the
/// text come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the fields of an overview")]
pub enum RoomOrder {
    #[default]
    Name,
    CanonicalAlias,
    JoinedMembers,
    JoinedLocalMembers,
    Version,
    Creator,
    Encryption,
    Federatable,
    Public,
    JoinRules,
    GuestAccess,
    HistoryVisibility,
    StateEvents,
}

impl RoomOrder {
    /// All of them, by name.
    pub const ALL: [(&'static str, RoomOrder); 13] = [
        ("name", RoomOrder::Name),
        ("canonical_alias", RoomOrder::CanonicalAlias),
        ("joined_members", RoomOrder::JoinedMembers),
        ("joined_local_members", RoomOrder::JoinedLocalMembers),
        ("version", RoomOrder::Version),
        ("creator", RoomOrder::Creator),
        ("encryption", RoomOrder::Encryption),
        ("federatable", RoomOrder::Federatable),
        ("public", RoomOrder::Public),
        ("join_rules", RoomOrder::JoinRules),
        ("guest_access", RoomOrder::GuestAccess),
        ("history_visibility", RoomOrder::HistoryVisibility),
        ("state_events", RoomOrder::StateEvents),
    ];

    /// The order of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<RoomOrder> {
        RoomOrder::ALL.iter().find(|(known, _)| *known == name).map(|(_, order)| *order)
    }
}

/// Which rooms are listed.
#[derive(Clone, Debug, Default)]
pub struct RoomsQuery {
    /// A part of the name, the alias or the id, whatever the case.
    pub search: Option<String>,
    /// Only those that are, or are not, listed publicly.
    pub public: Option<bool>,
    /// Only those in which nobody, or somebody, of this server is.
    pub empty: Option<bool>,
    /// Only spaces, or only what is none.
    pub space: Option<bool>,
    /// Only those that are, or are not, blocked.
    pub blocked: Option<bool>,
    /// By what they are sorted.
    pub order: RoomOrder,
    /// The other way round.
    pub reverse: bool,
    /// How many to skip.
    pub skip: usize,
    /// How many to show at most.
    pub limit: usize,
}

/// A part of the list of rooms.
#[derive(Clone, Debug)]
pub struct RoomsPage {
    /// The rooms.
    pub rooms: Vec<Arc<RoomOverview>>,
    /// How many there are in all.
    pub total: usize,
}

/// What of a room's overview stands still: as of a state, and as of an event.
type Known = (SnapshotId, RoomSeq, Arc<RoomOverview>);

/// What was read of rooms.
#[derive(Default)]
pub(crate) struct Overviews(Mutex<HashMap<RoomNid, Known>>);

impl Rooms {
    /// What there is to say of a room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn overview(&self, room: RoomNid) -> Result<Arc<RoomOverview>, RoomError> {
        let head = self.head(room)?;
        let key = (head.state(), head.last_seq());
        let known = self.overviews.0.lock().get(&room).cloned();
        let public = self.is_public(room)?;
        if let Some((state, seq, overview)) = &known
            && (*state, *seq) == key
            && overview.public == public
        {
            return Ok(overview.clone());
        }
        let counted = known.filter(|(state, ..)| *state == key.0).map(|(.., overview)| overview.state_events);
        let state_events = match counted {
            Some(count) => count,
            None => self.state_seqs(room, head.state())?.len(),
        };
        let overview = Arc::new(RoomOverview { public, state_events, ..self.read_overview(&head)? });
        self.overviews.0.lock().insert(room, (key.0, key.1, overview.clone()));
        Ok(overview)
    }

    /// Reads what lists say of rooms, of at most so many, so that the first list need not. Takes about 50 µs a room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn read_overviews_ahead(&self, most: usize) -> Result<(), RoomError> {
        for room in self.store.scan(&HEADS, &()).keys().take(most) {
            match self.overview(room?) {
                Err(error) if error.is_of_store() => return Err(error),
                // The list says so when it is asked for.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn read_overview(&self, head: &Head) -> Result<RoomOverview, RoomError> {
        let room = head.room();
        let content = |kind: &str| -> Result<Map<String, Value>, RoomError> {
            let event = self.state_event(room, head.state(), kind, "")?;
            Ok(event.and_then(|event| event.content_as()).unwrap_or_default())
        };
        let text = |content: &Map<String, Value>, key: &str| {
            content.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let read = |kind: &str, key: &str| Ok::<_, RoomError>(text(&content(kind)?, key));
        let create = head.create();
        let creation: Map<String, Value> = create.and_then(|event| event.content().ok()).unwrap_or_default();
        let own = self.server_name().as_str().to_owned();
        let stay = self.store.get(&ROOM_SERVERS, &(room, own))?;
        Ok(RoomOverview {
            room,
            room_id: head.room_id().as_str().to_owned(),
            name: read("m.room.name", "name")?,
            topic: read("m.room.topic", "topic")?,
            avatar: read("m.room.avatar", "url")?,
            canonical_alias: read("m.room.canonical_alias", "alias")?,
            joined_members: head.joined_count(),
            joined_local_members: stay.map_or(0, |stay| stay.joined),
            version: head.version().as_str().to_owned(),
            creator: create.map(|event| event.sender.as_str().to_owned()),
            encryption: read("m.room.encryption", "algorithm")?,
            federatable: creation.get("m.federate").and_then(Value::as_bool).unwrap_or(true),
            public: false,
            join_rules: read("m.room.join_rules", "join_rule")?,
            guest_access: read("m.room.guest_access", "guest_access")?,
            history_visibility: read("m.room.history_visibility", "history_visibility")?,
            state_events: 0,
            room_type: text(&creation, "type"),
            tombstoned: self.state_seq(room, head.state(), "m.room.tombstone", "")?.is_some(),
            forward_extremities: head.extremities().count(),
        })
    }

    /// A part of the list of rooms whose create event is here; what was only heard of is left out.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn list_rooms(&self, query: &RoomsQuery) -> Result<RoomsPage, RoomError> {
        let wanted = query.search.as_ref().map(|search| search.to_lowercase());
        let mut rooms = Vec::new();
        for room in self.store.scan(&HEADS, &()).keys() {
            let room = room?;
            if self.memory.gone.read().contains(&room) {
                continue;
            }
            let overview = match self.overview(room) {
                Ok(overview) => overview,
                Err(error) if error.is_of_store() => return Err(error),
                Err(error) => {
                    tracing::error!(room = room.0, %error, "a room cannot be read and is left out of the list");
                    continue;
                }
            };
            if self.fits(&overview, query, wanted.as_deref())? {
                rooms.push(overview);
            }
        }
        rooms.sort_by(|a, b| {
            let order = compare(a, b, query.order).then_with(|| a.room_id.cmp(&b.room_id));
            if query.reverse { order.reverse() } else { order }
        });
        let total = rooms.len();
        let rooms = rooms.into_iter().skip(query.skip).take(query.limit).collect();
        Ok(RoomsPage { rooms, total })
    }

    fn fits(&self, room: &RoomOverview, query: &RoomsQuery, search: Option<&str>) -> Result<bool, RoomError> {
        let contains = |text: Option<&str>| {
            search.is_none_or(|search| text.is_some_and(|text| text.to_lowercase().contains(search)))
        };
        let is = |wanted: Option<bool>, fact: bool| wanted.is_none_or(|wanted| wanted == fact);
        let is_found = contains(room.name.as_deref())
            || contains(room.canonical_alias.as_deref())
            || contains(Some(&room.room_id));
        let fits = room.creator.is_some()
            && is_found
            && is(query.public, room.public)
            && is(query.empty, room.joined_local_members == 0)
            && is(query.space, room.room_type.as_deref() == Some("m.space"));
        if !fits || query.blocked.is_none() {
            return Ok(fits);
        }
        let id = RoomId::parse(&room.room_id).map_err(|_| RoomError::Inconsistent("malformed room id"))?;
        Ok(is(query.blocked, self.blocked(&id)?.is_some()))
    }

    /// About how many bytes of the disk the room's rows take; what was written lately may be missing.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn size_of_room(&self, room: RoomNid) -> Result<u64, RoomError> {
        let store = &self.store;
        let sizes = [
            store.approximate_bytes(&TIMELINE, &room)?,
            store.approximate_bytes(&ORDER, &room)?,
            store.approximate_bytes(&EVENTS_BY_TIME, &room)?,
            store.approximate_bytes(&STATE_NODES, &room)?,
            store.approximate_bytes(&STATE_SLOTS, &room)?,
            store.approximate_bytes(&STATE_LOG, &room)?,
            store.approximate_bytes(&ROOM_MEMBERS, &room)?,
            store.approximate_bytes(&RELATIONS, &room)?,
            store.approximate_bytes(&RECEIPTS, &room)?,
            store.approximate_bytes(&RECEIPT_LOG, &room)?,
        ];
        Ok(sizes.into_iter().fold(0, u64::saturating_add))
    }
}

fn compare(a: &RoomOverview, b: &RoomOverview, order: RoomOrder) -> Ordering {
    match order {
        RoomOrder::Name => a.name.cmp(&b.name),
        RoomOrder::CanonicalAlias => a.canonical_alias.cmp(&b.canonical_alias),
        RoomOrder::JoinedMembers => b.joined_members.cmp(&a.joined_members),
        RoomOrder::JoinedLocalMembers => b.joined_local_members.cmp(&a.joined_local_members),
        RoomOrder::Version => number(&b.version).cmp(&number(&a.version)),
        RoomOrder::Creator => a.creator.cmp(&b.creator),
        RoomOrder::Encryption => a.encryption.cmp(&b.encryption),
        RoomOrder::Federatable => a.federatable.cmp(&b.federatable),
        RoomOrder::Public => a.public.cmp(&b.public),
        RoomOrder::JoinRules => a.join_rules.cmp(&b.join_rules),
        RoomOrder::GuestAccess => a.guest_access.cmp(&b.guest_access),
        RoomOrder::HistoryVisibility => a.history_visibility.cmp(&b.history_visibility),
        RoomOrder::StateEvents => b.state_events.cmp(&a.state_events),
    }
}

fn number(version: &str) -> u32 {
    version.parse().unwrap_or(0)
}
