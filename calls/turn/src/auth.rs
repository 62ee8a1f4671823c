//! Who may ask: time-limited credentials, and nonces that nothing has to be remembered for.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::Md5;
use runtime::Random;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::codec::{Attributes, Integrity, Message};

/// Begins a nonce that says what the server can do (RFC 8489 §9.2): `obMatJos2` and 24 bits in Base64. Password
/// algorithms are bit 0, of which readers of the RFC disagree whether it is the first or the last: both are set, and
/// the other one means nothing to either.
const NONCE_COOKIE: &str = "obMatJos2gAAB";
/// How long a nonce is good for, at least; at most twice as long.
const NONCE_SECONDS: u64 = 1800;
/// The password algorithms known, as the value of PASSWORD-ALGORITHMS: SHA-256, then MD5 (RFC 8489 §14.11).
pub(crate) const ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
/// A user name is shorter than this (RFC 8489 §14.3).
const MAX_USERNAME: usize = 509;
/// For how long after their end credentials keep an allocation that was made with them alive: calls outlast them.
pub(crate) const GRACE: Duration = Duration::from_secs(3600);

/// Makes and checks credentials and nonces.
pub(crate) struct Auth {
    secret: Vec<u8>,
    realm: String,
    nonce_key: [u8; 32],
}

/// The key of one user's messages (RFC 8489 §9.2.2).
pub(crate) enum Key {
    Md5([u8; 16]),
    Sha256([u8; 32]),
}

impl Key {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Key::Md5(key) => key,
            Key::Sha256(key) => key,
        }
    }
}

/// Who sent a message, proven by its integrity.
pub(crate) struct Caller<'a> {
    /// The whole user name.
    pub(crate) username: &'a str,
    /// What follows the time in it: whose quota it is.
    pub(crate) user: &'a str,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    pub(crate) key: Key,
    /// With which hash the answer is protected.
    pub(crate) integrity: Integrity,
}

/// A message is not from somebody who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// An attribute is missing or contradicts another; the client's mistake (400).
    Bad,
    /// Unsigned, or not signed by somebody known (401).
    Unauthorized,
    /// The nonce is too old, or another's (438).
    StaleNonce,
}

impl Auth {
    pub(crate) fn new(secret: &str, realm: &str, random: &Random) -> Auth {
        let mut nonce_key = [0; 32];
        random.fill(&mut nonce_key);
        Auth { secret: secret.as_bytes().to_vec(), realm: realm.to_owned(), nonce_key }
    }

    pub(crate) fn realm(&self) -> &str {
        &self.realm
    }

    /// The password of a user name: Base64 of its HMAC-SHA1, as coturn's `use-auth-secret` has it.
    pub(crate) fn password(&self, username: &str) -> String {
        STANDARD.encode(mac::<Hmac<Sha1>>(&self.secret, &[username.as_bytes()]))
    }

    /// A nonce for `source`, good from `now_seconds` on.
    pub(crate) fn nonce(&self, now_seconds: u64, source: SocketAddr) -> String {
        self.nonce_of(now_seconds / NONCE_SECONDS, source)
    }

    fn nonce_of(&self, period: u64, source: SocketAddr) -> String {
        let ip = match source.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let parts = [&period.to_be_bytes()[..], &ip.octets(), &source.port().to_be_bytes()];
        let proof = mac::<Hmac<Sha256>>(&self.nonce_key, &parts);
        // 96 bits: short, because strangers get it, and not to be guessed.
        let short = proof.first_chunk::<12>().copied().unwrap_or_default();
        format!("{NONCE_COOKIE}{}", STANDARD_NO_PAD.encode(short))
    }

    fn is_fresh(&self, nonce: &[u8], now_seconds: u64, source: SocketAddr) -> bool {
        let period = now_seconds / NONCE_SECONDS;
        let good = |period| bool::from(self.nonce_of(period, source).as_bytes().ct_eq(nonce));
        good(period) || good(period.saturating_sub(1))
    }

    /// Checks the long-term credentials of a request (RFC 8489 §9.2.4). Whether they have ended is for the caller to
    /// judge.
    pub(crate) fn check<'a>(
        &self,
        message: &Message<'a>,
        attributes: &Attributes<'a>,
        now_seconds: u64,
        source: SocketAddr,
    ) -> Result<Caller<'a>, Unproven> {
        if !attributes.is_signed() {
            return Err(Unproven::Unauthorized);
        }
        let (Some(username), Some(realm), Some(nonce)) = (attributes.username, attributes.realm, attributes.nonce)
        else {
            return Err(Unproven::Bad);
        };
        if !self.is_fresh(nonce, now_seconds, source) {
            return Err(Unproven::StaleNonce);
        }
        let sha256 = wants_sha256(attributes)?;
        let username = std::str::from_utf8(username).map_err(|_| Unproven::Bad)?;
        if username.len() >= MAX_USERNAME || realm != self.realm.as_bytes() {
            return Err(Unproven::Unauthorized);
        }
        let (expires, user) = username.split_once(':').unwrap_or((username, ""));
        let expires = expires.parse().map_err(|_| Unproven::Unauthorized)?;
        let key = self.key(username, sha256);
        if !attributes.verify(message, key.bytes()) {
            return Err(Unproven::Unauthorized);
        }
        let integrity = if attributes.uses_sha256() { Integrity::Sha256 } else { Integrity::Sha1 };
        Ok(Caller { username, user, expires, key, integrity })
    }

    pub(crate) fn key(&self, username: &str, sha256: bool) -> Key {
        let text = format!("{username}:{}:{}", self.realm, self.password(username));
        if sha256 { Key::Sha256(Sha256::digest(text).into()) } else { Key::Md5(Md5::digest(text).into()) }
    }
}

/// Which algorithm the client chose. Both attributes or neither; the list has to be the one that it was given, or
/// somebody in between has made it weaker (RFC 8489 §9.2.4).
fn wants_sha256(attributes: &Attributes<'_>) -> Result<bool, Unproven> {
    match (attributes.algorithms, attributes.algorithm) {
        (None, None) => Ok(false),
        (Some(list), Some([0, chosen @ (1 | 2), 0, 0])) if list == ALGORITHMS => Ok(*chosen == 2),
        _ => Err(Unproven::Bad),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Vec::new() };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
