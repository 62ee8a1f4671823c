//! Matrix identifiers as checked, cheaply cloned strings (Appendices §Identifier Grammar).
//!
//! Each type wraps an `Arc<str>` that has passed its grammar: cloning is a reference count, comparing is
//! comparing bytes. Parsing is as tolerant as the specification demands of servers: historical user ids
//! are accepted, and only [`UserId::is_valid_new_localpart`] enforces the grammar for new accounts.

use std::{borrow::Borrow, borrow::Cow, fmt, net::Ipv6Addr, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

#[cfg(test)]
mod tests;

/// The longest identifier in bytes, sigil and server name included.
pub const MAX_ID_BYTES: usize = 255;

/// Why a string is not the identifier it was meant to be. Always the fault of whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The first character is not the sigil of this kind of identifier.
    #[error("identifier must start with '{0}'")]
    MissingSigil(char),
    /// There is no `:` followed by a server name.
    #[error("identifier has no server name")]
    MissingServerName,
    /// The part after the first `:` is not a server name.
    #[error("identifier has an invalid server name")]
    InvalidServerName,
    /// A character that this kind of identifier forbids.
    #[error("identifier contains a forbidden character")]
    ForbiddenCharacter,
    /// Nothing follows the sigil.
    #[error("identifier is empty")]
    Empty,
    /// Longer than [`MAX_ID_BYTES`].
    #[error("identifier is longer than {MAX_ID_BYTES} bytes")]
    TooLong,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the grammar and the length. Fails with the first rule that is broken.
            pub fn parse(id: impl AsRef<str>) -> Result<Self, IdError> {
                let id = id.as_ref();
                $check(id)?;
                Ok(Self(Arc::from(id)))
            }

            /// The identifier as it is written on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Takes an identifier that was checked before it was stored. The accessors stay free of
            /// panics even if it was not.
            #[allow(dead_code)]
            pub(crate) fn assume_valid(id: &str) -> Self {
                Self(Arc::from(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(id: &str) -> Result<Self, IdError> {
                Self::parse(id)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(id: &str) -> Result<Self, IdError> {
                Self::parse(id)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(id: String) -> Result<Self, IdError> {
                Self::parse(id)
            }
        }

        impl From<$name> for Arc<str> {
            fn from(id: $name) -> Arc<str> {
                id.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let id = BorrowedStr::deserialize(deserializer)?;
                Self::parse(&*id.0).map_err(D::Error::custom)
            }
        }
    };
}

identifier! {
    /// `@localpart:server`, historical localparts included (Appendices §User Identifiers).
    UserId, check_user_id
}
identifier! {
    /// `!opaque:server`, or from room version 12 on `!` and the hash of the create event (Appendices §Room IDs).
    RoomId, check_room_id
}
identifier! {
    /// `$opaque`: with a server name in room versions 1 and 2, a hash after that (Appendices §Event IDs).
    EventId, check_event_id
}
identifier! {
    /// `#localpart:server` (Appendices §Room Aliases).
    RoomAlias, check_room_alias
}
identifier! {
    /// The name of a homeserver: host and optional port, case-sensitive (Appendices §Server Name).
    ServerName, check_server_name
}
identifier! {
    /// A device of one user: any non-empty string of at most 255 bytes (Client-Server API §Relationship between
    /// access tokens and devices).
    DeviceId, check_device_id
}

impl UserId {
    /// Joins a localpart and a server. Accepts what [`UserId::parse`] accepts; registration also asks
    /// [`UserId::is_valid_new_localpart`].
    pub fn new(localpart: &str, server: &ServerName) -> Result<Self, IdError> {
        Self::parse(format!("@{localpart}:{server}"))
    }

    /// Whether a new account may have this localpart: one or more of `a-z 0-9 . _ = - / +`. The length of the
    /// whole id is left to [`UserId::new`].
    pub fn is_valid_new_localpart(localpart: &str) -> bool {
        !localpart.is_empty()
            && localpart
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+'))
    }

    /// Whether the localpart keeps to U+0021..U+007E and is not empty. Ids that do not are accepted in events but
    /// are not forwarded to clients outside of them (Appendices §Historical User IDs).
    pub fn is_compliant(&self) -> bool {
        !self.localpart().is_empty() && self.localpart().bytes().all(|byte| matches!(byte, 0x21..=0x7e))
    }

    /// The part between `@` and the first `:`.
    pub fn localpart(&self) -> &str {
        split_id(&self.0).0
    }

    /// The homeserver of the user.
    pub fn server_name(&self) -> &str {
        split_id(&self.0).1.unwrap_or_default()
    }
}

impl RoomId {
    /// The server that made the room, while room ids still had one (room versions 1 to 11).
    pub fn server_name(&self) -> Option<&str> {
        split_id(&self.0).1
    }

    /// The room that `create` makes when the id is its hash (room version 12).
    pub fn from_create_event(create: &EventId) -> Self {
        let mut id = String::with_capacity(create.as_str().len());
        id.push('!');
        id.push_str(create.as_str().get(1..).unwrap_or_default());
        Self(Arc::from(id))
    }

    /// The create event that a hashed room id names (room version 12); `None` for an id with a server name.
    pub fn create_event_id(&self) -> Option<EventId> {
        match split_id(&self.0) {
            (hash, None) => Some(EventId(Arc::from(format!("${hash}")))),
            _ => None,
        }
    }
}

impl EventId {
    /// The server that named the event (room versions 1 and 2).
    pub fn server_name(&self) -> Option<&str> {
        split_id(&self.0).1
    }
}

impl RoomAlias {
    /// The part between `#` and the first `:`.
    pub fn localpart(&self) -> &str {
        split_id(&self.0).0
    }

    /// The server that answers for the alias.
    pub fn server_name(&self) -> &str {
        split_id(&self.0).1.unwrap_or_default()
    }
}

impl ServerName {
    /// The host without the port; an IPv6 literal keeps its brackets.
    pub fn host(&self) -> &str {
        split_port(&self.0).0
    }

    /// The explicit port, if there is one that fits 16 bits.
    pub fn port(&self) -> Option<u16> {
        split_port(&self.0).1.and_then(|port| port.parse().ok())
    }
}

/// Borrows the string from the input where it needs no unescaping.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct BorrowedStr<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The part between the sigil and the first `:`, and what follows it.
fn split_id(id: &str) -> (&str, Option<&str>) {
    let rest = id.get(1..).unwrap_or_default();
    match rest.split_once(':') {
        Some((localpart, server)) => (localpart, Some(server)),
        None => (rest, None),
    }
}

fn check_sigil(id: &str, sigil: char) -> Result<&str, IdError> {
    if id.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    let rest = id.strip_prefix(sigil).ok_or(IdError::MissingSigil(sigil))?;
    if rest.as_bytes().contains(&0) {
        return Err(IdError::ForbiddenCharacter);
    }
    Ok(rest)
}

fn check_with_server(id: &str, sigil: char) -> Result<(), IdError> {
    let rest = check_sigil(id, sigil)?;
    let (_, server) = rest.split_once(':').ok_or(IdError::MissingServerName)?;
    check_server_name(server).map_err(|_| IdError::InvalidServerName)
}

fn check_user_id(id: &str) -> Result<(), IdError> {
    check_with_server(id, '@')
}

fn check_room_alias(id: &str) -> Result<(), IdError> {
    check_with_server(id, '#')
}

fn check_room_id(id: &str) -> Result<(), IdError> {
    let rest = check_sigil(id, '!')?;
    match rest.split_once(':') {
        Some((_, server)) => check_server_name(server).map_err(|_| IdError::InvalidServerName),
        None if rest.is_empty() => Err(IdError::Empty),
        None => Ok(()),
    }
}

fn check_event_id(id: &str) -> Result<(), IdError> {
    if check_sigil(id, '$')?.is_empty() { Err(IdError::Empty) } else { Ok(()) }
}

fn check_device_id(id: &str) -> Result<(), IdError> {
    match id.len() {
        0 => Err(IdError::Empty),
        1..=MAX_ID_BYTES => Ok(()),
        _ => Err(IdError::TooLong),
    }
}

/// Splits at the port colon. Colons inside the brackets of an IPv6 literal do not count.
fn split_port(name: &str) -> (&str, Option<&str>) {
    let host_end = if name.starts_with('[') { name.find(']').map_or(0, |end| end + 1) } else { 0 };
    match name.get(host_end..).and_then(|rest| rest.find(':')) {
        Some(colon) => {
            let (host, port) = name.split_at(host_end + colon);
            (host, port.strip_prefix(':'))
        }
        None => (name, None),
    }
}

fn check_server_name(name: &str) -> Result<(), IdError> {
    if name.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    let (host, port) = split_port(name);
    if port.is_some_and(|port| !(1..=5).contains(&port.len()) || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(IdError::InvalidServerName);
    }
    if let Some(literal) = host.strip_prefix('[') {
        let address = literal.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.map(|_| ()).ok_or(IdError::InvalidServerName);
    }
    if host.is_empty() {
        return Err(IdError::Empty);
    }
    // An IPv4 literal is made of characters that a DNS name may have, so one check serves both.
    if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.') {
        Ok(())
    } else {
        Err(IdError::ForbiddenCharacter)
    }
}
