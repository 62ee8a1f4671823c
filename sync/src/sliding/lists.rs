//! Which rooms a request is about: windows on lists, and subscriptions.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rooms::{Membership, RoomNid, UserRoom};
use spec::ids::RoomId;
use storage::StreamPos;
use users::Session;

use super::connection::SentRoom;
use super::facts::RoomFact;
use super::request::{ListFilters, RequiredState, RoomConfig, SlidingRequest};
use crate::error::SyncError;
use crate::feed::{NumberMap, NumberSet};
use crate::invites::HiddenInvites;
use crate::sync::Inner;

/// How many different wishes are remembered for a room; after more, only the newest are.
const MAX_WISHES: usize = 8;

/// A room of the user's, with what lists ask of it.
pub(crate) struct ListedRoom {
    pub room: RoomNid,
    pub row: UserRoom,
    pub fact: Arc<RoomFact>,
    /// When something of it that the user may see changed last.
    pub changed: StreamPos,
}

/// What a request wants of a room.
#[derive(Default)]
pub(crate) struct Wish<'a> {
    pub timeline_limit: u64,
    state: Vec<&'a RequiredState>,
    pub lists: Vec<&'a str>,
}

impl<'a> Wish<'a> {
    fn add(&mut self, config: &'a RoomConfig) {
        self.timeline_limit = self.timeline_limit.max(config.timeline_limit);
        if !self.state.contains(&&config.required_state) {
            self.state.push(&config.required_state);
        }
    }

    /// What was wanted so far and what is wanted now; the very list given if that holds everything.
    pub fn widen(&self, sent: Option<&Arc<Vec<RequiredState>>>) -> Arc<Vec<RequiredState>> {
        let old = sent.map(|sent| sent.as_slice()).unwrap_or_default();
        let new = self.state.iter().copied().filter(|wanted| !old.contains(wanted));
        let mut new: Vec<RequiredState> = new.cloned().collect();
        match sent {
            Some(sent) if new.is_empty() => sent.clone(),
            _ => {
                if old.len() + new.len() <= MAX_WISHES {
                    new.extend_from_slice(old);
                }
                Arc::new(new)
            }
        }
    }
}

/// What a request selects.
pub(crate) struct Selection<'a> {
    /// The rooms wanted, the most recently changed first.
    pub rooms: Vec<(ListedRoom, Wish<'a>)>,
    pub counts: Vec<(String, u64)>,
}

/// The user's direct chats, read when first asked for.
pub(crate) struct DirectChats<'a> {
    sync: &'a Inner,
    caller: &'a Session,
    rooms: OnceCell<NumberSet<RoomNid>>,
}

impl<'a> DirectChats<'a> {
    pub fn new(sync: &'a Inner, caller: &'a Session) -> DirectChats<'a> {
        DirectChats { sync, caller, rooms: OnceCell::new() }
    }

    pub fn contains(&self, room: RoomNid) -> Result<bool, SyncError> {
        if let Some(rooms) = self.rooms.get() {
            return Ok(rooms.contains(&room));
        }
        let content = self.sync.users.account_data(self.caller.user, "m.direct")?;
        let by_user: BTreeMap<String, Vec<String>> =
            content.and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default();
        let mut rooms = NumberSet::default();
        for id in by_user.values().flatten().filter_map(|id| RoomId::parse(id).ok()) {
            rooms.extend(self.sync.rooms.room_nid(&id)?);
        }
        Ok(self.rooms.get_or_init(|| rooms).contains(&room))
    }
}

impl Inner {
    /// Selects the rooms that a request is about.
    pub fn select_rooms<'a>(
        &self,
        caller: &Session,
        request: &'a SlidingRequest,
        rows: &BTreeMap<RoomNid, UserRoom>,
        sent: &NumberMap<RoomNid, SentRoom>,
        direct: &DirectChats<'_>,
    ) -> Result<Selection<'a>, SyncError> {
        let listed = self.list_rooms(caller, rows, sent)?;
        let mut wishes: NumberMap<RoomNid, Wish<'a>> = NumberMap::default();
        let mut counts = Vec::with_capacity(request.lists.len());
        for (name, list) in &request.lists {
            let filters = Filters::read(self, caller, list.filters.as_ref(), direct)?;
            let windows = list.windows();
            let mut count = 0;
            for room in &listed {
                if !filters.let_through(room)? {
                    continue;
                }
                if windows.iter().any(|(first, last)| (*first..=*last).contains(&count)) {
                    let wish = wishes.entry(room.room).or_default();
                    wish.add(&list.room);
                    wish.lists.push(name);
                }
                count += 1;
            }
            counts.push((name.clone(), count));
        }
        for (id, config) in &request.room_subscriptions {
            let room = RoomId::parse(id).ok().map(|id| self.rooms.room_nid(&id)).transpose()?.flatten();
            let row = room.and_then(|room| rows.get(&room)).filter(|row| !row.forgotten);
            if let (Some(room), Some(row)) = (room, row)
                && (row.was_joined() || matches!(row.membership, Membership::Invite | Membership::Knock))
            {
                wishes.entry(room).or_default().add(config);
            }
        }
        let mut rooms = Vec::with_capacity(wishes.len());
        let mut listed = listed;
        for (room, row) in rows {
            // A subscribed room need not be one that lists show.
            if wishes.contains_key(room) && !listed.iter().any(|listed| listed.room == *room) {
                listed.push(self.list_room(caller, *room, *row)?);
            }
        }
        for room in listed {
            if let Some(wish) = wishes.remove(&room.room) {
                rooms.push((room, wish));
            }
        }
        Ok(Selection { rooms, counts })
    }

    /// The rooms that lists show, the most recently changed first.
    fn list_rooms(
        &self,
        caller: &Session,
        rows: &BTreeMap<RoomNid, UserRoom>,
        sent: &NumberMap<RoomNid, SentRoom>,
    ) -> Result<Vec<ListedRoom>, SyncError> {
        let hidden = HiddenInvites::new(self, caller)?;
        let mut listed = Vec::with_capacity(rows.len());
        for (&room, &row) in rows.iter().filter(|(_, row)| !row.forgotten) {
            let shown = match row.membership {
                Membership::Join | Membership::Knock => true,
                Membership::Invite => hidden.is_trivial() || !hidden.hides(&self.rooms.event_at(room, row.seq)?),
                // Users know of rooms they left, unless another of their devices did it.
                Membership::Leave | Membership::Ban if sent.contains_key(&room) => true,
                Membership::Leave | Membership::Ban => row.left_at.is_some() && self.was_removed(caller, room, row)?,
            };
            if shown {
                listed.push(self.list_room(caller, room, row)?);
            }
        }
        listed.sort_unstable_by(|a, b| b.changed.cmp(&a.changed).then(a.room.cmp(&b.room)));
        Ok(listed)
    }

    fn list_room(&self, caller: &Session, room: RoomNid, row: UserRoom) -> Result<ListedRoom, SyncError> {
        let told = match row.membership {
            Membership::Invite | Membership::Knock => RoomFact::of_stripped_state(&self.rooms, room, caller.user)?,
            _ => None,
        };
        let fact = match told {
            Some(told) => Arc::new(told),
            None => self.facts.get(&self.rooms, room)?,
        };
        let changed = if row.membership == Membership::Join { fact.last_pos } else { row.pos };
        Ok(ListedRoom { room, row, fact, changed })
    }

    /// Whether someone else ended the user's membership.
    fn was_removed(&self, caller: &Session, room: RoomNid, row: UserRoom) -> Result<bool, SyncError> {
        Ok(self.rooms.event_at(room, row.seq)?.sender_nid() != caller.user)
    }
}

/// A list's filters with all they refer to.
struct Filters<'a> {
    sync: &'a Inner,
    caller: &'a Session,
    filters: Option<&'a ListFilters>,
    direct: &'a DirectChats<'a>,
    children: Option<HashSet<RoomNid>>,
}

impl<'a> Filters<'a> {
    fn read(
        sync: &'a Inner,
        caller: &'a Session,
        filters: Option<&'a ListFilters>,
        direct: &'a DirectChats<'a>,
    ) -> Result<Filters<'a>, SyncError> {
        let children = match filters.and_then(|filters| filters.spaces.as_ref()) {
            Some(spaces) => Some(find_children(sync, caller, spaces)?),
            None => None,
        };
        Ok(Filters { sync, caller, filters, direct, children })
    }

    fn let_through(&self, listed: &ListedRoom) -> Result<bool, SyncError> {
        let Some(filters) = self.filters else { return Ok(true) };
        let ListedRoom { room, row, fact, .. } = listed;
        let is_invite = row.membership == Membership::Invite;
        let has_type =
            |types: &Vec<Option<String>>| types.iter().any(|kind| kind.as_deref() == fact.room_type.as_deref());
        let name_has = |text: &String| {
            let name = fact.name.as_deref().unwrap_or_default();
            name.to_lowercase().contains(&text.to_lowercase())
        };
        if filters.is_invited.is_some_and(|wanted| wanted != is_invite)
            || filters.is_encrypted.is_some_and(|wanted| wanted != fact.is_encrypted)
            || filters.room_types.as_ref().is_some_and(|types| !has_type(types))
            || filters.not_room_types.as_ref().is_some_and(has_type)
            || filters.room_name_like.as_ref().is_some_and(|text| !name_has(text))
            || self.children.as_ref().is_some_and(|children| !children.contains(room))
        {
            return Ok(false);
        }
        if let Some(wanted) = filters.is_dm
            && self.direct.contains(*room)? != wanted
        {
            return Ok(false);
        }
        self.tags_match(filters, *room)
    }

    fn tags_match(&self, filters: &ListFilters, room: RoomNid) -> Result<bool, SyncError> {
        if filters.tags.is_none() && filters.not_tags.is_none() {
            return Ok(true);
        }
        let tags = self.sync.users.tags(self.caller.user, room)?;
        let has_one = |wanted: &Vec<String>| wanted.iter().any(|tag| tags.contains_key(tag));
        Ok(filters.tags.as_ref().is_none_or(has_one) && !filters.not_tags.as_ref().is_some_and(has_one))
    }
}

/// The rooms that are children of one of the spaces, as far as the user is joined to those.
fn find_children(sync: &Inner, caller: &Session, spaces: &[String]) -> Result<HashSet<RoomNid>, SyncError> {
    let mut children = HashSet::new();
    for space in spaces {
        let Some(space) = RoomId::parse(space).ok().map(|id| sync.rooms.room_nid(&id)).transpose()?.flatten() else {
            continue;
        };
        let row = sync.rooms.membership(space, caller.user)?;
        if row.is_none_or(|row| row.membership != Membership::Join) {
            continue;
        }
        let snapshot = sync.rooms.head(space)?.state();
        for entry in sync.plain_states.read(&sync.rooms, space, snapshot)?.plain.iter() {
            if &*entry.kind != "m.space.child" {
                continue;
            }
            // A child that was taken out has an empty content.
            if sync.rooms.event_at(space, entry.seq)?.content().contains("\"via\"") {
                let child = RoomId::parse(&*entry.state_key).ok();
                children.extend(child.map(|id| sync.rooms.room_nid(&id)).transpose()?.flatten());
            }
        }
    }
    Ok(children)
}
