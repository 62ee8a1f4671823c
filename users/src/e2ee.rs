//! Keys for end-to-end encryption. The server stores and hands out public keys and encrypted backups; it can read
//! no message.
//!
//! Spec: Client-Server API §"End-to-End Encryption".

pub mod backup;
pub mod cross_signing;
pub mod dehydrated;
pub mod device_keys;
pub mod one_time_keys;
pub mod signatures;

use serde_json::{Map, Value};

use crate::UserError;

/// A JSON object as clients send keys.
pub(crate) type Object = Map<String, Value>;

pub(crate) fn parse_object(json: &[u8]) -> Result<Object, UserError> {
    serde_json::from_slice(json).map_err(|_| UserError::Inconsistent("a stored key is not a JSON object"))
}

fn render_object(object: &Object) -> Result<Vec<u8>, UserError> {
    serde_json::to_vec(object).map_err(|_| UserError::Inconsistent("a key does not serialise"))
}

/// Whether two keys are the same apart from what may be added to them.
fn is_same_key(a: &Object, b: &Object) -> bool {
    let is_covered = |(name, _): &(&String, &Value)| !matches!(name.as_str(), "signatures" | "unsigned");
    a.iter().filter(is_covered).eq(b.iter().filter(is_covered))
}
