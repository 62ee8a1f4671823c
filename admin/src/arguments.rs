//! Types of arguments: what administrators write for users, rooms, times, sizes, secrets and files.

mod given;
mod when;
mod window;

use std::borrow::Cow;
use std::str::FromStr;

use media::Mxc;
use rooms::RoomNid;
use runtime::config::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spec::ids::{RoomAlias, RoomId, UserId};
use users::Account;

use crate::admin::Admin;
use crate::error::AdminError;

pub use given::{Document, Question, QuestionKind, Secret};
pub use when::When;
pub(crate) use window::Window;

/// The longest identifier that is read, in bytes; those of Matrix are at most 255.
const MAX_IDENTIFIER: usize = 512;

/// A user: `alice` for one of this server, or `@alice:example.org`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserArg(String);

impl UserArg {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user id. A name without a server is one of this server.
    ///
    /// # Errors
    /// `Invalid` if it is none.
    pub fn user_id(&self, admin: &Admin) -> Result<UserId, AdminError> {
        let parsed = match self.0.starts_with('@') {
            true => UserId::parse(&self.0),
            false => UserId::new(&self.0, admin.rooms().server_name()),
        };
        parsed
            .map_err(|_| AdminError::invalid(format!("{:?} is not a user: write alice or @alice:example.org", self.0)))
    }

    /// The account, which may be deactivated.
    ///
    /// # Errors
    /// `Invalid` if it belongs to another server, `NotFound` if there is none.
    pub fn account(&self, admin: &Admin) -> Result<Account, AdminError> {
        let user_id = self.user_id(admin)?;
        if user_id.server_name() != admin.rooms().server_name().as_str() {
            return Err(AdminError::invalid(format!("{user_id} belongs to another server")));
        }
        let account = admin.users().account_by_id(&user_id)?;
        account.ok_or_else(|| AdminError::not_found(format!("there is no account {user_id}")))
    }
}

/// A room: `!id` or `#alias:example.org`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomArg(String);

impl RoomArg {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The room id; this server need not know the room.
    ///
    /// # Errors
    /// `Invalid` if it is neither id nor alias, `NotFound` for an alias that is none of this server's.
    pub fn room_id(&self, admin: &Admin) -> Result<RoomId, AdminError> {
        if self.0.starts_with('#') {
            let alias = RoomAlias::parse(&self.0);
            let alias = alias.map_err(|_| AdminError::invalid(format!("{:?} is not an alias of a room", self.0)))?;
            let found = admin.rooms().find_alias(&alias);
            return match found {
                Ok((room, _)) => Ok(room),
                Err(rooms::RoomError::AliasNotFound) => {
                    Err(AdminError::not_found(format!("no room of this server is called {alias}")))
                }
                Err(error) => Err(error.into()),
            };
        }
        RoomId::parse(&self.0)
            .map_err(|_| AdminError::invalid(format!("{:?} is not a room: write !id or #alias:example.org", self.0)))
    }

    /// The room, which this server knows.
    ///
    /// # Errors
    /// As [`RoomArg::room_id`], and `NotFound` for a room that is unknown here.
    pub fn known_room(&self, admin: &Admin) -> Result<(RoomNid, RoomId), AdminError> {
        let room_id = self.room_id(admin)?;
        match admin.rooms().room_nid(&room_id)? {
            Some(room) => Ok((room, room_id)),
            None => Err(AdminError::not_found(format!("this server does not know the room {room_id}"))),
        }
    }
}

/// A media: `mxc://example.org/id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaArg(String);

impl MediaArg {
    /// Its address.
    ///
    /// # Errors
    /// `Invalid` if it is none.
    pub fn mxc(&self) -> Result<Mxc, AdminError> {
        let text = &self.0;
        Mxc::parse(text)
            .map_err(|_| AdminError::invalid(format!("{text:?} is not a media: write mxc://example.org/id")))
    }
}

macro_rules! text_argument {
    ($type:ident, $format:literal, $description:literal) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                if text.is_empty() || text.len() > MAX_IDENTIFIER {
                    return Err(concat!("expected ", $description).to_owned());
                }
                Ok($type(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(argument: $type) -> String {
                argument.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $format, "description": $description})
            }
        }
    };
}

text_argument!(UserArg, "matrix-user", "a user: `alice` for one of this server, or `@alice:example.org`");
text_argument!(MediaArg, "mxc", "a media: `mxc://example.org/id`");
text_argument!(RoomArg, "matrix-room", "a room: `!id`, or an alias of this server, `#alias:example.org`");

/// A size: `50MiB`, `10MB` or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<ByteSize>().map(|size| Size(size.bytes())).map_err(|error| error.to_string())
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(bytes) => Ok(Size(bytes)),
            NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
            "description": "a number of bytes, or a text such as `50MiB`",
        })
    }
}

/// What stands for a quantity: a number, or text with a unit.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

#[cfg(test)]
mod tests;
