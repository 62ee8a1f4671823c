//! Checks of the stored invariants of this crate, for `conduit fsck`. Reads only.
//!
//! What a deleted device or a deactivated account leaves behind is deleted after it, in pages, and an interruption may
//! leave some: nobody can reach it, so it is not a finding.

mod data;
mod devices;
mod keys;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rooms::UserNid;
use storage::{Read, Store};

use crate::{
    DeviceNid, UserError,
    accounts::{ACCOUNTS, FIRST_ADMIN},
    openid::OPENID_TOKENS,
    profiles::PROFILES,
    registration::REGISTRATION_TOKENS,
    server_notices::NOTICE_ROOMS,
};

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a user or device, as far as known.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// Counts of what was checked, and what was found broken.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How many accounts there are, deactivated ones included.
    pub accounts: usize,
    /// How many devices they have.
    pub devices: usize,
    /// What is broken.
    pub problems: Vec<Problem>,
}

/// A device that is logged in or dehydrated.
struct LiveDevice {
    user: UserNid,
    device_id: Arc<str>,
}

/// What all checks need.
struct Check<'a> {
    store: &'a Store,
    /// All accounts, and whether they are active.
    accounts: BTreeMap<UserNid, bool>,
    devices: BTreeMap<DeviceNid, LiveDevice>,
    names: HashMap<UserNid, String>,
    findings: Findings,
}

/// Checks everything stored about users.
///
/// # Errors
/// Where the store cannot be read, or a row is not what its keyspace holds; what can be read and is wrong is in the
/// findings.
pub fn check(store: &Store) -> Result<Findings, UserError> {
    let mut check = Check {
        store,
        accounts: BTreeMap::new(),
        devices: BTreeMap::new(),
        names: HashMap::new(),
        findings: Findings::default(),
    };
    check.check_accounts()?;
    check.check_devices()?;
    check.check_tokens()?;
    check.check_pushers()?;
    check.check_transactions()?;
    check.check_one_time_keys()?;
    check.check_device_keys()?;
    check.check_device_lists()?;
    check.check_remote_lists()?;
    check.check_key_backups()?;
    check.check_account_data()?;
    check.check_filters()?;
    Ok(check.findings)
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, place: impl FnOnce(&Self) -> String, what: impl FnOnce() -> String) {
        if !holds {
            let place = place(self);
            self.findings.problems.push(Problem { place, what: what() });
        }
    }

    fn expect_of_user(&mut self, holds: bool, user: UserNid, what: impl FnOnce() -> String) {
        self.expect(holds, |check| check.name(user), what);
    }

    fn expect_of_device(&mut self, holds: bool, device: DeviceNid, what: impl FnOnce() -> String) {
        self.expect(holds, |check| check.name_device(device), what);
    }

    fn name(&self, user: UserNid) -> String {
        self.names.get(&user).cloned().unwrap_or_else(|| format!("user {}", user.0))
    }

    fn name_device(&self, device: DeviceNid) -> String {
        match self.devices.get(&device) {
            Some(live) => format!("{} device {}", self.name(live.user), live.device_id),
            None => format!("device number {}", device.0),
        }
    }

    fn is_active(&self, user: UserNid) -> bool {
        self.accounts.get(&user) == Some(&true)
    }

    /// Says once for each user that something belongs to no account.
    fn expect_accounts(&mut self, users: &BTreeSet<UserNid>, what: &str) {
        for user in users {
            self.expect_of_user(self.accounts.contains_key(user), *user, || format!("has {what}, but no account"));
        }
    }

    fn check_accounts(&mut self) -> Result<(), UserError> {
        let store = self.store;
        for row in store.scan(&ACCOUNTS, &()).iter() {
            let (user, row) = row?;
            self.findings.accounts += 1;
            self.accounts.insert(user, !row.is_deactivated);
            match rooms::fsck::find_user_id(store, user)? {
                Some(id) => _ = self.names.insert(user, id),
                None => self.expect_of_user(false, user, || "has an account, but no id".into()),
            }
            let is_closed = !row.is_deactivated || (row.password.is_none() && !row.is_admin);
            self.expect_of_user(is_closed, user, || "is deactivated, but keeps its password or its rights".into());
        }
        if let Some(first) = store.get(&FIRST_ADMIN, &())? {
            self.expect_of_user(self.accounts.contains_key(&first), first, || {
                "is the first administrator, but has no account".into()
            });
        }
        let owners = |(user, _): (UserNid, String)| user;
        let profiles = store.scan(&PROFILES, &()).keys().map(|key| key.map(owners)).collect::<Result<_, _>>()?;
        self.expect_accounts(&profiles, "a profile");
        let notice_rooms = store.scan(&NOTICE_ROOMS, &()).keys().collect::<Result<_, _>>()?;
        self.expect_accounts(&notice_rooms, "a notice room");
        let openid = store.scan(&OPENID_TOKENS, &()).iter().map(|row| Ok(row?.1.user));
        self.expect_accounts(&openid.collect::<Result<_, UserError>>()?, "an OpenID token");
        for row in store.scan(&REGISTRATION_TOKENS, &()).iter() {
            let (token, row) = row?;
            // The token is a secret: its first letters tell the administrator which one is meant.
            let place = |_: &Self| format!("registration token {}…", token.chars().take(3).collect::<String>());
            self.expect(row.uses_allowed.is_none_or(|allowed| row.uses <= allowed), place, || {
                format!("was used {} times, more often than allowed", row.uses)
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
