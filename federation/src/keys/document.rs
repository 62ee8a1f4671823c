//! The documents in which servers publish their keys (Server-Server API §Publishing Keys).

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use spec::canonical;
use spec::hash::HashError;
use spec::ids::ServerName;
use spec::signing::{VerifyKey, signing_key_ids, verify_json};

use super::OwnKeys;
use super::known::keep_own_signature;

/// How many keys a document may hold, old ones included.
const MAX_KEYS: usize = 128;
/// The longest key id.
const MAX_KEY_ID_BYTES: usize = 128;

/// Why a document is not believed (remote server, or the notary that passed it on).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    /// A property is absent or is not what it has to be.
    #[error("{0} is missing or malformed")]
    Malformed(&'static str),
    /// More than [`MAX_KEYS`].
    #[error("it holds more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// None of its keys signed it, or one of the signatures is wrong.
    #[error("it is not signed by its own keys")]
    NotSigned,
}

/// A key in a document.
#[derive(Clone, Debug)]
pub(crate) struct DocumentKey {
    pub(crate) key_id: String,
    pub(crate) key: VerifyKey,
    /// Of old keys: when the server stopped signing with it.
    pub(crate) expired_ts: Option<u64>,
}

/// A document whose signature by its own keys was checked.
#[derive(Clone, Debug)]
pub(crate) struct KeyDocument {
    pub(crate) server: ServerName,
    pub(crate) valid_until_ts: u64,
    pub(crate) keys: Vec<DocumentKey>,
    object: Map<String, Value>,
}

impl KeyDocument {
    /// Reads a document and checks that the keys it names signed it. Keys of other algorithms than
    /// ed25519, and such as are no keys, are passed over.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub(crate) fn read(object: Map<String, Value>) -> Result<KeyDocument, DocumentError> {
        let malformed = DocumentError::Malformed;
        let server = object.get("server_name").and_then(Value::as_str).ok_or(malformed("server_name"))?;
        let server = ServerName::parse(server).map_err(|_| malformed("server_name"))?;
        let valid_until_ts = object.get("valid_until_ts").and_then(Value::as_u64).ok_or(malformed("valid_until_ts"))?;
        let current = object.get("verify_keys").and_then(Value::as_object).ok_or(malformed("verify_keys"))?;
        let none = Map::new();
        let old = match object.get("old_verify_keys") {
            None | Some(Value::Null) => &none,
            Some(old) => old.as_object().ok_or(malformed("old_verify_keys"))?,
        };
        if current.len().saturating_add(old.len()) > MAX_KEYS {
            return Err(DocumentError::TooManyKeys);
        }
        let mut keys: Vec<DocumentKey> = current.iter().filter_map(|(id, key)| read_key(id, key, None)).collect();
        check_signatures(&object, &server, &keys)?;
        for (key_id, key) in old {
            let Some(expired_ts) = key.get("expired_ts").and_then(Value::as_u64) else { continue };
            // A key that is listed as both is in use.
            if !current.contains_key(key_id) {
                keys.extend(read_key(key_id, key, Some(expired_ts)));
            }
        }
        Ok(KeyDocument { server, valid_until_ts, keys, object })
    }

    /// Whether this server signed it, as a notary does.
    pub(crate) fn is_signed_by(&self, signer: &ServerName, key: impl Fn(&str) -> Option<VerifyKey>) -> bool {
        signing_key_ids(&self.object, signer.as_str())
            .filter_map(|key_id| key(key_id).map(|key| (key_id, key)))
            .any(|(key_id, key)| verify_json(&self.object, signer.as_str(), key_id, &key).is_ok())
    }

    /// The document as its server signed it, in canonical JSON.
    pub(crate) fn signed_by_itself(&self) -> Vec<u8> {
        let mut object = self.object.clone();
        keep_own_signature(&mut object, self.server.as_str());
        object.remove("unsigned");
        canonical::write(&object)
    }
}

fn read_key(key_id: &str, key: &Value, expired_ts: Option<u64>) -> Option<DocumentKey> {
    if !key_id.starts_with("ed25519:") || key_id.len() > MAX_KEY_ID_BYTES {
        return None;
    }
    let key = VerifyKey::parse(key.get("key")?.as_str()?).ok()?;
    Some(DocumentKey { key_id: key_id.to_owned(), key, expired_ts })
}

/// At least one of the keys signed, and those that did did so rightly.
fn check_signatures(
    object: &Map<String, Value>,
    server: &ServerName,
    keys: &[DocumentKey],
) -> Result<(), DocumentError> {
    let mut is_signed = false;
    for key_id in signing_key_ids(object, server.as_str()) {
        let Some(key) = keys.iter().find(|key| key.key_id == key_id) else { continue };
        verify_json(object, server.as_str(), key_id, &key.key).map_err(|_| DocumentError::NotSigned)?;
        is_signed = true;
    }
    if is_signed { Ok(()) } else { Err(DocumentError::NotSigned) }
}

/// This server's own document, signed.
///
/// # Errors
/// Only if it could not be signed.
pub(crate) fn describe_own(
    own: &OwnKeys,
    server: &ServerName,
    valid_until_ts: u64,
) -> Result<Map<String, Value>, HashError> {
    let old = own
        .old
        .iter()
        .map(|old| (old.key_id.clone(), json!({ "key": old.key.to_base64(), "expired_ts": old.expired_ts })));
    let mut object = Map::new();
    object.insert("server_name".into(), server.as_str().into());
    object.insert("valid_until_ts".into(), valid_until_ts.into());
    object.insert("verify_keys".into(), json!({ own.current.key_id(): { "key": own.current.public_base64() } }));
    object.insert("old_verify_keys".into(), Value::Object(old.collect()));
    own.current.sign_json(&mut object, server.as_str())?;
    Ok(object)
}
