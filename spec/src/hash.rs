//! Content hashes, reference hashes and event ids, and the two together with a signature for an event of ours
//! (Server-Server API §Signing Events).
//!
//! The bytes that the reference hash covers are the bytes that event signatures cover, [`redacted_bytes`]: a caller
//! that needs both serialises once.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, map::Entry};
use sha2::{Digest, Sha256};

use crate::{
    canonical::write,
    ids::{EventId, IdError, ServerName},
    redact::RedactedView,
    signing::SigningKey,
    version::{EventIdFormat, RoomVersionRules},
};

#[cfg(test)]
mod tests;

/// Writes without padding, reads with or without it and whatever the unused last bits are (Appendices §Unpadded
/// Base64: accept as widely as possible).
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Unpadded standard base64.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// Unpadded URL-safe base64.
pub const URL_SAFE_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Why an event cannot be hashed or named. The fault of whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Room versions 1 and 2: there is no `event_id` string.
    #[error("event has no event_id")]
    MissingEventId,
    /// Room versions 1 and 2: `event_id` is not an event id.
    #[error("invalid event_id: {0}")]
    InvalidEventId(#[from] IdError),
    /// `signatures` is there but not an object of objects, so that no signature can be added.
    #[error("signatures is not an object of objects")]
    InvalidSignatures,
}

/// The bytes that event signatures and the reference hash cover: the redacted event without `signatures` and
/// `unsigned`, in canonical JSON.
pub fn redacted_bytes(event: &Map<String, Value>, rules: &RoomVersionRules) -> Vec<u8> {
    write(&RedactedView { event, rules })
}

/// The SHA-256 of the event without `unsigned`, `signatures` and `hashes`, in unpadded base64.
pub fn content_hash(event: &Map<String, Value>) -> String {
    BASE64.encode(content_digest(event))
}

/// Whether `hashes.sha256` is the content hash. If not, the event was redacted on its way, or tampered with, and only
/// its redacted copy may be used.
pub fn content_hash_matches(event: &Map<String, Value>) -> bool {
    let claimed = event.get("hashes").and_then(|hashes| hashes.get("sha256")).and_then(Value::as_str);
    let claimed = claimed.and_then(|claimed| BASE64.decode(claimed).ok());
    claimed.is_some_and(|claimed| claimed == content_digest(event))
}

/// The reference hash in the base64 of the room version: URL-safe where event ids are, standard otherwise.
pub fn reference_hash(event: &Map<String, Value>, rules: &RoomVersionRules) -> String {
    reference_hash_of(&redacted_bytes(event, rules), rules)
}

/// The id of the event: its `event_id` in room versions 1 and 2, its reference hash after that.
pub fn event_id(event: &Map<String, Value>, rules: &RoomVersionRules) -> Result<EventId, HashError> {
    match rules.event_id {
        EventIdFormat::Given => given_event_id(event),
        EventIdFormat::Base64 | EventIdFormat::UrlSafeBase64 => {
            event_id_from_redacted(event, &redacted_bytes(event, rules), rules)
        }
    }
}

/// [`event_id`] for a caller that has the [`redacted_bytes`] already.
pub fn event_id_from_redacted(
    event: &Map<String, Value>,
    redacted: &[u8],
    rules: &RoomVersionRules,
) -> Result<EventId, HashError> {
    if rules.event_id == EventIdFormat::Given {
        return given_event_id(event);
    }
    let mut id = reference_hash_of(redacted, rules);
    id.insert(0, '$');
    Ok(EventId::assume_valid(&id))
}

/// Sets `hashes` and adds our signature to an event that we make. Returns its event id, which falls out of signing.
pub fn hash_and_sign(
    event: &mut Map<String, Value>,
    server: &ServerName,
    key: &SigningKey,
    rules: &RoomVersionRules,
) -> Result<EventId, HashError> {
    let mut hashes = Map::new();
    hashes.insert("sha256".into(), Value::String(content_hash(event)));
    event.insert("hashes".into(), Value::Object(hashes));
    countersign(event, server, key, rules)
}

/// Adds our signature to an event that another server has made and signed: its hash stays as it is. Returns the event
/// id, which signatures do not change (Server-Server API §Inviting to a room, §Restricted rooms).
pub fn countersign(
    event: &mut Map<String, Value>,
    server: &ServerName,
    key: &SigningKey,
    rules: &RoomVersionRules,
) -> Result<EventId, HashError> {
    let redacted = redacted_bytes(event, rules);
    let id = event_id_from_redacted(event, &redacted, rules)?;
    insert_signature(event, server.as_str(), key.key_id(), key.sign(&redacted))?;
    Ok(id)
}

/// Puts a signature under `signatures.<entity>.<key_id>`, keeping the others.
pub(crate) fn insert_signature(
    object: &mut Map<String, Value>,
    entity: &str,
    key_id: &str,
    signature: String,
) -> Result<(), HashError> {
    let signatures = entry_object(object.entry("signatures"))?;
    let of_entity = entry_object(signatures.entry(entity))?;
    of_entity.insert(key_id.to_owned(), Value::String(signature));
    Ok(())
}

/// Serialises as the object without some of its keys.
pub(crate) struct Without<'a> {
    pub(crate) object: &'a Map<String, Value>,
    pub(crate) keys: &'a [&'a str],
}

impl Serialize for Without<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.object.iter().filter(|(key, _)| !self.keys.contains(&key.as_str())))
    }
}

fn entry_object(entry: Entry<'_>) -> Result<&mut Map<String, Value>, HashError> {
    entry.or_insert_with(|| Value::Object(Map::new())).as_object_mut().ok_or(HashError::InvalidSignatures)
}

fn content_digest(event: &Map<String, Value>) -> [u8; 32] {
    let bytes = write(&Without { object: event, keys: &["hashes", "signatures", "unsigned"] });
    Sha256::digest(&bytes).into()
}

fn reference_hash_of(redacted: &[u8], rules: &RoomVersionRules) -> String {
    let digest = Sha256::digest(redacted);
    match rules.event_id {
        EventIdFormat::UrlSafeBase64 => URL_SAFE_BASE64.encode(digest),
        EventIdFormat::Given | EventIdFormat::Base64 => BASE64.encode(digest),
    }
}

fn given_event_id(event: &Map<String, Value>) -> Result<EventId, HashError> {
    let id = event.get("event_id").and_then(Value::as_str).ok_or(HashError::MissingEventId)?;
    Ok(EventId::parse(id)?)
}
