//! Persistent data units: parsing, format checks and size limits of every room version (Room Versions §Event
//! format, Client-Server API §Size limits).
//!
//! A [`Pdu`] is immutable and has passed the format checks of its room version. Its `json` is the event in the
//! federation format without `unsigned`, in canonical JSON; `event_id` stands in it only in room versions 1 and 2.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    canonical::{CanonicalError, check_canonical_object, parse_object, write},
    hash::{HashError, hash_and_sign},
    ids::{BorrowedStr, EventId, IdError, RoomId, ServerName, UserId},
    signing::SigningKey,
    version::RoomVersionRules,
};

mod format;
mod received;
#[cfg(test)]
mod tests;

pub use received::{ReceivedPdu, SignatureFailure};

/// The largest event in bytes of canonical JSON.
pub const MAX_PDU_BYTES: usize = 65_536;
/// The most `prev_events` of one event.
pub const MAX_PREV_EVENTS: usize = 20;
/// The most `auth_events` of one event.
pub const MAX_AUTH_EVENTS: usize = 10;

/// Why bytes are not a PDU. The fault of whoever made them: the event is dropped, or the request refused.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// More than [`MAX_PDU_BYTES`].
    #[error("event is larger than {MAX_PDU_BYTES} bytes")]
    TooLarge,
    /// A string property longer than 255 bytes.
    #[error("{0} is longer than 255 bytes")]
    FieldTooLong(&'static str),
    /// Not a JSON object.
    #[error("event is not a JSON object: {0}")]
    BadJson(#[from] serde_json::Error),
    /// Numbers that the room version does not allow.
    #[error("event is not canonical JSON: {0}")]
    NotCanonical(CanonicalError),
    /// A required property is absent.
    #[error("{0} is missing")]
    MissingField(&'static str),
    /// A property that this room version does not allow here.
    #[error("{0} is not allowed in this event")]
    UnexpectedField(&'static str),
    /// A property of the wrong type, or out of its range.
    #[error("{0} is malformed")]
    InvalidField(&'static str),
    /// A property that is not the identifier it has to be.
    #[error("{0} is malformed: {1}")]
    InvalidId(&'static str, IdError),
    /// More than [`MAX_PREV_EVENTS`] or [`MAX_AUTH_EVENTS`].
    #[error("{0} has too many entries")]
    TooManyEvents(&'static str),
}

impl From<CanonicalError> for PduError {
    fn from(error: CanonicalError) -> Self {
        match error {
            CanonicalError::BadJson(error) => Self::BadJson(error),
            error => Self::NotCanonical(error),
        }
    }
}

impl From<HashError> for PduError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::MissingEventId => Self::MissingField("event_id"),
            HashError::InvalidEventId(error) => Self::InvalidId("event_id", error),
            HashError::InvalidSignatures => Self::InvalidField("signatures"),
        }
    }
}

/// One event of a room.
#[derive(Clone, Debug)]
pub struct Pdu {
    /// The event id: given in room versions 1 and 2, the reference hash after that.
    pub event_id: EventId,
    /// The room. For the create event of room version 12, which has no `room_id`, the id that it defines.
    pub room_id: RoomId,
    /// The sender.
    pub sender: UserId,
    /// The `type`.
    pub kind: Box<str>,
    /// Present in state events only.
    pub state_key: Option<Box<str>>,
    /// The content as it stands in `json`.
    pub content: Box<RawValue>,
    /// Milliseconds since the Unix epoch, as the sending server claims.
    pub origin_server_ts: i64,
    /// One more than the largest depth of the previous events, as the sending server claims.
    pub depth: i64,
    /// The events that this one follows in the DAG.
    pub prev_events: Vec<EventId>,
    /// The events that give the sender permission.
    pub auth_events: Vec<EventId>,
    /// The whole event in canonical JSON, without `unsigned`.
    pub json: Arc<[u8]>,
}

impl Pdu {
    /// Parses and checks an event in the federation format, and computes its id. Verifies neither hash nor
    /// signatures: that is [`ReceivedPdu`]'s part.
    pub fn from_json(bytes: &[u8], rules: &RoomVersionRules) -> Result<Self, PduError> {
        Self::from_object(parse_object(bytes, false)?, rules)
    }

    /// [`Pdu::from_json`] for an object that is parsed already.
    pub fn from_object(object: Map<String, Value>, rules: &RoomVersionRules) -> Result<Self, PduError> {
        Ok(ReceivedPdu::check(object, rules)?.into_unverified())
    }

    /// Completes an event of ours: adds the content hash and our signature, checks the result like any received
    /// event, and gives it its id.
    pub fn sign(
        mut object: Map<String, Value>,
        server: &ServerName,
        key: &SigningKey,
        rules: &RoomVersionRules,
    ) -> Result<Self, PduError> {
        if rules.strict_canonical_json {
            check_canonical_object(&object)?;
        }
        object.remove("unsigned");
        let event_id = hash_and_sign(&mut object, server, key, rules)?;
        format::check_format(&object, rules)?;
        Self::from_checked(event_id, &object)
    }

    /// Reads an event that this server has stored, under the id it was stored by. Checks only what reading needs:
    /// no hash, no limits, no identifier grammar. Fails if the stored bytes are damaged.
    pub fn from_trusted(event_id: EventId, json: &[u8]) -> Result<Self, PduError> {
        Self::from_shared(event_id, Arc::from(json))
    }

    /// [`Pdu::from_trusted`] without copying bytes that are shared already.
    pub fn from_shared(event_id: EventId, json: Arc<[u8]>) -> Result<Self, PduError> {
        let wire: WirePdu<'_> = serde_json::from_slice(&json)?;
        let room_id = match &wire.room_id {
            Some(room_id) => RoomId::assume_valid(&room_id.0),
            None => RoomId::from_create_event(&event_id),
        };
        Ok(Self {
            room_id,
            sender: UserId::assume_valid(&wire.sender.0),
            kind: Box::from(&*wire.kind.0),
            state_key: wire.state_key.map(|state_key| state_key.0.into_owned().into_boxed_str()),
            content: wire.content.to_owned(),
            origin_server_ts: wire.origin_server_ts,
            depth: wire.depth,
            prev_events: wire.prev_events.0,
            auth_events: wire.auth_events.0,
            event_id,
            json,
        })
    }

    /// An event whose object passed the format checks. Fails if it is too large.
    fn from_checked(event_id: EventId, object: &Map<String, Value>) -> Result<Self, PduError> {
        let json = write(object);
        if json.len() > MAX_PDU_BYTES {
            return Err(PduError::TooLarge);
        }
        Self::from_shared(event_id, Arc::from(json))
    }

    /// The content as `T`. Borrow in `T` to avoid copies.
    pub fn content<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.content.get())
    }

    /// Whether this is a state event.
    pub fn is_state(&self) -> bool {
        self.state_key.is_some()
    }

    /// The event that a redaction names, from where the room version keeps it. `None` for other types and for
    /// redactions without a usable id. Parses the JSON: only redactions pay for it.
    pub fn redacts(&self, rules: &RoomVersionRules) -> Option<EventId> {
        #[derive(Deserialize)]
        struct Redacts<'a> {
            #[serde(borrow)]
            redacts: Option<BorrowedStr<'a>>,
        }

        if &*self.kind != "m.room.redaction" {
            return None;
        }
        let holder = if rules.redacts_in_content { self.content.get().as_bytes() } else { &self.json };
        let redacts: Redacts<'_> = serde_json::from_slice(holder).ok()?;
        EventId::parse(&redacts.redacts?.0).ok()
    }

    /// The event as a JSON object.
    pub fn to_object(&self) -> Result<Map<String, Value>, serde_json::Error> {
        serde_json::from_slice(&self.json)
    }
}

/// The properties that reading needs, borrowed from the bytes.
#[derive(Deserialize)]
struct WirePdu<'a> {
    #[serde(borrow)]
    room_id: Option<BorrowedStr<'a>>,
    #[serde(borrow)]
    sender: BorrowedStr<'a>,
    #[serde(borrow, rename = "type")]
    kind: BorrowedStr<'a>,
    #[serde(borrow)]
    state_key: Option<BorrowedStr<'a>>,
    #[serde(borrow)]
    content: &'a RawValue,
    origin_server_ts: i64,
    depth: i64,
    prev_events: References,
    auth_events: References,
}

/// Event ids, or pairs of an event id and its hashes (room versions 1 and 2).
struct References(Vec<EventId>);

impl<'de> Deserialize<'de> for References {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> de::Visitor<'de> for List {
            type Value = References;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of event references")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<References, A::Error> {
                let mut ids = Vec::with_capacity(items.size_hint().unwrap_or(4).min(MAX_PREV_EVENTS));
                while let Some(Reference(id)) = items.next_element()? {
                    ids.push(id);
                }
                Ok(References(ids))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

struct Reference(EventId);

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdOrPair;

        impl<'de> de::Visitor<'de> for IdOrPair {
            type Value = Reference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event id or a pair of event id and hashes")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Reference, E> {
                Ok(Reference(EventId::assume_valid(id)))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut pair: A) -> Result<Reference, A::Error> {
                let id: BorrowedStr<'_> = pair.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let id = EventId::assume_valid(&id.0);
                while pair.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(Reference(id))
            }
        }

        deserializer.deserialize_any(IdOrPair)
    }
}
