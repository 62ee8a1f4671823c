//! The content of `m.room.power_levels`, borrowed from the event and read only where a rule asks.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    auth::peek::{as_string, find_property, present},
    ids::BorrowedStr,
};

/// A property of `m.room.power_levels` that holds one level (Client-Server API §`m.room.power_levels`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelField {
    /// `users_default`: the level of users that are not listed.
    UsersDefault,
    /// `events_default`: what other message events require.
    EventsDefault,
    /// `state_default`: what other state events require.
    StateDefault,
    /// `ban`
    Ban,
    /// `redact`
    Redact,
    /// `kick`
    Kick,
    /// `invite`
    Invite,
}

impl LevelField {
    /// Every field, in the order of declaration: `ALL[field as usize] == field`.
    pub const ALL: [Self; 7] = [
        Self::UsersDefault,
        Self::EventsDefault,
        Self::StateDefault,
        Self::Ban,
        Self::Redact,
        Self::Kick,
        Self::Invite,
    ];

    /// The property name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UsersDefault => "users_default",
            Self::EventsDefault => "events_default",
            Self::StateDefault => "state_default",
            Self::Ban => "ban",
            Self::Redact => "redact",
            Self::Kick => "kick",
            Self::Invite => "invite",
        }
    }

    /// The level when the property or the whole event is absent.
    pub const fn default_level(self) -> i64 {
        match self {
            Self::UsersDefault | Self::EventsDefault | Self::Invite => 0,
            Self::StateDefault | Self::Ban | Self::Redact | Self::Kick => 50,
        }
    }
}

/// A property of `m.room.power_levels` that maps names to levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LevelMap {
    Events,
    Notifications,
    Users,
}

impl LevelMap {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Notifications => "notifications",
            Self::Users => "users",
        }
    }
}

/// The named property does not have the form that the room version demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadLevel(pub(crate) &'static str);

/// The content with every property unparsed.
#[derive(Deserialize)]
pub(crate) struct PowerContent<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    users_default: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    events_default: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    state_default: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    ban: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    redact: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    kick: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    invite: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    events: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    notifications: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    users: Option<&'a RawValue>,
}

impl<'a> PowerContent<'a> {
    /// Splits the content. Fails when it is not an object.
    pub(crate) fn parse(content: &'a RawValue) -> Result<Self, BadLevel> {
        serde_json::from_str(content.get()).map_err(|_| BadLevel("content"))
    }

    /// The level of a field, `None` when absent.
    pub(crate) fn level(&self, field: LevelField, integers_only: bool) -> Result<Option<i64>, BadLevel> {
        let value = match field {
            LevelField::UsersDefault => self.users_default,
            LevelField::EventsDefault => self.events_default,
            LevelField::StateDefault => self.state_default,
            LevelField::Ban => self.ban,
            LevelField::Redact => self.redact,
            LevelField::Kick => self.kick,
            LevelField::Invite => self.invite,
        };
        value.map(|value| parse_level(value, integers_only).ok_or(BadLevel(field.as_str()))).transpose()
    }

    /// The level of one entry of a map, `None` when the entry or the map is absent. Reads no other entry.
    pub(crate) fn entry(&self, map: LevelMap, key: &str, integers_only: bool) -> Result<Option<i64>, BadLevel> {
        let bad = BadLevel(map.as_str());
        let Some(json) = self.map(map) else { return Ok(None) };
        let Some(value) = find_property(json, key).map_err(|_| bad)? else { return Ok(None) };
        parse_level(value, integers_only).map(Some).ok_or(bad)
    }

    /// A whole map, empty when absent.
    pub(crate) fn entries(&self, map: LevelMap, integers_only: bool) -> Result<BTreeMap<Cow<'a, str>, i64>, BadLevel> {
        let bad = BadLevel(map.as_str());
        self.raw_entries(map)?
            .into_iter()
            .map(|(key, value)| parse_level(value, integers_only).map(|level| (key, level)).ok_or(bad))
            .collect()
    }

    /// The entries of a map that are levels; whatever is malformed is left out.
    pub(crate) fn valid_entries(&self, map: LevelMap, integers_only: bool) -> BTreeMap<Box<str>, i64> {
        let entries = self.raw_entries(map).unwrap_or_default();
        let level = |(key, value): (Cow<'a, str>, &RawValue)| Some((key.into(), parse_level(value, integers_only)?));
        entries.into_iter().filter_map(level).collect()
    }

    fn map(&self, map: LevelMap) -> Option<&'a RawValue> {
        match map {
            LevelMap::Events => self.events,
            LevelMap::Notifications => self.notifications,
            LevelMap::Users => self.users,
        }
    }

    fn raw_entries(&self, map: LevelMap) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>, BadLevel> {
        let Some(json) = self.map(map) else { return Ok(Vec::new()) };
        let entries: BTreeMap<Key<'a>, &'a RawValue> =
            serde_json::from_str(json.get()).map_err(|_| BadLevel(map.as_str()))?;
        Ok(entries.into_iter().map(|(key, value)| (key.0, value)).collect())
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BorrowedStr::deserialize(deserializer).map(|key| Self(key.0))
    }
}

/// Reads one level. From room version 10 on only an integer counts; before that also a string that is an
/// integer, and a float, which is truncated (Room Version 1 §Deprecated event content schemas).
pub(crate) fn parse_level(value: &RawValue, integers_only: bool) -> Option<i64> {
    let text = value.get();
    if let Ok(level) = text.parse() {
        return Some(level);
    }
    if integers_only {
        return None;
    }
    match as_string(value) {
        Some(string) => parse_string_level(&string),
        // No JSON value but a number parses here: `null`, `true` and containers are not Rust floats.
        // Values beyond i64 saturate, which keeps their order among ordinary levels.
        None => text.parse::<f64>().ok().filter(|level| level.is_finite()).map(|level| level as i64),
    }
}

fn parse_string_level(string: &str) -> Option<i64> {
    let trimmed = string.trim();
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    trimmed.parse().ok()
}
