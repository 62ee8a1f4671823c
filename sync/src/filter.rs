//! Filters (Client-Server API §Filtering): what of everything a client wants to be told.

use std::collections::BTreeSet;

use rooms::{Event, RoomView};
use serde::Deserialize;
use spec::ids::{RoomId, UserId};

/// Why a filter was refused; the text is for the client.
#[derive(Debug, thiserror::Error)]
#[error("the filter is malformed: {0}")]
pub struct FilterError(String);

/// A whole filter, as stored by `POST /user/{userId}/filter` or given to `/sync`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The fields of events to include; all if absent.
    pub event_fields: Option<Vec<String>>,
    /// Whether events are wanted as other servers see them.
    pub event_format: EventFormatName,
    /// Which presence events.
    pub presence: EventFilter,
    /// Which global account data.
    pub account_data: EventFilter,
    /// Which rooms, and what of them.
    pub room: RoomFilter,
    /// Which fields of profiles (MSC4429).
    #[serde(rename = "org.matrix.msc4429.profile_fields", alias = "profile_fields")]
    pub profile_fields: ProfileFieldFilter,
}

/// Which fields of profiles a client wants to be told of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProfileFieldFilter {
    /// Their names; none if absent.
    pub ids: Vec<String>,
}

/// `event_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventFormatName {
    /// As clients use them.
    #[default]
    Client,
    /// The PDU.
    Federation,
}

/// Which events without a room.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// The most events to return.
    pub limit: Option<u64>,
    /// Senders to leave out.
    pub not_senders: BTreeSet<String>,
    /// Types to leave out; `*` stands for any text.
    pub not_types: Vec<String>,
    /// The senders to include; all if absent.
    pub senders: Option<BTreeSet<String>>,
    /// The types to include; all if absent.
    pub types: Option<Vec<String>>,
}

/// What of rooms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RoomFilter {
    /// Rooms to leave out.
    pub not_rooms: BTreeSet<String>,
    /// The rooms to include; all if absent.
    pub rooms: Option<BTreeSet<String>>,
    /// Typing and receipts.
    pub ephemeral: RoomEventFilter,
    /// Whether to include rooms that the user has left.
    pub include_leave: bool,
    /// State.
    pub state: RoomEventFilter,
    /// Timelines.
    pub timeline: RoomEventFilter,
    /// Account data of rooms.
    pub account_data: RoomEventFilter,
}

/// Which events of rooms. Also the `filter` of `/messages`, `/context` and `/search`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RoomEventFilter {
    /// Senders and types.
    #[serde(flatten)]
    pub events: EventFilter,
    /// Rooms to leave out.
    pub not_rooms: BTreeSet<String>,
    /// The rooms to include; all if absent.
    pub rooms: Option<BTreeSet<String>>,
    /// Only events with, or only events without, a `url` in their content.
    pub contains_url: Option<bool>,
    /// The relation types to include; all, and events without a relation, if absent (MSC3874).
    #[serde(rename = "org.matrix.msc3874.rel_types", alias = "rel_types")]
    pub rel_types: Option<Vec<String>>,
    /// Relation types to leave out (MSC3874).
    #[serde(rename = "org.matrix.msc3874.not_rel_types", alias = "not_rel_types")]
    pub not_rel_types: Vec<String>,
    /// Only events to which others relate with one of these relation types.
    pub related_by_rel_types: Option<Vec<String>>,
    /// Only events to which events of these senders relate.
    pub related_by_senders: Option<BTreeSet<String>>,
    /// Membership events only of those who are seen.
    pub lazy_load_members: bool,
    /// With lazy loading: also membership events that the client has already.
    pub include_redundant_members: bool,
    /// Unread counts by thread.
    pub unread_thread_notifications: bool,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`] with a text for the client: not JSON, a field of the wrong type, or an
    /// identifier that cannot be one.
    pub fn parse(json: &[u8]) -> Result<Filter, FilterError> {
        let filter: Filter = read_object(json)?;
        let room = &filter.room;
        check_rooms(&room.rooms, &room.not_rooms)?;
        for part in [&room.ephemeral, &room.state, &room.timeline, &room.account_data] {
            part.check()?;
        }
        filter.presence.check()?;
        filter.account_data.check()?;
        Ok(filter)
    }
}

impl RoomEventFilter {
    /// Reads the filter of `/messages`, `/context` or `/search`.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse(json: &[u8]) -> Result<RoomEventFilter, FilterError> {
        let filter: RoomEventFilter = read_object(json)?;
        filter.check()?;
        Ok(filter)
    }

    fn check(&self) -> Result<(), FilterError> {
        check_rooms(&self.rooms, &self.not_rooms)?;
        self.events.check()
    }

    /// Whether it lets events of the room through at all.
    #[must_use]
    pub fn matches_room(&self, room: &str) -> bool {
        !self.not_rooms.contains(room) && self.rooms.as_ref().is_none_or(|rooms| rooms.contains(room))
    }

    /// Whether it lets an event through by what the event says itself; the room is checked by
    /// [`RoomEventFilter::matches_room`].
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.events.matches(event.kind(), event.sender())
            && self.contains_url.is_none_or(|wanted| has_url(event.content()) == wanted)
            && self.matches_relation(event)
    }

    /// As [`RoomEventFilter::matches`], and by what relates to the event.
    #[must_use]
    pub fn matches_in(&self, view: &RoomView, event: &Event) -> bool {
        if !self.matches(event) {
            return false;
        }
        let (rel_types, senders) = (self.related_by_rel_types.as_deref(), self.related_by_senders.as_ref());
        if rel_types.is_none() && senders.is_none() {
            return true;
        }
        view.is_related_by(event, rel_types, senders).unwrap_or_else(|error| {
            tracing::error!(%error, "relations could not be read");
            false
        })
    }

    fn matches_relation(&self, event: &Event) -> bool {
        if self.rel_types.is_none() && self.not_rel_types.is_empty() {
            return true;
        }
        let rel_type = event.rel_type();
        let is_in = |types: &[String]| rel_type.as_deref().is_some_and(|own| types.iter().any(|one| one == own));
        self.rel_types.as_deref().is_none_or(is_in) && !is_in(&self.not_rel_types)
    }

    /// Whether it lets every event of every room through.
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        let relations = self.rel_types.is_none()
            && self.not_rel_types.is_empty()
            && self.related_by_rel_types.is_none()
            && self.related_by_senders.is_none();
        let rooms = self.rooms.is_none() && self.not_rooms.is_empty();
        self.events.is_trivial() && self.contains_url.is_none() && relations && rooms
    }
}

impl EventFilter {
    /// Whether it lets an event of this type and sender through.
    #[must_use]
    pub fn matches(&self, kind: &str, sender: &str) -> bool {
        self.matches_type(kind)
            && !self.not_senders.contains(sender)
            && self.senders.as_ref().is_none_or(|senders| senders.contains(sender))
    }

    /// Whether it lets an event of this type through, for those that have no sender.
    #[must_use]
    pub fn matches_type(&self, kind: &str) -> bool {
        !self.not_types.iter().any(|pattern| matches_pattern(pattern, kind))
            && self.types.as_ref().is_none_or(|types| types.iter().any(|pattern| matches_pattern(pattern, kind)))
    }

    fn is_trivial(&self) -> bool {
        self.not_senders.is_empty() && self.not_types.is_empty() && self.senders.is_none() && self.types.is_none()
    }

    fn check(&self) -> Result<(), FilterError> {
        for sender in self.senders.iter().flatten().chain(&self.not_senders) {
            UserId::parse(sender).map_err(|_| FilterError(format!("{sender:?} is not a user id")))?;
        }
        Ok(())
    }
}

impl RoomFilter {
    /// Whether the room is wanted.
    #[must_use]
    pub fn matches_room(&self, room: &str) -> bool {
        !self.not_rooms.contains(room) && self.rooms.as_ref().is_none_or(|rooms| rooms.contains(room))
    }
}

fn read_object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, FilterError> {
    // Where a struct is expected, an array would do as well.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(FilterError("not an object".to_owned()));
    }
    serde_json::from_slice(json).map_err(|error| FilterError(error.to_string()))
}

fn check_rooms(rooms: &Option<BTreeSet<String>>, not_rooms: &BTreeSet<String>) -> Result<(), FilterError> {
    for room in rooms.iter().flatten().chain(not_rooms) {
        RoomId::parse(room).map_err(|_| FilterError(format!("{room:?} is not a room id")))?;
    }
    Ok(())
}

fn has_url(content: &str) -> bool {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow, default)]
        url: Option<std::borrow::Cow<'a, str>>,
    }
    content.contains("\"url\"")
        && serde_json::from_str::<Content<'_>>(content).is_ok_and(|content| content.url.is_some())
}

/// Whether a text matches a pattern in which `*` stands for any text.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((part, after)) = rest.split_once('*') {
        let Some(found) = text.find(part) else { return false };
        text = &text[found + part.len()..];
        rest = after;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests;
