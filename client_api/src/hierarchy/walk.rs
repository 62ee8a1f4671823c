//! A walk through a space: rooms of this server as they stand here, others as servers in them tell.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use rooms::{Membership, RoomError, Rooms, UserNid};
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, ServerName};

use super::to_object;
use crate::error::ApiError;
use crate::membership::Everywhere;

/// How many rooms one walk visits.
const MAX_WALK: usize = 2000;
/// How many rooms one walk asks other servers about; their answers are kept there for the next page.
const MAX_ASKED: usize = 100;
/// After so many questions without an answer no further one is asked.
const MAX_FAILED: usize = 3;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most servers of one child.
const MAX_VIA: usize = 20;
/// The most children of one room that are followed.
const MAX_CHILDREN: usize = 500;

/// What shapes a walk.
pub(super) struct Wanted {
    /// For whom.
    pub user: UserNid,
    /// Follow only children that are suggested.
    pub suggested_only: bool,
    /// How deep to go.
    pub max_depth: Option<usize>,
}

/// A room that is still to be visited.
struct Place {
    room: RoomId,
    depth: usize,
    via: Vec<ServerName>,
    /// What a server said of it when it was asked about its parent.
    told: Option<Map<String, Value>>,
}

/// A room of the hierarchy, with what other servers said of its children.
struct Visited {
    entry: Map<String, Value>,
    children: Vec<Map<String, Value>>,
    inaccessible: BTreeSet<String>,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    everywhere: &'a Everywhere,
    wanted: Wanted,
    asked: usize,
    failed: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(everywhere: &'a Everywhere, wanted: Wanted) -> Walk<'a> {
        Walk { everywhere, wanted, asked: 0, failed: 0 }
    }

    /// The rooms from the `skip`th on, at most `limit`, depth first, and how many to skip for the next page.
    ///
    /// # Errors
    /// [`RoomError::NotInRoom`] if the user may not know of the root.
    pub(super) async fn take(
        mut self,
        root: &RoomId,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<Map<String, Value>>, Option<usize>), ApiError> {
        let mut stack = vec![Place { room: root.clone(), depth: 0, via: Vec::new(), told: None }];
        let mut seen = HashSet::from([root.clone()]);
        let (mut found, mut index) = (Vec::new(), 0);
        while let Some(place) = stack.pop() {
            let Some(Visited { mut entry, children, inaccessible }) = self.visit(&place).await? else {
                if place.depth == 0 {
                    return Err(RoomError::NotInRoom.into());
                }
                continue;
            };
            let mut told: Vec<Option<Map<String, Value>>> = children.into_iter().map(Some).collect();
            let below = self.follow(&place, &mut entry);
            // A stack: the first child has to come out first.
            for (room, via) in below.into_iter().rev() {
                if inaccessible.contains(room.as_str()) || seen.len() >= MAX_WALK || !seen.insert(room.clone()) {
                    continue;
                }
                let is_told = |told: &&mut Option<Map<String, Value>>| {
                    told.as_ref().and_then(|told| told.get("room_id")?.as_str()) == Some(room.as_str())
                };
                let told = told.iter_mut().find(is_told).and_then(Option::take);
                stack.push(Place { room, depth: place.depth + 1, via, told });
            }
            if index >= skip {
                found.push(entry);
            }
            index += 1;
            if found.len() >= limit {
                return Ok((found, (!stack.is_empty()).then_some(index)));
            }
        }
        Ok((found, None))
    }

    fn may_descend(&self, depth: usize) -> bool {
        self.wanted.max_depth.is_none_or(|max| depth < max)
    }

    /// The room as the user may know it; `None` if they may not, or nobody could be asked.
    async fn visit(&mut self, place: &Place) -> Result<Option<Visited>, ApiError> {
        let rooms = &self.everywhere.rooms;
        if let Some(nid) = rooms.room_nid(&place.room)?
            && self.everywhere.is_here(nid)?
        {
            if !rooms.may_know(nid, Some(self.wanted.user))? {
                return Ok(None);
            }
            let summary = rooms.summary(nid)?;
            let children = match summary.room_type.as_deref() {
                Some("m.space") if self.may_descend(place.depth) => {
                    rooms.space_children(nid, self.wanted.suggested_only)?
                }
                _ => Vec::new(),
            };
            let mut entry = to_object(&summary)?;
            let events: Vec<_> = children.into_iter().map(|(_, event)| event).collect();
            entry.insert("children_state".into(), json!(events));
            return Ok(Some(Visited { entry, children: Vec::new(), inaccessible: BTreeSet::new() }));
        }
        let visited = match (&place.told, self.ask(place).await) {
            (_, Some(visited)) => visited,
            (Some(told), None) => {
                let mut entry = told.clone();
                entry.insert("children_state".into(), json!([]));
                Visited { entry, children: Vec::new(), inaccessible: BTreeSet::new() }
            }
            (None, None) => return Ok(None),
        };
        let may_know = may_know_of(&self.everywhere.rooms, &place.room, &visited.entry, self.wanted.user)?;
        Ok(may_know.then_some(visited))
    }

    /// Asks other servers about a room, if what is told of it already is not all there is to tell.
    async fn ask(&mut self, place: &Place) -> Option<Visited> {
        let is_space = |told: &Map<String, Value>| told.get("room_type").and_then(Value::as_str) == Some("m.space");
        if place.told.as_ref().is_some_and(|told| !is_space(told) || !self.may_descend(place.depth)) {
            return None;
        }
        if self.asked >= MAX_ASKED || self.failed >= MAX_FAILED {
            return None;
        }
        self.asked += 1;
        let asking = self.everywhere.remote.hierarchy(&place.room, &place.via, self.wanted.suggested_only);
        let mut answer = match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(RoomError::RemoteRefused { .. } | RoomError::RoomNotFound)) => return None,
            _ => {
                self.failed += 1;
                return None;
            }
        };
        let Some(Value::Object(entry)) = answer.remove("room") else { return None };
        let children = match answer.remove("children") {
            Some(Value::Array(children)) => children,
            _ => Vec::new(),
        };
        let children = children.into_iter().filter_map(|child| match child {
            Value::Object(mut child) => {
                child.remove("children_state");
                Some(child)
            }
            _ => None,
        });
        let inaccessible = answer.get("inaccessible_children").and_then(Value::as_array).into_iter().flatten();
        let inaccessible = inaccessible.filter_map(|id| id.as_str().map(str::to_owned)).collect();
        Some(Visited { entry, children: children.collect(), inaccessible })
    }

    /// The children of a room in the specified order; leaves in its entry those that are wanted.
    fn follow(&self, place: &Place, entry: &mut Map<String, Value>) -> Vec<(RoomId, Vec<ServerName>)> {
        let is_space = entry.get("room_type").and_then(Value::as_str) == Some("m.space");
        let Some(Value::Array(events)) = entry.get_mut("children_state") else { return Vec::new() };
        if !is_space || !self.may_descend(place.depth) {
            events.clear();
            return Vec::new();
        }
        events.retain(|event| is_wanted(event, self.wanted.suggested_only));
        events.sort_by_cached_key(order_key);
        events.truncate(MAX_CHILDREN);
        let child = |event: &Value| {
            let room = RoomId::parse(event.get("state_key")?.as_str()?).ok()?;
            let via = event.get("content")?.get("via")?.as_array()?.iter().take(MAX_VIA);
            Some((room, via.filter_map(|server| ServerName::parse(server.as_str()?).ok()).collect()))
        };
        events.iter().filter_map(child).collect()
    }
}

/// Whether a child is one: `via` is there. A child without it was taken out.
fn is_wanted(event: &Value, suggested_only: bool) -> bool {
    let content = event.get("content");
    let has_via = content.and_then(|content| content.get("via")?.as_array()).is_some_and(|via| !via.is_empty());
    let suggested = content.and_then(|content| content.get("suggested")?.as_bool()).unwrap_or(false);
    has_via && (suggested || !suggested_only)
}

/// Client-Server API §"Ordering of children within a space".
fn order_key(event: &Value) -> (bool, Option<String>, i64, String) {
    let order = event.get("content").and_then(|content| content.get("order")?.as_str());
    let order = order.filter(|order| order.len() <= 50 && order.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    let time = event.get("origin_server_ts").and_then(Value::as_i64).unwrap_or_default();
    let child = event.get("state_key").and_then(Value::as_str).unwrap_or_default();
    (order.is_none(), order.map(str::to_owned), time, child.to_owned())
}

/// Whether the user may know of a room elsewhere what its summary tells: they are invited, or could come in or look
/// in. That this server may know it, the server that told it has decided.
pub(super) fn may_know_of(
    rooms: &Rooms,
    room: &RoomId,
    summary: &Map<String, Value>,
    user: UserNid,
) -> Result<bool, ApiError> {
    if is_member(rooms, room, user, &[Membership::Join, Membership::Invite])? {
        return Ok(true);
    }
    let rule = summary.get("join_rule").and_then(Value::as_str).unwrap_or("public");
    let world_readable = summary.get("world_readable").and_then(Value::as_bool).unwrap_or(false);
    if world_readable || matches!(rule, "public" | "knock" | "knock_restricted") {
        return Ok(true);
    }
    let allowed = summary.get("allowed_room_ids").and_then(Value::as_array).into_iter().flatten();
    for allowed in allowed.filter_map(Value::as_str) {
        let Ok(allowed) = RoomId::parse(allowed) else { continue };
        if rule == "restricted" && is_member(rooms, &allowed, user, &[Membership::Join])? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_member(rooms: &Rooms, room: &RoomId, user: UserNid, wanted: &[Membership]) -> Result<bool, ApiError> {
    let Some(nid) = rooms.room_nid(room)? else { return Ok(false) };
    Ok(rooms.membership(nid, user)?.is_some_and(|row| wanted.contains(&row.membership)))
}
