//! The registration document of a service (Application Service API §"Registration").

use serde::Deserialize;
use spec::ids::UserId;

use super::namespaces::{Namespace, Namespaces};

/// The largest document, in bytes.
pub(super) const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// The longest id, in bytes.
const MAX_ID_BYTES: usize = 255;
/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 1_024;
/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;
/// The most protocols.
const MAX_PROTOCOLS: usize = 100;

/// A registration cannot be used: the fault of whoever wrote it.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// It is no YAML, or not of the right shape.
    #[error("this is no registration: {0}")]
    Malformed(String),
    /// It is larger than 64 KiB.
    #[error("a registration has at most {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// A key has an impossible value.
    #[error("{key}: {reason}")]
    Invalid {
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The expression of a namespace cannot be compiled, or not within bounds.
    #[error("namespaces.{kind}: {regex:?}: {reason}")]
    Namespace {
        /// Users, aliases or rooms.
        kind: &'static str,
        /// The expression.
        regex: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RegistrationError {
    pub(super) fn invalid(key: &'static str, reason: impl Into<String>) -> RegistrationError {
        RegistrationError::Invalid { key, reason: reason.into() }
    }
}

/// What a service calls ephemeral data in its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EphemeralKey {
    /// `ephemeral`, since specification v1.13.
    Stable,
    /// `de.sorunome.msc2409.ephemeral`.
    Legacy,
}

/// The document as it is written. Keys that are not known are left alone: services keep their own settings there.
#[derive(Deserialize)]
struct Document {
    id: String,
    #[serde(default)]
    url: Option<String>,
    as_token: String,
    hs_token: String,
    sender_localpart: String,
    #[serde(default)]
    namespaces: NamespaceLists,
    #[serde(default)]
    rate_limited: Option<bool>,
    #[serde(default)]
    protocols: Option<Vec<String>>,
    #[serde(default)]
    receive_ephemeral: bool,
    #[serde(default, rename = "de.sorunome.msc2409.push_ephemeral")]
    push_ephemeral: bool,
    #[serde(default, rename = "org.matrix.msc3202")]
    encryption: bool,
}

#[derive(Default, Deserialize)]
struct NamespaceLists {
    #[serde(default)]
    users: Option<Vec<Namespace>>,
    #[serde(default)]
    aliases: Option<Vec<Namespace>>,
    #[serde(default)]
    rooms: Option<Vec<Namespace>>,
}

/// A registration that was checked.
pub(super) struct Registration {
    pub id: String,
    pub url: Option<String>,
    pub as_token: String,
    pub hs_token: String,
    pub sender_localpart: String,
    pub users: Namespaces,
    pub aliases: Namespaces,
    pub rooms: Namespaces,
    pub rate_limited: bool,
    pub protocols: Vec<String>,
    pub ephemeral: Option<EphemeralKey>,
    pub encryption: bool,
    /// As it was written.
    pub document: String,
}

impl Registration {
    pub fn parse(document: &str) -> Result<Registration, RegistrationError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(RegistrationError::TooLarge);
        }
        // Without the lines around a mistake: they may hold tokens.
        let options = serde_saphyr::options! { with_snippet: false };
        let written: Document = serde_saphyr::from_str_with_options(document, options)
            .map_err(|error| RegistrationError::Malformed(error.to_string()))?;
        check_id(&written.id)?;
        check_token("as_token", &written.as_token)?;
        check_token("hs_token", &written.hs_token)?;
        check_localpart(&written.sender_localpart)?;
        let protocols = written.protocols.unwrap_or_default();
        if protocols.len() > MAX_PROTOCOLS || protocols.iter().any(|name| name.is_empty() || name.len() > MAX_ID_BYTES)
        {
            let reason = format!("at most {MAX_PROTOCOLS} names of 1 to {MAX_ID_BYTES} bytes");
            return Err(RegistrationError::invalid("protocols", reason));
        }
        let NamespaceLists { users, aliases, rooms } = written.namespaces;
        let ephemeral = match (written.receive_ephemeral, written.push_ephemeral) {
            (true, _) => Some(EphemeralKey::Stable),
            (false, true) => Some(EphemeralKey::Legacy),
            (false, false) => None,
        };
        Ok(Registration {
            id: written.id,
            url: written.url.as_deref().filter(|url| !url.is_empty()).map(check_url).transpose()?,
            as_token: written.as_token,
            hs_token: written.hs_token,
            sender_localpart: written.sender_localpart,
            users: Namespaces::compile("users", &users.unwrap_or_default())?,
            aliases: Namespaces::compile("aliases", &aliases.unwrap_or_default())?,
            rooms: Namespaces::compile("rooms", &rooms.unwrap_or_default())?,
            rate_limited: written.rate_limited.unwrap_or(true),
            protocols,
            ephemeral,
            encryption: written.encryption,
            document: document.to_owned(),
        })
    }
}

fn check_id(id: &str) -> Result<(), RegistrationError> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
        return Err(RegistrationError::invalid("id", format!("1 to {MAX_ID_BYTES} bytes without control characters")));
    }
    Ok(())
}

/// A token travels in a header.
fn check_token(key: &'static str, token: &str) -> Result<(), RegistrationError> {
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = format!("1 to {MAX_TOKEN_BYTES} letters, digits and signs of ASCII, without spaces");
        return Err(RegistrationError::invalid(key, reason));
    }
    Ok(())
}

fn check_localpart(localpart: &str) -> Result<(), RegistrationError> {
    if !UserId::is_valid_new_localpart(localpart) {
        return Err(RegistrationError::invalid("sender_localpart", "use a-z, 0-9 and . _ = - / + only"));
    }
    Ok(())
}

fn check_url(url: &str) -> Result<String, RegistrationError> {
    let wrong = |reason: &str| RegistrationError::invalid("url", reason.to_owned());
    if url.len() > MAX_URL_BYTES || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("it is too long or holds what does not belong into a URL"));
    }
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| wrong("it begins with http:// or https://"))?;
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') || host.contains('@') {
        return Err(wrong("it names a host, without user name or password"));
    }
    if rest.contains(['?', '#']) {
        return Err(wrong("it has no query and no fragment"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}
