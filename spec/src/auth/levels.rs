//! The rules for a new `m.room.power_levels` (rule 10 of room version 12 and its predecessors).

use std::{borrow::Cow, collections::BTreeMap};

use super::{AuthFailure, RoomState, create::room_creators};
use crate::{
    ids::UserId,
    pdu::Pdu,
    power::{BadLevel, LevelField, LevelMap, PowerContent, PowerLevel, PowerView},
};

type Levels<'a> = BTreeMap<Cow<'a, str>, i64>;

/// Checks the form of the new levels, then that nothing changes that is beyond the sender's power.
pub(super) fn check_power_levels(
    room: &RoomState<'_>,
    event: &Pdu,
    current: &PowerView<'_>,
    sender_power: PowerLevel,
) -> Result<(), AuthFailure> {
    let new = NewLevels::parse(room, event)?;
    let Some(current) = current.content() else { return Ok(()) };
    let integers_only = room.rules.integer_power_levels;

    for (field, new) in LevelField::ALL.into_iter().zip(new.fields) {
        let old = current.level(field, integers_only)?;
        let is_allowed = |level: Option<i64>| sender_power.at_least(level.unwrap_or(field.default_level()));
        if old != new && !(is_allowed(old) && is_allowed(new)) {
            return Err(AuthFailure::PowerField(field.as_str()));
        }
    }
    for (key, old, new) in changes(&current.entries(LevelMap::Events, integers_only)?, &new.events) {
        if !old.into_iter().chain(new).all(|level| sender_power.at_least(level)) {
            return Err(AuthFailure::PowerEvent(key.into()));
        }
    }
    if room.rules.limit_notifications_power_levels {
        for (key, old, new) in changes(&current.entries(LevelMap::Notifications, integers_only)?, &new.notifications) {
            if !old.into_iter().chain(new).all(|level| sender_power.at_least(level)) {
                return Err(AuthFailure::PowerNotification(key.into()));
            }
        }
    }
    for (user, old, new) in changes(&current.entries(LevelMap::Users, integers_only)?, &new.users) {
        if user != event.sender.as_str() && old.is_some_and(|old| PowerLevel::Finite(old) >= sender_power) {
            return Err(AuthFailure::PowerOfPeer(user.into()));
        }
        if new.is_some_and(|new| !sender_power.at_least(new)) {
            return Err(AuthFailure::PowerAboveOwn(user.into()));
        }
    }
    Ok(())
}

/// The levels in the event at hand, well formed.
struct NewLevels<'a> {
    fields: [Option<i64>; LevelField::ALL.len()],
    events: Levels<'a>,
    notifications: Levels<'a>,
    users: Levels<'a>,
}

impl<'a> NewLevels<'a> {
    /// Before room version 10 the rules name only `users`, but a value that is no number cannot be compared
    /// either; it is refused in every version.
    fn parse(room: &RoomState<'_>, event: &'a Pdu) -> Result<Self, AuthFailure> {
        let malformed = |BadLevel(property)| AuthFailure::PowerMalformed(property);
        let integers_only = room.rules.integer_power_levels;
        let content = PowerContent::parse(&event.content).map_err(malformed)?;
        let mut fields = [None; LevelField::ALL.len()];
        for (slot, field) in fields.iter_mut().zip(LevelField::ALL) {
            *slot = content.level(field, integers_only).map_err(malformed)?;
        }
        let map = |map| content.entries(map, integers_only).map_err(malformed);
        let new = Self {
            fields,
            events: map(LevelMap::Events)?,
            notifications: map(LevelMap::Notifications)?,
            users: map(LevelMap::Users)?,
        };
        if new.users.keys().any(|user| UserId::parse(user).is_err()) {
            return Err(AuthFailure::PowerUserInvalid);
        }
        if room.rules.explicitly_privilege_room_creators {
            let creators = room_creators(room.rules, room.create);
            if creators.iter().any(|creator| new.users.contains_key(creator.as_str())) {
                return Err(AuthFailure::PowerOfCreator);
            }
        }
        Ok(new)
    }
}

/// The entries that differ, as name, old level and new level.
fn changes<'m>(old: &'m Levels<'_>, new: &'m Levels<'_>) -> impl Iterator<Item = (&'m str, Option<i64>, Option<i64>)> {
    let kept_or_removed = old.iter().map(|(key, level)| (&**key, Some(*level), new.get(key).copied()));
    let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
    let added = added.map(|(key, level)| (&**key, None, Some(*level)));
    kept_or_removed.chain(added).filter(|(_, old, new)| old != new)
}
