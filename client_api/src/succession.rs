//! What users take along when a room is replaced: their push rules for it (the specification leaves it to servers;
//! clients expect a muted room to stay muted).

use rooms::{Event, Head, Rooms};
use serde_json::{Map, Value};
use spec::ids::RoomId;
use spec::push::{Condition, NewRule, Placement, Rule, RuleKind};
use users::Users;

use crate::error::ApiError;
use crate::extract::User;

/// Gives a room that replaces another the caller's push rules for that one, unless they have some for it already. A
/// failure is logged only: it keeps nobody out of a room.
pub(crate) async fn take_rules_along(user: &User, room: &RoomId, rooms: &Rooms, users: &Users) {
    let taken = async {
        match find_predecessor(user, room, rooms)? {
            Some(old) => copy_rules(user, &old, room, users).await,
            None => Ok(()),
        }
    };
    if let Err(error) = taken.await {
        tracing::warn!(room_id = room.as_str(), ?error, "push rules were not taken along to a room's successor");
    }
}

/// The room that this one replaces, where both say so: anybody can claim it of a room of theirs.
fn find_predecessor(user: &User, room: &RoomId, rooms: &Rooms) -> Result<Option<RoomId>, ApiError> {
    let Some(nid) = rooms.room_nid(room)? else { return Ok(None) };
    let head = rooms.head(nid)?;
    let Some(old) = named_predecessor(&head) else { return Ok(None) };
    let Some(old_nid) = rooms.room_nid(&old)? else { return Ok(None) };
    if rooms.membership(old_nid, user.user)?.is_none() {
        return Ok(None);
    }
    let tombstone = rooms.state_event(old_nid, rooms.head(old_nid)?.state(), "m.room.tombstone", "")?;
    Ok(tombstone.as_ref().and_then(replacement_of).filter(|named| named == room).map(|_| old))
}

fn named_predecessor(head: &Head) -> Option<RoomId> {
    let content: Map<String, Value> = head.create()?.content().ok()?;
    RoomId::parse(content.get("predecessor")?.get("room_id")?.as_str()?).ok()
}

fn replacement_of(tombstone: &Event) -> Option<RoomId> {
    #[derive(serde::Deserialize)]
    struct Tombstone {
        replacement_room: String,
    }
    RoomId::parse(&*tombstone.content_as::<Tombstone>()?.replacement_room).ok()
}

/// Rules for a room are those that have its id for a name: of kind `room`, and the overrides by which clients mute.
async fn copy_rules(user: &User, old: &RoomId, new: &RoomId, users: &Users) -> Result<(), ApiError> {
    let rules = users.push_rules(user.user)?;
    for kind in [RuleKind::Override, RuleKind::Room] {
        let named = |room: &RoomId| rules.of_kind(kind).iter().find(|rule| rule.rule_id == room.as_str());
        let (Some(rule), None) = (named(old), named(new)) else { continue };
        users.put_push_rule(user.user, kind, new.as_str(), renamed(rule, old, new), Placement::default()).await?;
        if !rule.enabled {
            users.set_push_rule_enabled(user.user, kind, new.as_str(), false).await?;
        }
    }
    Ok(())
}

fn renamed(rule: &Rule, old: &RoomId, new: &RoomId) -> NewRule {
    let rename = |Condition(mut condition): Condition| {
        for value in condition.values_mut().filter(|value| value.as_str() == Some(old.as_str())) {
            *value = new.as_str().into();
        }
        Condition(condition)
    };
    NewRule {
        actions: rule.actions.clone(),
        conditions: rule.conditions.clone().map(|conditions| conditions.into_iter().map(rename).collect()),
        pattern: rule.pattern.clone(),
        other: rule.other.clone(),
    }
}
