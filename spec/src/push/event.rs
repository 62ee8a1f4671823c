//! The event as push conditions see it: properties are looked up only when a rule asks for them.

use std::borrow::Cow;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::pdu::Pdu;

/// What an [`EventForPush`] is built from.
#[derive(Clone, Copy, Debug)]
pub struct EventParts<'a> {
    /// The event's `type`.
    pub kind: &'a str,
    /// The event's `sender`.
    pub sender: &'a str,
    /// The event's `room_id`.
    pub room_id: &'a str,
    /// The event's `event_id`.
    pub event_id: &'a str,
    /// The event's `state_key`, for state events.
    pub state_key: Option<&'a str>,
    /// The event's `origin_server_ts`, in milliseconds.
    pub origin_server_ts: i64,
    /// The event's `content`.
    pub content: &'a RawValue,
}

/// One event, shared by the evaluations of all its recipients. Building it costs nothing; the properties that
/// default rules read are extracted in one pass at first use, everything else only if a rule names it.
#[derive(Debug)]
pub struct EventForPush<'a> {
    parts: EventParts<'a>,
    known: OnceLock<Known<'a>>,
    body: OnceLock<Option<Cow<'a, str>>>,
    content: OnceLock<Value>,
}

/// The properties that default rules read, unescaped.
#[derive(Debug, Default)]
struct Known<'a> {
    msgtype: Option<Cow<'a, str>>,
    membership: Option<Cow<'a, str>>,
    rel_type: Option<Cow<'a, str>>,
    mentions_room: bool,
    /// Sorted, so that a long list costs each recipient little.
    mentioned: Vec<Cow<'a, str>>,
    body: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(bound(deserialize = "'de: 'a"))]
struct RawContent<'a> {
    #[serde(default)]
    msgtype: Option<&'a RawValue>,
    #[serde(default)]
    membership: Option<&'a RawValue>,
    #[serde(default)]
    body: Option<&'a RawValue>,
    #[serde(default, rename = "m.mentions")]
    mentions: Option<&'a RawValue>,
    #[serde(default, rename = "m.relates_to")]
    relates_to: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(bound(deserialize = "'de: 'a"))]
struct RawMentions<'a> {
    #[serde(default)]
    room: Option<&'a RawValue>,
    #[serde(default)]
    user_ids: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(bound(deserialize = "'de: 'a"))]
struct RawRelation<'a> {
    #[serde(default)]
    rel_type: Option<&'a RawValue>,
}

/// The string that `raw` holds, borrowed where it has no escapes.
fn read_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(raw.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Reads an object leniently: anything else counts as an object without the wanted properties.
fn read_object<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> T {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

impl<'a> Known<'a> {
    fn read(content: &'a RawValue) -> Self {
        let content: RawContent<'a> = read_object(Some(content));
        let mentions: RawMentions<'a> = read_object(content.mentions);
        let relation: RawRelation<'a> = read_object(content.relates_to);
        let ids: Vec<&'a RawValue> = read_object(mentions.user_ids);
        let mut mentioned: Vec<_> = ids.into_iter().filter_map(read_text).collect();
        mentioned.sort_unstable();
        Self {
            msgtype: content.msgtype.and_then(read_text),
            membership: content.membership.and_then(read_text),
            rel_type: relation.rel_type.and_then(read_text),
            mentions_room: mentions.room.is_some_and(|room| room.get() == "true"),
            mentioned,
            body: content.body,
        }
    }
}

impl<'a> EventForPush<'a> {
    /// Wraps an event. Nothing is parsed yet.
    pub fn new(parts: EventParts<'a>) -> Self {
        Self { parts, known: OnceLock::new(), body: OnceLock::new(), content: OnceLock::new() }
    }

    /// Wraps a PDU.
    pub fn from_pdu(pdu: &'a Pdu) -> Self {
        Self::new(EventParts {
            kind: &pdu.kind,
            sender: pdu.sender.as_str(),
            room_id: pdu.room_id.as_str(),
            event_id: pdu.event_id.as_str(),
            state_key: pdu.state_key.as_deref(),
            origin_server_ts: pdu.origin_server_ts,
            content: &pdu.content,
        })
    }

    /// The event's sender.
    pub fn sender(&self) -> &'a str {
        self.parts.sender
    }

    /// The event's room.
    pub fn room_id(&self) -> &'a str {
        self.parts.room_id
    }

    /// `content.body`, if it is a string.
    pub(super) fn body(&self) -> Option<&str> {
        self.body.get_or_init(|| self.known().body.and_then(read_text)).as_deref()
    }

    fn known(&self) -> &Known<'a> {
        self.known.get_or_init(|| Known::read(self.parts.content))
    }

    /// Whether `m.mentions.user_ids` names the user.
    fn mentions(&self, user_id: &str) -> bool {
        self.known().mentioned.binary_search_by(|id| id.as_ref().cmp(user_id)).is_ok()
    }

    /// The value at a path below `content`; the content is parsed as a whole at first use.
    fn content_at(&self, path: &[Box<str>]) -> Option<&Value> {
        let content =
            self.content.get_or_init(|| serde_json::from_str(self.parts.content.get()).unwrap_or(Value::Null));
        path.iter().try_fold(content, |value, name| value.as_object()?.get(&**name))
    }
}

/// A value that a condition can compare: anything but floats, arrays and objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar<T> {
    Text(T),
    Integer(i64),
    Bool(bool),
    Null,
}

/// The range of integers of canonical JSON.
const MAX_INTEGER: i64 = (1 << 53) - 1;

impl<'v> Scalar<&'v str> {
    /// The comparable value in `value`, if it is one.
    pub(super) fn of(value: &'v Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text)),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Null => Some(Self::Null),
            Value::Number(number) => {
                let integer = number.as_i64().filter(|integer| (-MAX_INTEGER..=MAX_INTEGER).contains(integer));
                integer.map(Self::Integer)
            }
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// The same value, owning its text.
    pub(super) fn to_owned(self) -> Scalar<Box<str>> {
        match self {
            Self::Text(text) => Scalar::Text(text.into()),
            Self::Integer(integer) => Scalar::Integer(integer),
            Self::Bool(value) => Scalar::Bool(value),
            Self::Null => Scalar::Null,
        }
    }
}

impl Scalar<Box<str>> {
    fn equals(&self, other: Scalar<&str>) -> bool {
        match (self, other) {
            (Self::Text(a), Scalar::Text(b)) => **a == *b,
            (Self::Integer(a), Scalar::Integer(b)) => *a == b,
            (Self::Bool(a), Scalar::Bool(b)) => *a == b,
            (Self::Null, Scalar::Null) => true,
            _ => false,
        }
    }
}

/// A property that a condition names, resolved when the rule is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Property {
    Type,
    Sender,
    RoomId,
    EventId,
    StateKey,
    OriginServerTs,
    Body,
    Msgtype,
    Membership,
    RelType,
    MentionsRoom,
    MentionedUsers,
    /// Some other path, without the leading `content`.
    Content(Box<[Box<str>]>),
    /// A path that no event of this server has.
    Absent,
}

impl Property {
    /// Resolves a dot-separated path. Appendices §Dot-separated property paths.
    pub(super) fn parse(path: &str) -> Self {
        let segments = split_path(path);
        let names: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
        match names.as_slice() {
            ["type"] => Self::Type,
            ["sender"] => Self::Sender,
            ["room_id"] => Self::RoomId,
            ["event_id"] => Self::EventId,
            ["state_key"] => Self::StateKey,
            ["origin_server_ts"] => Self::OriginServerTs,
            ["content", "body"] => Self::Body,
            ["content", "msgtype"] => Self::Msgtype,
            ["content", "membership"] => Self::Membership,
            ["content", "m.relates_to", "rel_type"] => Self::RelType,
            ["content", "m.mentions", "room"] => Self::MentionsRoom,
            ["content", "m.mentions", "user_ids"] => Self::MentionedUsers,
            ["content", ..] => Self::Content(segments.into_iter().skip(1).collect()),
            _ => Self::Absent,
        }
    }

    /// The property's value, if it is a string.
    pub(super) fn text<'e>(&self, event: &'e EventForPush<'_>) -> Option<&'e str> {
        match self {
            Self::Type => Some(event.parts.kind),
            Self::Sender => Some(event.parts.sender),
            Self::RoomId => Some(event.parts.room_id),
            Self::EventId => Some(event.parts.event_id),
            Self::StateKey => event.parts.state_key,
            Self::Body => event.body(),
            Self::Msgtype => event.known().msgtype.as_deref(),
            Self::Membership => event.known().membership.as_deref(),
            Self::RelType => event.known().rel_type.as_deref(),
            Self::MentionsRoom => event.content_at(&content_path(&["m.mentions", "room"]))?.as_str(),
            Self::Content(path) => event.content_at(path)?.as_str(),
            Self::MentionedUsers | Self::OriginServerTs | Self::Absent => None,
        }
    }

    /// Whether the property is exactly `wanted`.
    pub(super) fn is(&self, event: &EventForPush<'_>, wanted: &Scalar<Box<str>>) -> bool {
        match (self, wanted) {
            (Self::MentionsRoom, Scalar::Bool(true)) => event.known().mentions_room,
            (Self::OriginServerTs, Scalar::Integer(ts)) => event.parts.origin_server_ts == *ts,
            (_, Scalar::Text(text)) => self.text(event) == Some(&**text),
            _ => self.value(event).and_then(Scalar::of).is_some_and(|value| wanted.equals(value)),
        }
    }

    /// Whether the property is an array that holds exactly `wanted`.
    pub(super) fn contains(&self, event: &EventForPush<'_>, wanted: &Scalar<Box<str>>) -> bool {
        if let (Self::MentionedUsers, Scalar::Text(user_id)) = (self, wanted) {
            return event.mentions(user_id);
        }
        let values = self.value(event).and_then(Value::as_array);
        values.is_some_and(|values| values.iter().filter_map(Scalar::of).any(|value| wanted.equals(value)))
    }

    /// Whether the property is an array that holds the text.
    pub(super) fn contains_text(&self, event: &EventForPush<'_>, wanted: &str) -> bool {
        if *self == Self::MentionedUsers {
            return event.mentions(wanted);
        }
        let values = self.value(event).and_then(Value::as_array);
        values.is_some_and(|values| values.iter().any(|value| value.as_str() == Some(wanted)))
    }

    /// The property as JSON, for conditions that the extracted properties cannot answer.
    fn value<'e>(&self, event: &'e EventForPush<'_>) -> Option<&'e Value> {
        match self {
            Self::Content(path) => event.content_at(path),
            Self::Body => event.content_at(&content_path(&["body"])),
            Self::Msgtype => event.content_at(&content_path(&["msgtype"])),
            Self::Membership => event.content_at(&content_path(&["membership"])),
            Self::RelType => event.content_at(&content_path(&["m.relates_to", "rel_type"])),
            Self::MentionsRoom => event.content_at(&content_path(&["m.mentions", "room"])),
            Self::MentionedUsers => event.content_at(&content_path(&["m.mentions", "user_ids"])),
            _ => None,
        }
    }
}

fn content_path<const N: usize>(names: &[&str; N]) -> [Box<str>; N] {
    names.map(Box::from)
}

/// Splits a path at unescaped dots. Only `\.` and `\\` are escapes; any other backslash is literal.
fn split_path(path: &str) -> Vec<Box<str>> {
    let mut segments = Vec::new();
    let mut segment = String::new();
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '.' => segments.push(std::mem::take(&mut segment).into_boxed_str()),
            '\\' => segment.push(chars.next_if(|next| matches!(next, '.' | '\\')).unwrap_or('\\')),
            _ => segment.push(c),
        }
    }
    segments.push(segment.into_boxed_str());
    segments
}
