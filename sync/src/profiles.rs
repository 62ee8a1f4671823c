//! Profiles of the users of this server who share a room with the caller: what changed of them, and all of them for
//! whoever is new (MSC4429 for /sync, MSC4262 for sliding sync).
//!
//! Profiles of other servers' users are not told: their servers do not push changes.

use std::collections::{BTreeMap, BTreeSet};

use rooms::{TOPIC_PROFILES, UserNid};
use serde_json::{Map, Value};
use storage::{StreamPos, Topic};
use users::Session;

use crate::error::SyncError;
use crate::sync::Inner;

/// The most users whose whole profiles one answer holds. Of further ones clients learn what changes.
const MAX_PROFILES: usize = 2000;

/// By user: fields with their values, `null` for what is gone.
pub(crate) type Profiles = BTreeMap<UserNid, Map<String, Value>>;

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
        let mut profiles = Profiles::new();
        if !self.feed.may_have_changed(Topic::new(TOPIC_PROFILES, 0), since) {
            return Ok(profiles);
        }
        let mut known = BTreeMap::new();
        for (user, field) in self.users.profile_changes(since, until)? {
            if !wanted.contains(&field) {
                continue;
            }
            let shares = match known.get(&user) {
                Some(shares) => *shares,
                None => user == caller.user || self.rooms.shares_room(caller.user, user)?,
            };
            known.insert(user, shares);
            if shares {
                let value = self.users.profile_field(user, &field)?.unwrap_or(Value::Null);
                profiles.entry(user).or_default().insert(field, value);
            }
        }
        Ok(profiles)
    }

    /// Adds what the profiles of these users hold now; of users of other servers, nothing.
    pub fn add_whole_profiles(
        &self,
        users: impl IntoIterator<Item = UserNid>,
        wanted: Wanted<'_>,
        profiles: &mut Profiles,
    ) -> Result<(), SyncError> {
        for user in users {
            if profiles.len() >= MAX_PROFILES {
                break;
            }
            if self.rooms.user_id(user)?.server_name() != self.rooms.server_name().as_str() {
                continue;
            }
            let mut profile = self.users.profile(user)?;
            profile.retain(|field, _| wanted.contains(field));
            if !profile.is_empty() {
                let told = profiles.entry(user).or_default();
                profile.into_iter().for_each(|(field, value)| _ = told.insert(field, value));
            }
        }
        Ok(())
    }

    /// `{"@user": {"profile_updates": {…}}}` (MSC4429).
    pub fn write_profile_updates(&self, profiles: Profiles, out: &mut Vec<u8>) -> Result<(), SyncError> {
        let mut users = Map::new();
        for (user, fields) in profiles {
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
        for (user, fields) in profiles {
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
