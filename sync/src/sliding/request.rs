//! Requests of sliding sync: the accepted form of MSC4186 and the draft form that clients speak.

use std::collections::BTreeMap;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::error::SyncError;

const MAX_LISTS: usize = 100;
const MAX_SUBSCRIPTIONS: usize = 100;
const MAX_CONN_ID_BYTES: usize = 255;
const MAX_STATE_ELEMENTS: usize = 500;

/// A request. Where the draft form has query parameters, the edge puts them into `pos` and `timeout`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SlidingRequest {
    /// Which of the device's connections.
    pub conn_id: String,
    /// Where the client stands; absent at the beginning.
    pub pos: Option<String>,
    /// How long to wait for news, in milliseconds.
    pub timeout: Option<u64>,
    /// `online`, `unavailable` or `offline`; for the edge.
    pub set_presence: Option<String>,
    /// Handed back in the answer.
    pub txn_id: Option<String>,
    /// Windows on the user's rooms.
    pub lists: BTreeMap<String, ListConfig>,
    /// Rooms by id.
    pub room_subscriptions: BTreeMap<String, RoomConfig>,
    /// What is wanted besides rooms.
    pub extensions: Extensions,
}

/// One list.
#[derive(Clone, Debug, Default, Hash, Deserialize)]
#[serde(default)]
pub struct ListConfig {
    /// What to tell of each room.
    #[serde(flatten)]
    pub room: RoomConfig,
    /// First and last index, both inclusive.
    pub range: Option<(u64, u64)>,
    /// The same in the draft form: several.
    pub ranges: Option<Vec<(u64, u64)>>,
    /// Which rooms are in the list.
    pub filters: Option<ListFilters>,
}

/// What to tell of a room.
#[derive(Clone, Debug, Default, Hash, Deserialize)]
#[serde(default)]
pub struct RoomConfig {
    /// The most events of one answer.
    pub timeline_limit: u64,
    /// The state wanted.
    pub required_state: RequiredState,
}

/// Which rooms are in a list; what is absent does not matter.
#[derive(Clone, Debug, Default, Hash, Deserialize)]
#[serde(default)]
pub struct ListFilters {
    /// Direct chats only, or none.
    pub is_dm: Option<bool>,
    /// Children of one of these spaces.
    pub spaces: Option<Vec<String>>,
    /// Encrypted rooms only, or none.
    pub is_encrypted: Option<bool>,
    /// Invites only, or none.
    #[serde(alias = "is_invite")]
    pub is_invited: Option<bool>,
    /// Of one of these types; `None` stands for rooms without one.
    pub room_types: Option<Vec<Option<String>>>,
    /// Of none of these types.
    pub not_room_types: Option<Vec<Option<String>>>,
    /// With one of these tags.
    pub tags: Option<Vec<String>>,
    /// With none of these tags.
    pub not_tags: Option<Vec<String>>,
    /// With this text in the name, in any case (draft form only).
    pub room_name_like: Option<String>,
}

/// Which state of a room is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequiredState {
    /// Events that match one of these, …
    pub include: Vec<StateElement>,
    /// … and none of these.
    pub exclude: Vec<StateElement>,
    /// Member events of those who are seen, instead of all that `include` names by their type only.
    pub lazy_members: bool,
}

/// Matches state events; `None` matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateElement {
    /// The type.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The state key; `$ME` stands for the user's id.
    #[serde(default)]
    pub state_key: Option<String>,
}

impl<'de> Deserialize<'de> for RequiredState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Draft(Vec<(String, String)>),
            Accepted {
                #[serde(default)]
                include: Vec<StateElement>,
                #[serde(default)]
                exclude: Vec<StateElement>,
                #[serde(default)]
                lazy_members: bool,
            },
        }
        let state = match Form::deserialize(deserializer)? {
            Form::Accepted { include, exclude, lazy_members } => RequiredState { include, exclude, lazy_members },
            Form::Draft(pairs) => RequiredState::from_draft(pairs),
        };
        if state.include.len() + state.exclude.len() > MAX_STATE_ELEMENTS {
            return Err(de::Error::custom("too many elements in required_state"));
        }
        Ok(state)
    }
}

impl RequiredState {
    fn from_draft(pairs: Vec<(String, String)>) -> RequiredState {
        let mut state = RequiredState::default();
        for (kind, state_key) in pairs {
            if kind == "m.room.member" && state_key == "$LAZY" {
                state.lazy_members = true;
                continue;
            }
            let unless_any = |text: String| Some(text).filter(|text| text != "*");
            state.include.push(StateElement { kind: unless_any(kind), state_key: unless_any(state_key) });
        }
        state
    }

    /// Whether a state event is wanted by a client of the user `me`, lazily loaded members left aside.
    #[must_use]
    pub fn matches(&self, kind: &str, state_key: &str, me: &str) -> bool {
        let lazy = self.lazy_members && kind == "m.room.member";
        let matches = |element: &StateElement| element.matches(kind, state_key, me);
        self.include.iter().any(|element| matches(element) && !(lazy && element.state_key.is_none()))
            && !self.exclude.iter().any(matches)
    }
}

impl StateElement {
    pub(crate) fn matches(&self, kind: &str, state_key: &str, me: &str) -> bool {
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.key(me).is_none_or(|wanted| wanted == state_key)
    }

    /// The state key meant.
    pub(crate) fn key<'a>(&'a self, me: &'a str) -> Option<&'a str> {
        self.state_key.as_deref().map(|key| if key == "$ME" { me } else { key })
    }
}

/// What is wanted besides rooms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// Messages to the device.
    pub to_device: ToDeviceConfig,
    /// Device lists and key counts.
    pub e2ee: Switch,
    /// Account data.
    pub account_data: Switch,
    /// Profiles of users who share a room with the user.
    #[serde(rename = "org.matrix.msc4262.profiles", alias = "profiles")]
    pub profiles: ProfilesConfig,
    /// The threads that the user follows.
    #[serde(rename = "io.element.msc4308.thread_subscriptions", alias = "thread_subscriptions")]
    pub thread_subscriptions: ThreadSubscriptionsConfig,
    /// Sticky events.
    #[serde(rename = "org.matrix.msc4354.sticky_events", alias = "sticky_events")]
    pub sticky_events: StickyEventsConfig,
    /// Receipts.
    pub receipts: Switch,
    /// Typing.
    pub typing: Switch,
}

/// An extension without settings.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Switch {
    /// Whether it is wanted.
    pub enabled: bool,
}

/// The extension for messages to the device.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ToDeviceConfig {
    /// Whether it is wanted.
    pub enabled: bool,
    /// The most messages of one answer.
    pub limit: Option<u64>,
    /// `next_batch` of the last answer: what came with it can be deleted.
    pub since: Option<String>,
}

/// The extension for profiles (MSC4262).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProfilesConfig {
    /// Whether it is wanted.
    pub enabled: bool,
    /// The fields that are wanted; all if absent.
    pub fields: Option<Vec<String>>,
}

/// The extension for the threads that the user follows (MSC4308).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ThreadSubscriptionsConfig {
    /// Whether it is wanted.
    pub enabled: bool,
    /// The most changes of one answer.
    pub limit: Option<u64>,
}

/// The extension for sticky events (MSC4480).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct StickyEventsConfig {
    /// Whether it is wanted.
    pub enabled: bool,
    /// The most events of one answer.
    pub limit: Option<u64>,
    /// `next_batch` of the last answer that had one.
    pub since: Option<String>,
}

impl SlidingRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`SyncError::BadJson`], or [`SyncError::Invalid`] for what exceeds a limit.
    pub fn parse(body: &[u8]) -> Result<SlidingRequest, SyncError> {
        let request: SlidingRequest =
            serde_json::from_slice(body).map_err(|error| SyncError::BadJson(error.to_string()))?;
        if request.lists.len() > MAX_LISTS {
            return Err(SyncError::Invalid("too many lists"));
        }
        if request.room_subscriptions.len() > MAX_SUBSCRIPTIONS {
            return Err(SyncError::Invalid("too many room subscriptions"));
        }
        if request.conn_id.len() > MAX_CONN_ID_BYTES {
            return Err(SyncError::Invalid("conn_id is too long"));
        }
        let mut ranges = request.lists.values().flat_map(ListConfig::windows);
        if ranges.any(|(first, last)| first > last) {
            return Err(SyncError::Invalid("a range ends before it begins"));
        }
        Ok(request)
    }
}

impl ListConfig {
    /// The windows on the list, first and last index inclusive; one over everything if none is given.
    pub(crate) fn windows(&self) -> Vec<(u64, u64)> {
        match (&self.ranges, self.range) {
            (Some(ranges), _) => ranges.clone(),
            (None, Some(range)) => vec![range],
            (None, None) => vec![(0, u64::MAX)],
        }
    }
}

#[cfg(test)]
mod tests;
