//! Devices and what they own: tokens, pushers, messages.

use std::collections::HashSet;

use storage::Read;

use super::{Check, LiveDevice};
use crate::{
    DeviceNid, UserError,
    devices::{DEVICE_AGENTS, DEVICE_OWNERS, DEVICE_SEEN, DEVICES},
    pushers::{PUSHER_OWNERS, PUSHERS, parse_pusher},
    to_device::TO_DEVICE,
    tokens::{ACCESS, ACCESS_TOKENS, DEVICE_TOKENS, REFRESH, REFRESH_TOKENS},
    transactions::{HOUR_MS, TRANSACTIONS, TRANSACTIONS_BY_HOUR},
};

impl Check<'_> {
    pub(super) fn check_devices(&mut self) -> Result<(), UserError> {
        for row in self.store.scan(&DEVICES, &()).iter() {
            let ((user, device_id), row) = row?;
            self.findings.devices += 1;
            let owner = self.store.get(&DEVICE_OWNERS, &row.nid)?;
            let fits = owner.is_some_and(|owner| owner.user == user && owner.device_id == device_id);
            self.expect_of_user(fits, user, || format!("device {device_id} has the number of another device, or none"));
            self.expect_of_user(self.accounts.contains_key(&user), user, || {
                format!("has the device {device_id}, but no account")
            });
            self.devices.insert(row.nid, LiveDevice { user, device_id });
        }
        let seen = self.store.scan(&DEVICE_SEEN, &()).keys();
        for key in seen.chain(self.store.scan(&DEVICE_AGENTS, &()).keys()) {
            let device = key?;
            self.expect_of_device(self.devices.contains_key(&device), device, || "was seen, but does not exist".into());
        }
        let mut queues = HashSet::new();
        for key in self.store.scan(&TO_DEVICE, &()).keys() {
            queues.insert(key?.0);
        }
        for device in queues {
            let existed = self.store.contains(&DEVICE_OWNERS, &device)?;
            self.expect_of_device(existed, device, || "has messages, but never existed".into());
        }
        Ok(())
    }

    pub(super) fn check_tokens(&mut self) -> Result<(), UserError> {
        for key in self.store.scan(&DEVICE_TOKENS, &()).keys() {
            let (device, is_access, hash) = key?;
            let owner = if is_access {
                self.store.get(&ACCESS_TOKENS, &hash)?.map(|row| (row.user, row.device))
            } else {
                self.store.get(&REFRESH_TOKENS, &hash)?.map(|row| (row.user, row.device))
            };
            let live = self.devices.get(&device).map(|live| (live.user, device));
            self.expect_of_device(live.is_some(), device, || "has a token, but does not exist".into());
            self.expect_of_device(live.is_none() || owner == live, device, || {
                format!("{} does not lead back to the device", describe_token(is_access, &hash))
            });
        }
        for row in self.store.scan(&ACCESS_TOKENS, &()).iter() {
            let (hash, row) = row?;
            self.check_token_owner(row.device, ACCESS, hash)?;
        }
        for row in self.store.scan(&REFRESH_TOKENS, &()).iter() {
            let (hash, row) = row?;
            self.check_token_owner(row.device, REFRESH, hash)?;
            let paired = self.store.get(&ACCESS_TOKENS, &row.access)?.is_some_and(|access| access.device == row.device);
            self.expect_of_device(paired, row.device, || {
                format!("{} has outlived its access token", describe_token(REFRESH, &hash))
            });
        }
        Ok(())
    }

    fn check_token_owner(&mut self, device: DeviceNid, is_access: bool, hash: [u8; 32]) -> Result<(), UserError> {
        let known = self.store.contains(&DEVICE_TOKENS, &(device, is_access, hash))?;
        self.expect_of_device(known, device, || format!("{} would survive a logout", describe_token(is_access, &hash)));
        Ok(())
    }

    pub(super) fn check_pushers(&mut self) -> Result<(), UserError> {
        for row in self.store.scan(&PUSHERS, &()).iter() {
            let ((user, app_id, pushkey), json) = row?;
            let owned = self.store.contains(&PUSHER_OWNERS, &(app_id.clone(), pushkey, user))?;
            self.expect_of_user(owned, user, || format!("a pusher of {app_id} is not found by its key"));
            match parse_pusher(&json) {
                Ok(stored) => {
                    let live = self.devices.get(&stored.device).is_some_and(|live| live.user == user);
                    self.expect_of_user(live, user, || format!("a pusher of {app_id} has outlived its device"));
                }
                Err(error) => self.expect_of_user(false, user, || format!("a pusher of {app_id}: {error}")),
            }
        }
        for key in self.store.scan(&PUSHER_OWNERS, &()).keys() {
            let (app_id, pushkey, user) = key?;
            let there = self.store.contains(&PUSHERS, &(user, app_id.clone(), pushkey))?;
            self.expect_of_user(there, user, || format!("a pusher of {app_id} is missing"));
        }
        Ok(())
    }

    pub(super) fn check_transactions(&mut self) -> Result<(), UserError> {
        let place = |_: &Self| "transaction ids".to_owned();
        for row in self.store.scan(&TRANSACTIONS, &()).iter() {
            let (hash, seen_ms) = row?;
            let logged = self.store.contains(&TRANSACTIONS_BY_HOUR, &(seen_ms / HOUR_MS, hash))?;
            self.expect(logged, place, || "one would never be forgotten".into());
        }
        for key in self.store.scan(&TRANSACTIONS_BY_HOUR, &()).keys() {
            let (hour, hash) = key?;
            let seen_ms = self.store.get(&TRANSACTIONS, &hash)?;
            self.expect(seen_ms.is_some_and(|ms| ms / HOUR_MS == hour), place, || {
                format!("one that was seen in hour {hour} is not there")
            });
        }
        Ok(())
    }
}

/// A token by the first bytes of its hash, by which it can be told from others and not be used.
fn describe_token(is_access: bool, hash: &[u8; 32]) -> String {
    let [a, b, c, d, ..] = hash;
    format!("the {} token {a:02x}{b:02x}{c:02x}{d:02x}", if is_access { "access" } else { "refresh" })
}
