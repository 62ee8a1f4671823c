//! Power levels: who may do what in a room (Client-Server API §`m.room.power_levels`, Server-Server API
//! §Definitions of the authorisation rules).
//!
//! [`PowerLevels`] is the parsed form for callers that keep it; the auth rules read single levels
//! straight from the event.

use std::collections::BTreeMap;

use crate::{
    auth::create::{creator, is_creator, room_creators},
    ids::UserId,
    pdu::Pdu,
    version::RoomVersionRules,
};

pub(crate) mod content;
#[cfg(test)]
mod tests;

pub use content::LevelField;
pub(crate) use content::{BadLevel, LevelMap, PowerContent};

/// The level of the creator while the room has no `m.room.power_levels`, in versions 1 to 11.
const CREATOR_LEVEL: i64 = 100;
/// The level to notify with `@room` and other keys that the event does not list.
const NOTIFICATION_LEVEL: i64 = 50;

/// The power of a user. Orders from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PowerLevel {
    /// An ordinary level.
    Finite(i64),
    /// A creator in room version 12: above every number.
    Infinite,
}

impl PowerLevel {
    /// Whether this power suffices where `required` is asked.
    pub fn at_least(self, required: i64) -> bool {
        self >= Self::Finite(required)
    }
}

/// The levels of a room at one state, parsed completely.
#[derive(Clone, Debug)]
pub struct PowerLevels {
    creators: Vec<UserId>,
    /// The level of creators that are not listed in `users`.
    creator_level: Option<PowerLevel>,
    fields: [i64; LevelField::ALL.len()],
    users: BTreeMap<Box<str>, i64>,
    events: BTreeMap<Box<str>, i64>,
    notifications: BTreeMap<Box<str>, i64>,
}

impl PowerLevels {
    /// Reads the levels from the state: the `m.room.power_levels` event if there is one, and `m.room.create`.
    /// A malformed value counts as absent; auth rules are stricter and refuse instead.
    pub fn from_state(power_levels: Option<&Pdu>, create: &Pdu, rules: &RoomVersionRules) -> Self {
        let content = power_levels.and_then(|event| PowerContent::parse(&event.content).ok());
        let strict = rules.integer_power_levels;
        let field = |field: LevelField| {
            let given = content.as_ref().and_then(|content| content.level(field, strict).ok().flatten());
            given.unwrap_or(field.default_level())
        };
        let map = |map| content.as_ref().map(|content| content.valid_entries(map, strict)).unwrap_or_default();
        let creator_level = if rules.explicitly_privilege_room_creators {
            Some(PowerLevel::Infinite)
        } else {
            power_levels.is_none().then_some(PowerLevel::Finite(CREATOR_LEVEL))
        };
        Self {
            creators: room_creators(rules, create),
            creator_level,
            fields: LevelField::ALL.map(field),
            users: map(LevelMap::Users),
            events: map(LevelMap::Events),
            notifications: map(LevelMap::Notifications),
        }
    }

    /// The power of a user, whether or not it is a member.
    pub fn user(&self, user: &UserId) -> PowerLevel {
        if let Some(level) = self.creator_level
            && self.creators.contains(user)
        {
            return level;
        }
        let listed = self.users.get(user.as_str()).copied();
        PowerLevel::Finite(listed.unwrap_or_else(|| self.field(LevelField::UsersDefault)))
    }

    /// The creators of the room (Room Version 12 §Event format; one user before version 12).
    pub fn creators(&self) -> &[UserId] {
        &self.creators
    }

    /// The level of a field, its default when absent.
    pub fn field(&self, field: LevelField) -> i64 {
        self.fields.get(field as usize).copied().unwrap_or(field.default_level())
    }

    /// The level required to send an event of type `kind`, as a state event or not.
    pub fn required_for_event(&self, kind: &str, is_state: bool) -> i64 {
        let default = if is_state { LevelField::StateDefault } else { LevelField::EventsDefault };
        self.events.get(kind).copied().unwrap_or_else(|| self.field(default))
    }

    /// The level required to invite.
    pub fn invite(&self) -> i64 {
        self.field(LevelField::Invite)
    }

    /// The level required to kick.
    pub fn kick(&self) -> i64 {
        self.field(LevelField::Kick)
    }

    /// The level required to ban.
    pub fn ban(&self) -> i64 {
        self.field(LevelField::Ban)
    }

    /// The level required to redact events of others.
    pub fn redact(&self) -> i64 {
        self.field(LevelField::Redact)
    }

    /// The level required to notify with `key`, of which `room` is the only one in use.
    pub fn notification(&self, key: &str) -> i64 {
        self.notifications.get(key).copied().unwrap_or(NOTIFICATION_LEVEL)
    }
}

/// Power levels as the auth rules see them: single levels are read on demand, malformed ones are errors.
pub(crate) struct PowerView<'a> {
    rules: &'a RoomVersionRules,
    create: &'a Pdu,
    content: Option<PowerContent<'a>>,
}

impl<'a> PowerView<'a> {
    pub(crate) fn new(rules: &'a RoomVersionRules, create: &'a Pdu, event: Option<&'a Pdu>) -> Result<Self, BadLevel> {
        let content = event.map(|event| PowerContent::parse(&event.content)).transpose()?;
        Ok(Self { rules, create, content })
    }

    pub(crate) fn content(&self) -> Option<&PowerContent<'a>> {
        self.content.as_ref()
    }

    pub(crate) fn user(&self, user: &str) -> Result<PowerLevel, BadLevel> {
        if self.rules.explicitly_privilege_room_creators && is_creator(self.rules, self.create, user) {
            return Ok(PowerLevel::Infinite);
        }
        let Some(content) = &self.content else {
            let is_creator = creator(self.rules, self.create).is_some_and(|creator| creator == user);
            return Ok(PowerLevel::Finite(if is_creator { CREATOR_LEVEL } else { 0 }));
        };
        match content.entry(LevelMap::Users, user, self.rules.integer_power_levels)? {
            Some(level) => Ok(PowerLevel::Finite(level)),
            None => self.level(LevelField::UsersDefault).map(PowerLevel::Finite),
        }
    }

    pub(crate) fn level(&self, field: LevelField) -> Result<i64, BadLevel> {
        let given = match &self.content {
            Some(content) => content.level(field, self.rules.integer_power_levels)?,
            None => None,
        };
        Ok(given.unwrap_or(field.default_level()))
    }

    pub(crate) fn required_for_event(&self, kind: &str, is_state: bool) -> Result<i64, BadLevel> {
        let listed = match &self.content {
            Some(content) => content.entry(LevelMap::Events, kind, self.rules.integer_power_levels)?,
            None => None,
        };
        match listed {
            Some(level) => Ok(level),
            None if is_state => self.level(LevelField::StateDefault),
            None => self.level(LevelField::EventsDefault),
        }
    }
}
