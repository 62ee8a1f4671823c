//! Ed25519 keys, and signing and verifying of JSON (Appendices §Signing JSON).
//!
//! Keys are parsed once and kept by the caller: a [`VerifyKey`] holds the decompressed point, so verifying costs only
//! the signature check. Verification is strict: keys and signatures of small order, with which one signature can
//! fit many messages, are refused, as NaCl's maintained implementations do.

use std::fmt;

use base64::Engine;
use ed25519_dalek::Signer;
use serde_json::{Map, Value};

use crate::{
    canonical::write,
    hash::{BASE64, HashError, Without, insert_signature},
};

#[cfg(test)]
mod tests;

/// The only signing algorithm of the specification.
const ALGORITHM_PREFIX: &str = "ed25519:";

/// Why a key is refused. Names whose key it is not; the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64, or not 32 bytes.
    #[error("key is not 32 bytes of base64")]
    NotBase64,
    /// The bytes are no usable point of the curve.
    #[error("key is not a valid ed25519 public key")]
    InvalidPoint,
    /// A key version is one or more of `a-z A-Z 0-9 _`.
    #[error("key version must be made of letters, digits and underscores")]
    InvalidVersion,
}

/// Why a signature does not count. The fault of the signing entity or of whoever relayed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is no signature of this entity with this key.
    #[error("signature is missing")]
    Missing,
    /// The key id names an algorithm other than ed25519.
    #[error("signature algorithm is not supported")]
    UnknownAlgorithm,
    /// The signature is not base64 of 64 bytes.
    #[error("signature is not 64 bytes of base64")]
    Malformed,
    /// The signature is not of these bytes by this key.
    #[error("signature does not match")]
    Mismatch,
}

/// A private signing key with its id. `Debug` shows only the id.
#[derive(Clone)]
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    key_id: String,
}

impl SigningKey {
    /// The key of a 32-byte seed. `version` is the part after `ed25519:`; a new key needs one that the server has
    /// never used before.
    pub fn from_seed(seed: [u8; 32], version: &str) -> Result<Self, KeyError> {
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(KeyError::InvalidVersion);
        }
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        Ok(Self { key, key_id: format!("{ALGORITHM_PREFIX}{version}") })
    }

    /// The seed, for storing the key. Secret.
    pub fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// `ed25519:` and the version.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The part of the key id after `ed25519:`.
    pub fn version(&self) -> &str {
        self.key_id.strip_prefix(ALGORITHM_PREFIX).unwrap_or_default()
    }

    /// The public half in unpadded base64.
    pub fn public_base64(&self) -> String {
        BASE64.encode(self.key.verifying_key().as_bytes())
    }

    /// The public half.
    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.key.verifying_key())
    }

    /// Signs bytes; the signature in unpadded base64.
    pub fn sign(&self, bytes: &[u8]) -> String {
        BASE64.encode(self.key.sign(bytes).to_bytes())
    }

    /// Signs the object without `signatures` and `unsigned` and adds the signature under
    /// `signatures.<entity>.<key_id>`. Fails only if `signatures` is there and is not an object of objects.
    pub fn sign_json(&self, object: &mut Map<String, Value>, entity: &str) -> Result<(), HashError> {
        let signature = self.sign(&signed_bytes(object));
        insert_signature(object, entity, &self.key_id, signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A public key, decompressed and ready for use. 32 bytes on the wire, about 200 in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyKey(ed25519_dalek::VerifyingKey);

impl VerifyKey {
    /// Parses base64, standard or URL-safe, padded or not.
    pub fn parse(base64: &str) -> Result<Self, KeyError> {
        let bytes = decode_any_alphabet(base64).ok_or(KeyError::NotBase64)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::NotBase64)?;
        Self::from_bytes(&bytes)
    }

    /// Decompresses 32 bytes. Points of small order are refused.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::InvalidPoint)?;
        if key.is_weak() { Err(KeyError::InvalidPoint) } else { Ok(Self(key)) }
    }

    /// The key in unpadded base64.
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.0.as_bytes())
    }

    /// Checks a base64 signature of `bytes`.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<(), VerifyError> {
        let signature = BASE64.decode(signature).map_err(|_| VerifyError::Malformed)?;
        let signature = ed25519_dalek::Signature::from_slice(&signature).map_err(|_| VerifyError::Malformed)?;
        self.0.verify_strict(bytes, &signature).map_err(|_| VerifyError::Mismatch)
    }
}

/// The bytes that a signature of a plain JSON object covers: all but `signatures` and `unsigned`. For events the
/// redacted form counts: `hash::redacted_bytes`.
pub fn signed_bytes(object: &Map<String, Value>) -> Vec<u8> {
    write(&Without { object, keys: &["signatures", "unsigned"] })
}

/// The signature in `signatures.<entity>.<key_id>`, if it is there and made by a known algorithm.
pub fn find_signature<'a>(object: &'a Map<String, Value>, entity: &str, key_id: &str) -> Result<&'a str, VerifyError> {
    if !key_id.starts_with(ALGORITHM_PREFIX) {
        return Err(VerifyError::UnknownAlgorithm);
    }
    let of_entity = object.get("signatures").and_then(|signatures| signatures.get(entity));
    let signature = of_entity.and_then(|of_entity| of_entity.get(key_id)).and_then(Value::as_str);
    signature.ok_or(VerifyError::Missing)
}

/// The ed25519 key ids with which `entity` signed the object.
pub fn signing_key_ids<'a>(object: &'a Map<String, Value>, entity: &str) -> impl Iterator<Item = &'a str> {
    let of_entity = object.get("signatures").and_then(|signatures| signatures.get(entity)).and_then(Value::as_object);
    of_entity.into_iter().flatten().map(|(key_id, _)| key_id.as_str()).filter(|id| id.starts_with(ALGORITHM_PREFIX))
}

/// Checks one signature of a plain JSON object (Appendices §Checking for a Signature). Not for events, whose
/// signatures cover the redacted form.
pub fn verify_json(
    object: &Map<String, Value>,
    entity: &str,
    key_id: &str,
    key: &VerifyKey,
) -> Result<(), VerifyError> {
    let signature = find_signature(object, entity, key_id)?;
    key.verify(&signed_bytes(object), signature)
}

fn decode_any_alphabet(base64: &str) -> Option<Vec<u8>> {
    BASE64.decode(base64).or_else(|_| crate::hash::URL_SAFE_BASE64.decode(base64)).ok()
}
