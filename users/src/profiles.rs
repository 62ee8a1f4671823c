//! Profiles: display name, avatar and free fields.
//!
//! Spec: Client-Server API §"Profiles" (with the free fields of MSC4133). Carrying a change into the member events of
//! the user's rooms is the room layer's work: [`ProfileChange`] says what to carry where.

use std::collections::BTreeSet;

use rooms::{RoomNid, UserNid};
use serde_json::{Map, Value};
use storage::{Batch, Keyspace, Profile, Read, StreamPos};

use crate::{
    UserError, Users,
    topics::{profiles_topic, user_topic},
};

/// One row per field, as JSON.
pub(crate) const PROFILES: Keyspace<(UserNid, String), Vec<u8>> = Keyspace::new("profiles", Profile::Points);

/// When a field was last set or deleted, since this is recorded. The newest [`MAX_RECORDED`] of each user.
pub(crate) const PROFILE_CHANGES: Keyspace<(UserNid, String), StreamPos> =
    Keyspace::new("profile_changes", Profile::Points);
/// The same by position.
pub(crate) const PROFILE_LOG: Keyspace<(StreamPos, UserNid, String), ()> = Keyspace::new("profile_log", Profile::Log);

const MAX_PROFILE_BYTES: usize = 64 * 1024;
const MAX_KEY_BYTES: usize = 255;
/// How many fields a profile has at most.
const MAX_FIELDS: usize = 100;
/// Of how many fields of one user it is known when they changed. Every client that follows profiles reads this after an
/// absence, so nobody makes it longer by setting and deleting ever new fields.
const MAX_RECORDED: usize = 2 * MAX_FIELDS;
/// How many records one change takes out at most, where there are more than there may be.
const MAX_TAKEN_OUT: usize = 100;
/// How many rows are deleted in one commit.
const PAGE_ROWS: usize = 1_000;
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
    /// `KeyTooLarge`, `InvalidParam` for a key or value that breaks the grammar, `ProfileTooLarge` for too many bytes or
    /// fields, `TooLarge`.
    pub async fn set_profile_field(
        &self,
        user: UserNid,
        key: &str,
        value: Option<Value>,
    ) -> Result<ProfileChange, UserError> {
        let field = check_key(key)?;
        let new = normalise(field, key, value)?;
        let row_key = (user, key.to_owned());
        loop {
            // Read before the value: a change of it in between is then found out at the commit.
            let changed = self.store().get(&PROFILE_CHANGES, &row_key)?;
            let old = self.profile_field(user, key)?;
            if old == new {
                return Ok(ProfileChange { field, old, new, rooms: Vec::new(), pos: None });
            }
            let mut batch = Batch::new();
            match &new {
                Some(value) => {
                    let json = value.to_string().into_bytes();
                    self.check_profile_size(user, key, json.len(), field == ProfileField::Other && old.is_none())?;
                    batch.put(&PROFILES, &row_key, &json);
                }
                None => {
                    batch.delete(&PROFILES, &row_key);
                }
            }
            self.record_change(&mut batch, &row_key, changed)?;
            let Some(pos) = self.try_commit(batch).await? else { continue };
            let rooms = match field {
                ProfileField::Other => Vec::new(),
                ProfileField::DisplayName | ProfileField::AvatarUrl => self.rooms().joined_rooms(user)?,
            };
            return Ok(ProfileChange { field, old, new, rooms, pos: Some(pos) });
        }
    }

    /// Whose profiles changed after `since`, up to and including `until`, and in which fields; `None` if that is more
    /// than `limit`.
    pub fn profile_changes(
        &self,
        since: StreamPos,
        until: StreamPos,
        limit: usize,
    ) -> Result<Option<Vec<(UserNid, String)>>, UserError> {
        let from = (since.next(), UserNid(0), String::new());
        let mut changes = Vec::new();
        for (read, key) in self.store().scan(&PROFILE_LOG, &()).from(&from).keys().enumerate() {
            let (pos, user, field) = key?;
            if pos > until {
                break;
            }
            if read == limit {
                return Ok(None);
            }
            let key = (user, field);
            // Earlier versions left entries of changes that were overtaken at the same moment.
            if self.store().get(&PROFILE_CHANGES, &key)? == Some(pos) {
                changes.push(key);
            }
        }
        Ok(Some(changes))
    }

    /// Which fields of one profile changed after `since`, up to and including `until`. Costs what its fields are.
    pub fn profile_changes_of(
        &self,
        user: UserNid,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Vec<String>, UserError> {
        let mut fields = Vec::new();
        for row in self.store().scan(&PROFILE_CHANGES, &user).iter() {
            let ((_, field), pos) = row?;
            if pos > since && pos <= until {
                fields.push(field);
            }
        }
        Ok(fields)
    }

    /// Deletes the whole profile, and when it changed. Cancelling leaves the rest.
    pub(crate) async fn erase_profile(&self, user: UserNid) -> Result<(), UserError> {
        self.erase_rows(&PROFILES, &user).await?;
        loop {
            let mut batch = Batch::new();
            for row in self.store().scan(&PROFILE_CHANGES, &user).iter().take(PAGE_ROWS) {
                let (key, pos) = row?;
                take_out(&mut batch, &key, pos);
            }
            if batch.is_empty() {
                return Ok(());
            }
            // Where a field was changed meanwhile, the next round finds its new record.
            self.try_commit(batch).await?;
        }
    }

    /// Records a change of a field that changed last at `previous`.
    fn record_change(
        &self,
        batch: &mut Batch,
        key: &(UserNid, String),
        previous: Option<StreamPos>,
    ) -> Result<(), UserError> {
        match previous {
            Some(previous) => take_out(batch, key, previous),
            None => {
                batch.expect_absent(&PROFILE_CHANGES, key);
                self.take_out_oldest(batch, key.0)?;
            }
        }
        batch.put(&PROFILE_CHANGES, key, &StreamPos::PENDING);
        batch.put(&PROFILE_LOG, &(StreamPos::PENDING, key.0, key.1.clone()), &());
        batch.touch(user_topic(key.0));
        batch.touch(profiles_topic());
        Ok(())
    }

    /// Makes place for one more record of the user's. What is told to nobody any more is that a field was deleted long
    /// ago; the fields that are there are fewer than there are places.
    fn take_out_oldest(&self, batch: &mut Batch, user: UserNid) -> Result<(), UserError> {
        let records = self.store().scan(&PROFILE_CHANGES, &user).iter().collect::<Result<Vec<_>, _>>()?;
        let surplus = (records.len() + 1).saturating_sub(MAX_RECORDED).min(MAX_TAKEN_OUT);
        if surplus == 0 {
            return Ok(());
        }
        let there = self.store().scan(&PROFILES, &user).keys().collect::<Result<BTreeSet<_>, _>>()?;
        let mut gone: Vec<_> = records.into_iter().filter(|(key, _)| !there.contains(key)).collect();
        gone.sort_unstable_by_key(|(_, pos)| *pos);
        gone.iter().take(surplus).for_each(|(key, pos)| take_out(batch, key, *pos));
        Ok(())
    }

    fn check_profile_size(&self, user: UserNid, key: &str, bytes: usize, is_new: bool) -> Result<(), UserError> {
        // Quotes, colon and comma around each field, and the braces.
        let field_bytes = |key: &str, value: usize| key.len() + value + 4;
        let mut total = 2 + field_bytes(key, bytes);
        let mut others = 0;
        for row in self.store().scan(&PROFILES, &user).iter() {
            let ((_, other), json) = row?;
            if other != key {
                others += 1;
                total += field_bytes(&other, json.len());
            }
        }
        let is_full = is_new && others >= MAX_FIELDS;
        if is_full || total > MAX_PROFILE_BYTES { Err(UserError::ProfileTooLarge) } else { Ok(()) }
    }
}

/// Deletes the record of a field's last change, unless it has changed since.
fn take_out(batch: &mut Batch, key: &(UserNid, String), pos: StreamPos) {
    batch.expect_equals(&PROFILE_CHANGES, key, &pos);
    batch.delete(&PROFILE_CHANGES, key);
    batch.delete(&PROFILE_LOG, &(pos, key.0, key.1.clone()));
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
