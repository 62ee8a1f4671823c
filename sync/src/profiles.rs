//! Profiles of the users of this server who share a room with the caller: what changed of them, and all of them for
//! whoever is new (MSC4429 for /sync, MSC4262 for sliding sync).
//!
//! Profiles of other servers' users are not told: their servers do not push changes.

use std::collections::{BTreeMap, BTreeSet};

use rooms::{Membership, RoomNid, TOPIC_PROFILES, UserNid};
use serde_json::{Map, Value};
use storage::{StreamPos, Topic};
use users::Session;

use crate::error::SyncError;
use crate::sync::Inner;

/// The most users whose whole profiles one answer holds. Of further ones clients learn what changes.
const MAX_PROFILES: usize = 2000;
/// How many bytes of fields one answer holds at most; what does not fit is left out.
const MAX_BYTES: usize = 1024 * 1024;
/// How much of the log of all profiles is read for one answer. Who was away for longer costs the profiles of those
/// they share a room with.
const MAX_CHANGES: usize = 5000;

/// By user: fields with their values, `null` for what is gone.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    users: BTreeMap<UserNid, Map<String, Value>>,
    bytes: usize,
}

impl Profiles {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    pub fn contains(&self, user: UserNid) -> bool {
        self.users.contains_key(&user)
    }

    /// Adds a field, if it fits; says whether it does.
    fn add(&mut self, user: UserNid, field: String, value: Value) -> bool {
        let bytes = field.len() + size_of_json(&value);
        if self.bytes + bytes > MAX_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.users.entry(user).or_default().insert(field, value);
        true
    }
}

/// How long the value is as JSON, near enough: what strings escape is not counted.
fn size_of_json(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 20,
        Value::String(text) => text.len() + 2,
        Value::Array(values) => 2 + values.iter().map(|value| size_of_json(value) + 1).sum::<usize>(),
        Value::Object(members) => {
            2 + members.iter().map(|(key, value)| key.len() + size_of_json(value) + 4).sum::<usize>()
        }
    }
}

/// Which fields a client wants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    All,
    Only(&'a [String]),
}

impl Wanted<'_> {
    fn contains(&self, field: &str) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Only(fields) => fields.iter().any(|wanted| wanted == field),
        }
    }
}

impl Inner {
    /// What changed after `since` of the profiles that the caller may follow: their own, and those of users who share a
    /// room with them.
    pub fn read_profile_changes(
        &self,
        caller: &Session,
        wanted: Wanted<'_>,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Profiles, SyncError> {
        let mut profiles = Profiles::default();
        if !self.feed.may_have_changed(Topic::new(TOPIC_PROFILES, 0), since) {
            return Ok(profiles);
        }
        let Some(changes) = self.users.profile_changes(since, until, MAX_CHANGES)? else {
            for user in self.local_acquaintances(caller)? {
                let fields = self.users.profile_changes_of(user, since, until)?;
                for field in fields.into_iter().filter(|field| wanted.contains(field)) {
                    self.add_field(user, field, &mut profiles)?;
                }
            }
            return Ok(profiles);
        };
        let mut known = BTreeMap::new();
        for (user, field) in changes.into_iter().filter(|(_, field)| wanted.contains(field)) {
            let shares = match known.get(&user) {
                Some(shares) => *shares,
                None => user == caller.user || self.rooms.shares_room(caller.user, user)?,
            };
            known.insert(user, shares);
            if shares {
                self.add_field(user, field, &mut profiles)?;
            }
        }
        Ok(profiles)
    }

    /// Adds what a field holds now. Of those that do not fit, a smaller one after it may.
    fn add_field(&self, user: UserNid, field: String, profiles: &mut Profiles) -> Result<(), SyncError> {
        let value = self.users.profile_field(user, &field)?.unwrap_or(Value::Null);
        profiles.add(user, field, value);
        Ok(())
    }

    /// Adds what the profiles of these users of this server hold now, until the answer is full.
    pub fn add_whole_profiles(
        &self,
        users: impl IntoIterator<Item = UserNid>,
        wanted: Wanted<'_>,
        profiles: &mut Profiles,
    ) -> Result<(), SyncError> {
        for user in users {
            if profiles.users.len() >= MAX_PROFILES {
                break;
            }
            for (field, value) in self.users.profile(user)?.into_iter().filter(|(field, _)| wanted.contains(field)) {
                if !profiles.add(user, field, value) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Those of the users who are this server's.
    pub fn only_local(&self, users: &BTreeSet<UserNid>) -> Result<Vec<UserNid>, SyncError> {
        let mut local = Vec::new();
        for &user in users {
            if self.rooms.user_id(user)?.server_name() == self.rooms.server_name().as_str() {
                local.push(user);
            }
        }
        Ok(local)
    }

    /// The users of this server who are joined to the room. Costs what their number is, however many others are.
    pub fn local_joined_members(&self, room: RoomNid) -> Result<impl Iterator<Item = UserNid> + use<>, SyncError> {
        let members = self.rooms.local_members(room)?.into_iter();
        Ok(members.filter(|member| member.membership == Membership::Join).map(|member| member.user))
    }

    /// The caller, and the users of this server who share a room with them.
    pub fn local_acquaintances(&self, caller: &Session) -> Result<BTreeSet<UserNid>, SyncError> {
        let mut users = BTreeSet::from([caller.user]);
        for room in self.rooms.joined_rooms(caller.user)? {
            users.extend(self.local_joined_members(room)?);
        }
        Ok(users)
    }

    /// `{"@user": {"profile_updates": {…}}}` (MSC4429).
    pub fn write_profile_updates(&self, profiles: Profiles, out: &mut Vec<u8>) -> Result<(), SyncError> {
        let mut users = Map::new();
        for (user, fields) in profiles.users {
            let told = Map::from_iter([("profile_updates".to_owned(), fields.into())]);
            users.insert(self.rooms.user_id(user)?.as_str().to_owned(), told.into());
        }
        write_map(&users, out)
    }

    /// `{"users": {"@user": {"updated": {…}, "removed": […]}}}`, with `null` for users who are to be followed no longer
    /// (MSC4262).
    pub fn write_profile_extension(
        &self,
        profiles: Profiles,
        left: &BTreeSet<UserNid>,
        out: &mut Vec<u8>,
    ) -> Result<(), SyncError> {
        let mut users = Map::new();
        for (user, fields) in profiles.users {
            let mut told = Map::new();
            let removed = fields.iter().filter(|(_, value)| value.is_null());
            let removed: Vec<Value> = removed.map(|(field, _)| field.clone().into()).collect();
            let updated: Map<String, Value> = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
            if !updated.is_empty() {
                told.insert("updated".to_owned(), updated.into());
            }
            if !removed.is_empty() {
                told.insert("removed".to_owned(), removed.into());
            }
            users.insert(self.rooms.user_id(user)?.as_str().to_owned(), told.into());
        }
        for user in left {
            users.insert(self.rooms.user_id(*user)?.as_str().to_owned(), Value::Null);
        }
        write_map(&Map::from_iter([("users".to_owned(), users.into())]), out)
    }
}

/// Profiles may hold any JSON, so it is not written as canonical JSON.
fn write_map(map: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), SyncError> {
    serde_json::to_writer(out, map).map_err(|error| SyncError::BadJson(error.to_string()))
}

#[cfg(test)]
mod tests;
