//! The tokens that let somebody into a call: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256, with
//! the claims that LiveKit clients expect.

#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Longer tokens are refused before anything is computed.
const MAX_TOKEN: usize = 8192;
/// How far the clock of whoever checks may be behind.
const LEEWAY_S: u64 = 10;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const ISSUER: &str = "conduit";

/// What somebody may do in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The call's name.
    pub room: String,
    /// Who it is; two participants of a call never have the same identity.
    pub identity: String,
    /// The name to show, or nothing.
    pub name: String,
    /// Whether tracks and data may be published.
    pub can_publish: bool,
    /// Whether others' tracks may be received.
    pub can_subscribe: bool,
    /// Whether the call is made when it does not exist.
    pub may_create: bool,
    /// How long the token is valid.
    pub lifetime: Duration,
}

/// Why a token does not let anybody in; always the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It is not a token at all.
    #[error("the token cannot be read")]
    Malformed,
    /// Somebody else signed it.
    #[error("the token is not signed by this server")]
    Forged,
    /// It is no longer valid, or not yet.
    #[error("the token is not valid at this time")]
    Expired,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VideoClaims {
    room: String,
    room_join: bool,
    can_publish: bool,
    can_subscribe: bool,
    can_publish_data: bool,
    can_update_own_metadata: bool,
    room_create: bool,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    name: String,
    nbf: u64,
    exp: u64,
    /// Seconds the token was made for; a refreshed one gets the same.
    #[serde(default)]
    ttl: u64,
    video: VideoClaims,
}

/// Signs and checks tokens with one secret.
#[derive(Clone)]
pub(crate) struct TokenKey(Hmac<Sha256>);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    pub fn new(secret: &[u8; 32]) -> TokenKey {
        // A key shorter than a block is filled up with zeros (RFC 2104 section 2).
        let mut block = [0; 64];
        for (byte, given) in block.iter_mut().zip(secret) {
            *byte = *given;
        }
        TokenKey(Hmac::new((&block).into()))
    }

    /// The token of `grant`, valid from now on (`now_ms`: milliseconds since the Unix epoch).
    pub fn sign(&self, grant: &Grant, now_ms: u64) -> String {
        let now = now_ms / 1000;
        let ttl = grant.lifetime.as_secs();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: grant.identity.clone(),
            name: grant.name.clone(),
            nbf: now,
            exp: now.saturating_add(ttl),
            ttl,
            video: VideoClaims {
                room: grant.room.clone(),
                room_join: true,
                can_publish: grant.can_publish,
                can_subscribe: grant.can_subscribe,
                can_publish_data: grant.can_publish,
                can_update_own_metadata: true,
                room_create: grant.may_create,
            },
        };
        // Strings, numbers and booleans always serialise.
        let payload = escape(&serde_json::to_string(&claims).unwrap_or_default());
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.0.clone().chain_update(token.as_bytes()).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// What `token` grants.
    ///
    /// # Errors
    /// [`BadToken`]: the client has no valid token.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Grant, BadToken> {
        if token.len() > MAX_TOKEN {
            return Err(BadToken::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
        let (_, payload) = signed.split_once('.').ok_or(BadToken::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadToken::Malformed)?;
        // The algorithm is ours whatever the header says.
        let mac = self.0.clone().chain_update(signed.as_bytes());
        mac.verify_slice(&signature).map_err(|_| BadToken::Forged)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| BadToken::Malformed)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| BadToken::Malformed)?;
        let now = now_ms / 1000;
        if now > claims.exp.saturating_add(LEEWAY_S) || claims.nbf > now.saturating_add(LEEWAY_S) {
            return Err(BadToken::Expired);
        }
        if !claims.video.room_join || claims.sub.is_empty() || claims.video.room.is_empty() {
            return Err(BadToken::Malformed);
        }
        Ok(Grant {
            room: claims.video.room,
            identity: claims.sub,
            name: claims.name,
            can_publish: claims.video.can_publish,
            can_subscribe: claims.video.can_subscribe,
            may_create: claims.video.room_create,
            lifetime: Duration::from_secs(claims.ttl),
        })
    }
}

/// JSON whose Base64 form is the same in the plain and in the URL-safe alphabet, because clients read
/// it with `atob`: only ASCII, and none of the bytes whose low six bits are 62 or 63.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    let mut units = [0u16; 2];
    for letter in json.chars() {
        if letter.is_ascii() && !matches!(letter, '>' | '?' | '~' | '\x7f') {
            escaped.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut units) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}
