//! Profiles: display name, avatar and free fields.
//!
//! Spec: Client-Server API §"Profiles" (with the free fields of MSC4133). Carrying a change into the member events of
//! the user's rooms is the room layer's work: [`ProfileChange`] says what to carry where.

use rooms::{RoomNid, UserNid};
use serde_json::{Map, Value};
use storage::{Batch, Keyspace, Profile, Read, StreamPos};

use crate::{
    UserError, Users,
    topics::{profiles_topic, user_topic},
};

/// One row per field, as JSON.
pub(crate) const PROFILES: Keyspace<(UserNid, String), Vec<u8>> = Keyspace::new("profiles", Profile::Points);

/// When a field was last set or deleted, since this is recorded.
pub(crate) const PROFILE_CHANGES: Keyspace<(UserNid, String), StreamPos> =
    Keyspace::new("profile_changes", Profile::Points);
/// The same by position. May hold entries that were overtaken at the same moment; readers compare.
pub(crate) const PROFILE_LOG: Keyspace<(StreamPos, UserNid, String), ()> = Keyspace::new("profile_log", Profile::Log);

const MAX_PROFILE_BYTES: usize = 64 * 1024;
const MAX_KEY_BYTES: usize = 255;
const MAX_DISPLAY_NAME_BYTES: usize = 1_024;

/// The fields that rooms repeat in member events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileField {
    /// `displayname`.
    DisplayName,
    /// `avatar_url`.
    AvatarUrl,
    /// Anything else.
    Other,
}

/// What a profile change did.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileChange {
    /// Which field.
    pub field: ProfileField,
    /// Its value before.
    pub old: Option<Value>,
    /// Its value now.
    pub new: Option<Value>,
    /// Rooms whose member event repeats the field: empty unless it changed and rooms repeat it.
    pub rooms: Vec<RoomNid>,
    /// When; `None` if nothing changed.
    pub pos: Option<StreamPos>,
}

impl Users {
    /// The whole profile; empty if there is none.
    pub fn profile(&self, user: UserNid) -> Result<Map<String, Value>, UserError> {
        let mut profile = Map::new();
        for row in self.store().scan(&PROFILES, &user).iter() {
            let ((_, key), json) = row?;
            profile.insert(key, decode_json(&json)?);
        }
        Ok(profile)
    }

    /// One field of a profile.
    pub fn profile_field(&self, user: UserNid, key: &str) -> Result<Option<Value>, UserError> {
        match self.store().get(&PROFILES, &(user, key.to_owned()))? {
            Some(json) => Ok(Some(decode_json(&json)?)),
            None => Ok(None),
        }
    }

    /// The display name, if it is set.
    pub fn display_name(&self, user: UserNid) -> Result<Option<String>, UserError> {
        Ok(self.profile_field(user, "displayname")?.and_then(into_string))
    }

    /// The avatar, if it is set.
    pub fn avatar_url(&self, user: UserNid) -> Result<Option<String>, UserError> {
        Ok(self.profile_field(user, "avatar_url")?.and_then(into_string))
    }

    /// Sets (`Some`) or deletes (`None`) one field. For `displayname` and `avatar_url`, `null` and the empty string
    /// delete. Cancel-safe.
    ///
    /// # Errors
    /// `KeyTooLarge`, `InvalidParam` for a key or value that breaks the grammar, `ProfileTooLarge`, `TooLarge`.
    pub async fn set_profile_field(
        &self,
        user: UserNid,
        key: &str,
        value: Option<Value>,
    ) -> Result<ProfileChange, UserError> {
        let field = check_key(key)?;
        let new = normalise(field, key, value)?;
        let row_key = (user, key.to_owned());
        let old = self.profile_field(user, key)?;
        if old == new {
            return Ok(ProfileChange { field, old, new, rooms: Vec::new(), pos: None });
        }
        let mut batch = Batch::new();
        match &new {
            Some(value) => {
                let json = value.to_string().into_bytes();
                self.check_profile_size(user, key, json.len())?;
                batch.put(&PROFILES, &row_key, &json);
            }
            None => {
                batch.delete(&PROFILES, &row_key);
            }
        }
        self.log_profile_change(&mut batch, &row_key)?;
        let pos = Some(self.store().commit(batch).await?);
        let rooms = match field {
            ProfileField::Other => Vec::new(),
            ProfileField::DisplayName | ProfileField::AvatarUrl => self.rooms().joined_rooms(user)?,
        };
        Ok(ProfileChange { field, old, new, rooms, pos })
    }

    /// Whose profiles changed after `since`, up to and including `until`, and in which fields.
    pub fn profile_changes(&self, since: StreamPos, until: StreamPos) -> Result<Vec<(UserNid, String)>, UserError> {
        let from = (since.next(), UserNid(0), String::new());
        let mut changes = Vec::new();
        for key in self.store().scan(&PROFILE_LOG, &()).from(&from).keys() {
            let (pos, user, field) = key?;
            if pos > until {
                break;
            }
            let key = (user, field);
            if self.store().get(&PROFILE_CHANGES, &key)? == Some(pos) {
                changes.push(key);
            }
        }
        Ok(changes)
    }

    /// Deletes the whole profile. Cancelling leaves the rest.
    pub(crate) async fn erase_profile(&self, user: UserNid) -> Result<(), UserError> {
        for field in self.profile(user)?.into_iter().map(|(field, _)| field) {
            let key = (user, field);
            let mut batch = Batch::new();
            batch.delete(&PROFILES, &key);
            self.log_profile_change(&mut batch, &key)?;
            self.store().commit(batch).await?;
        }
        Ok(())
    }

    fn log_profile_change(&self, batch: &mut Batch, key: &(UserNid, String)) -> Result<(), UserError> {
        if let Some(previous) = self.store().get(&PROFILE_CHANGES, key)? {
            batch.delete(&PROFILE_LOG, &(previous, key.0, key.1.clone()));
        }
        batch.put(&PROFILE_CHANGES, key, &StreamPos::PENDING);
        batch.put(&PROFILE_LOG, &(StreamPos::PENDING, key.0, key.1.clone()), &());
        batch.touch(user_topic(key.0));
        batch.touch(profiles_topic());
        Ok(())
    }

    fn check_profile_size(&self, user: UserNid, key: &str, bytes: usize) -> Result<(), UserError> {
        // Quotes, colon and comma around each field, and the braces.
        let field_bytes = |key: &str, value: usize| key.len() + value + 4;
        let mut total = 2 + field_bytes(key, bytes);
        for row in self.store().scan(&PROFILES, &user).iter() {
            let ((_, other), json) = row?;
            if other != key {
                total += field_bytes(&other, json.len());
            }
        }
        if total > MAX_PROFILE_BYTES { Err(UserError::ProfileTooLarge) } else { Ok(()) }
    }
}

fn decode_json(json: &[u8]) -> Result<Value, UserError> {
    serde_json::from_slice(json).map_err(|_| UserError::Inconsistent("a profile field is not JSON"))
}

fn into_string(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Known fields, and free ones by the Common Namespaced Identifier Grammar (Appendices).
fn check_key(key: &str) -> Result<ProfileField, UserError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(UserError::KeyTooLarge);
    }
    let starts_well = key.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let is_grammar =
        key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
    if !starts_well || !is_grammar {
        return Err(UserError::InvalidParam("a profile key has the characters a-z 0-9 . _ - and starts with a letter"));
    }
    Ok(match key {
        "displayname" => ProfileField::DisplayName,
        "avatar_url" => ProfileField::AvatarUrl,
        _ => ProfileField::Other,
    })
}

fn normalise(field: ProfileField, key: &str, value: Option<Value>) -> Result<Option<Value>, UserError> {
    let text = match (field, value) {
        (_, None) => return Ok(None),
        (ProfileField::Other, Some(value)) => {
            if key == "m.tz" && !value.is_string() {
                return Err(UserError::InvalidParam("m.tz is a string"));
            }
            return Ok(Some(value));
        }
        (_, Some(Value::Null)) => return Ok(None),
        (_, Some(Value::String(text))) => text,
        (_, Some(_)) => return Err(UserError::InvalidParam("this profile field is a string")),
    };
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_DISPLAY_NAME_BYTES {
        return Err(UserError::TooLarge("the profile field"));
    }
    Ok(Some(Value::String(text)))
}

#[cfg(test)]
mod tests;
