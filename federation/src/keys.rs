//! Publishing this server's signing key (Server-Server API §Publishing Keys).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};
use spec::canonical;

use crate::{FederationParts, respond};

/// How long others may rely on the answer, in milliseconds: a day.
const VALID_MS: u64 = 24 * 60 * 60 * 1000;

/// `GET /_matrix/key/v2/server`. The body is canonical JSON: some check the signature over its raw bytes.
pub(crate) async fn serve_keys(State(parts): State<FederationParts>) -> Response {
    match describe_keys(&parts, parts.clock.now_ms()) {
        Some(body) => respond(body),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The signed description of the keys; `None` only if it could not be signed.
fn describe_keys(parts: &FederationParts, now_ms: u64) -> Option<Vec<u8>> {
    let key = &parts.signing_key;
    let mut object = Map::new();
    object.insert("server_name".into(), parts.server_name.as_str().into());
    object.insert("valid_until_ts".into(), (now_ms + VALID_MS).into());
    object.insert("verify_keys".into(), json!({ key.key_id(): { "key": key.public_base64() } }));
    object.insert("old_verify_keys".into(), Value::Object(Map::new()));
    key.sign_json(&mut object, parts.server_name.as_str()).ok()?;
    Some(canonical::write(&object))
}

#[cfg(test)]
mod tests;
