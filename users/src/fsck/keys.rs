//! Keys: one-time keys, device keys, cross-signing, backups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::Read;

use super::Check;
use crate::{
    UserError,
    device_lists::{DEVICE_LIST_LOG, DEVICE_LIST_VERSION},
    devices::{DEVICE_OWNERS, DEVICES},
    e2ee::{
        backup::{BACKUP_KEYS, BACKUP_VERSIONS},
        dehydrated::{DEHYDRATED, DehydratedDevice},
        device_keys::DEVICE_KEYS,
        one_time_keys::{FALLBACK_KEYS, ONE_TIME_KEY_COUNTS, ONE_TIME_KEY_ORDER, ONE_TIME_KEYS},
    },
    remote_devices::{REMOTE_DEVICE_LISTS, REMOTE_DEVICES},
};

impl Check<'_> {
    pub(super) fn check_one_time_keys(&mut self) -> Result<(), UserError> {
        let (mut present, mut ordered) = (BTreeMap::new(), BTreeMap::new());
        let mut devices = BTreeSet::new();
        for row in self.store.scan(&ONE_TIME_KEYS, &()).iter() {
            let ((device, algorithm, id), row) = row?;
            devices.insert(device);
            *present.entry((device, algorithm.clone())).or_insert(0) += 1;
            let found = self.store.contains(&ONE_TIME_KEY_ORDER, &(device, algorithm.clone(), row.pos, id.clone()))?;
            let holds = found || !self.devices.contains_key(&device);
            self.expect_of_device(holds, device, || {
                format!("the one-time key {algorithm}:{id} would never be claimed")
            });
        }
        for key in self.store.scan(&ONE_TIME_KEY_ORDER, &()).keys() {
            let (device, algorithm, pos, id) = key?;
            devices.insert(device);
            *ordered.entry((device, algorithm.clone())).or_insert(0) += 1;
            let row = self.store.get(&ONE_TIME_KEYS, &(device, algorithm.clone(), id.clone()))?;
            let holds = row.is_some_and(|row| row.pos == pos) || !self.devices.contains_key(&device);
            self.expect_of_device(holds, device, || format!("the one-time key {algorithm}:{id} is missing"));
        }
        let mut counted = BTreeMap::new();
        for row in self.store.scan(&ONE_TIME_KEY_COUNTS, &()).iter() {
            let ((device, algorithm), count) = row?;
            devices.insert(device);
            counted.insert((device, algorithm), count);
        }
        let names: BTreeSet<_> = present.keys().chain(counted.keys()).cloned().collect();
        for name in names.into_iter().filter(|(device, _)| self.devices.contains_key(device)).collect::<Vec<_>>() {
            let real = present.get(&name).copied().unwrap_or(0);
            let count = counted.get(&name).copied().unwrap_or(0);
            self.expect_of_device(real == count, name.0, || {
                format!("{real} one-time keys of {} are there, and {count} are counted", name.1)
            });
        }
        for key in self.store.scan(&FALLBACK_KEYS, &()).keys() {
            devices.insert(key?.0);
        }
        for device in devices {
            let existed = self.store.contains(&DEVICE_OWNERS, &device)?;
            self.expect_of_device(existed, device, || "has keys, but never existed".into());
        }
        Ok(())
    }

    pub(super) fn check_device_keys(&mut self) -> Result<(), UserError> {
        for key in self.store.scan(&DEVICE_KEYS, &()).keys() {
            let (user, device_id) = key?;
            let there = self.store.contains(&DEVICES, &(user, Arc::clone(&device_id)))?;
            self.expect_of_user(there, user, || format!("the keys of device {device_id} have outlived it"));
        }
        for row in self.store.scan(&DEHYDRATED, &()).iter() {
            // Deleting one deletes its device first, so the device may be gone.
            let (user, json) = row?;
            let readable = serde_json::from_slice::<DehydratedDevice>(&json).is_ok();
            self.expect_of_user(readable, user, || "the dehydrated device is not readable".into());
        }
        Ok(())
    }

    pub(super) fn check_device_lists(&mut self) -> Result<(), UserError> {
        let mut latest = BTreeMap::new();
        for row in self.store.scan(&DEVICE_LIST_LOG, &()).iter() {
            let ((pos, user, _), change) = row?;
            if change.only_for.is_none() {
                latest.insert(user, pos);
            }
        }
        let mut versions = BTreeMap::new();
        for row in self.store.scan(&DEVICE_LIST_VERSION, &()).iter() {
            let (user, row) = row?;
            versions.insert(user, row.pos);
        }
        let users: BTreeSet<_> = latest.keys().chain(versions.keys()).copied().collect();
        for user in users {
            self.expect_of_user(latest.get(&user) == versions.get(&user), user, || {
                "the version of the device list is not that of its latest change".into()
            });
        }
        Ok(())
    }

    pub(super) fn check_remote_lists(&mut self) -> Result<(), UserError> {
        let mut devices: BTreeMap<_, u32> = BTreeMap::new();
        for row in self.store.scan(&REMOTE_DEVICES, &()).iter() {
            let ((user, device_id), json) = row?;
            *devices.entry(user).or_default() += 1;
            let readable = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&json).is_ok();
            self.expect_of_user(readable, user, || format!("the keys of remote device {device_id} are not readable"));
        }
        for row in self.store.scan(&REMOTE_DEVICE_LISTS, &()).iter() {
            let (user, row) = row?;
            let real = devices.remove(&user).unwrap_or(0);
            self.expect_of_user(row.value.devices == real, user, || {
                format!("{real} remote devices are there, and {} are counted", row.value.devices)
            });
        }
        for (user, count) in devices {
            self.expect_of_user(false, user, || format!("{count} remote devices are in no list"));
        }
        Ok(())
    }

    pub(super) fn check_key_backups(&mut self) -> Result<(), UserError> {
        let mut keys: BTreeMap<_, u64> = BTreeMap::new();
        for key in self.store.scan(&BACKUP_KEYS, &()).keys() {
            let (user, version, _, _) = key?;
            *keys.entry((user, version)).or_default() += 1;
        }
        for row in self.store.scan(&BACKUP_VERSIONS, &()).iter() {
            let ((user, version), row) = row?;
            let real = keys.remove(&(user, version)).unwrap_or(0);
            self.expect_of_user(row.is_deleted || row.count == real || !self.is_active(user), user, || {
                format!("key backup {version} holds {real} keys, and {} are counted", row.count)
            });
        }
        for ((user, version), count) in keys {
            self.expect_of_user(!self.is_active(user), user, || {
                format!("{count} keys are in key backup {version}, which never existed")
            });
        }
        Ok(())
    }
}
