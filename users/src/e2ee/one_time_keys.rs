//! One-time and fallback keys: uploading, counting, claiming.
//!
//! Spec: Client-Server API §"One-time and fallback keys". A one-time key is given out at most once: the claim deletes
//! it in the commit that answers. Counts are counters, because every sync asks for them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use spec::ids::UserId;
use storage::{Batch, Keyspace, Profile, Read, StreamPos, stored};

use crate::{DeviceNid, UserError, Users, devices::DEVICES, topics::device_topic};

/// Device, algorithm, key ID → when it was uploaded, and the key.
pub(crate) const ONE_TIME_KEYS: Keyspace<(DeviceNid, String, String), storage::Stamped<Vec<u8>>> =
    Keyspace::new("one_time_keys", Profile::Points);
/// The same in order of upload.
pub(crate) const ONE_TIME_KEY_ORDER: Keyspace<(DeviceNid, String, StreamPos, String), ()> =
    Keyspace::new("one_time_key_order", Profile::Points);
/// Device and algorithm → how many are left.
pub(crate) const ONE_TIME_KEY_COUNTS: Keyspace<(DeviceNid, String), i64> =
    Keyspace::new("one_time_key_counts", Profile::Points);
/// Device and algorithm → the fallback key.
pub(crate) const FALLBACK_KEYS: Keyspace<(DeviceNid, String), FallbackRow> =
    Keyspace::new("fallback_keys", Profile::Points);

const MAX_KEY_BYTES: usize = 8 * 1024;
const MAX_NAME_BYTES: usize = 255;
/// More than any client keeps: bounds what a device can store here.
const MAX_KEYS_PER_ALGORITHM: i64 = 5_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FallbackRow {
    key_id: String,
    key: Vec<u8>,
    is_used: bool,
}
stored!(FallbackRow, 1);

/// What is left of a device's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyCounts {
    /// Algorithm → number of one-time keys (`device_one_time_keys_count`).
    pub one_time_keys: BTreeMap<String, u64>,
    /// Algorithms with a fallback key that nobody has claimed (`device_unused_fallback_key_types`).
    pub unused_fallback_types: Vec<String>,
}

/// User → device → `algorithm:id` → key.
pub type ClaimedKeys = BTreeMap<UserId, BTreeMap<String, BTreeMap<String, Box<RawValue>>>>;

type KeyName = (DeviceNid, String, String);

/// Keys that some request is claiming at this moment: others take the next one instead of colliding.
#[derive(Default)]
pub(crate) struct ClaimsInFlight(Mutex<HashSet<KeyName>>);

/// Frees a key's name when the claim ends, however it ends.
struct Claim<'a> {
    claims: &'a ClaimsInFlight,
    name: KeyName,
}

impl ClaimsInFlight {
    fn begin(&self, name: &KeyName) -> Option<Claim<'_>> {
        self.0.lock().insert(name.clone()).then(|| Claim { claims: self, name: name.clone() })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.0.lock().remove(&self.name);
    }
}

impl Users {
    /// What is left of a device's one-time and fallback keys.
    pub fn key_counts(&self, device: DeviceNid) -> Result<KeyCounts, UserError> {
        let mut counts = KeyCounts::default();
        for row in self.store().scan(&ONE_TIME_KEY_COUNTS, &device).iter() {
            let ((_, algorithm), count) = row?;
            counts.one_time_keys.insert(algorithm, u64::try_from(count).unwrap_or(0));
        }
        for row in self.store().scan(&FALLBACK_KEYS, &device).iter() {
            let ((_, algorithm), row) = row?;
            if !row.is_used {
                counts.unused_fallback_types.push(algorithm);
            }
        }
        Ok(counts)
    }

    pub(super) fn put_one_time_keys(
        &self,
        batch: &mut Batch,
        device: DeviceNid,
        keys: &BTreeMap<String, Box<RawValue>>,
    ) -> Result<(), UserError> {
        let mut added: BTreeMap<&str, i64> = BTreeMap::new();
        for (name, key) in keys {
            let (algorithm, id) = split_name(name)?;
            check_key(key)?;
            let row_key = (device, algorithm.to_owned(), id.to_owned());
            if let Some(old) = self.store().get(&ONE_TIME_KEYS, &row_key)? {
                if !is_same_json(&old.value, key.get().as_bytes()) {
                    return Err(UserError::InvalidParam("a one-time key with this ID exists and is different"));
                }
                continue;
            }
            batch.expect_absent(&ONE_TIME_KEYS, &row_key);
            let value = storage::Stamped::pending(key.get().as_bytes().to_vec());
            batch.put(&ONE_TIME_KEYS, &row_key, &value);
            batch.put(&ONE_TIME_KEY_ORDER, &(device, algorithm.to_owned(), StreamPos::PENDING, id.to_owned()), &());
            *added.entry(algorithm).or_default() += 1;
        }
        for (algorithm, count) in added {
            let row_key = (device, algorithm.to_owned());
            let present = self.store().get(&ONE_TIME_KEY_COUNTS, &row_key)?.unwrap_or(0);
            if present + count > MAX_KEYS_PER_ALGORITHM {
                return Err(UserError::TooLarge("the number of one-time keys"));
            }
            batch.add(&ONE_TIME_KEY_COUNTS, &row_key, count);
            batch.touch(device_topic(device));
        }
        Ok(())
    }

    pub(super) fn put_fallback_keys(
        &self,
        batch: &mut Batch,
        device: DeviceNid,
        keys: &BTreeMap<String, Box<RawValue>>,
    ) -> Result<(), UserError> {
        for (name, key) in keys {
            let (algorithm, id) = split_name(name)?;
            check_key(key)?;
            let row_key = (device, algorithm.to_owned());
            let row = FallbackRow { key_id: id.to_owned(), key: key.get().as_bytes().to_vec(), is_used: false };
            // The same key uploaded again stays used.
            let old = self.store().get(&FALLBACK_KEYS, &row_key)?;
            if old.is_some_and(|old| old.key_id == row.key_id && is_same_json(&old.key, &row.key)) {
                continue;
            }
            batch.put(&FALLBACK_KEYS, &row_key, &row);
            batch.touch(device_topic(device));
        }
        Ok(())
    }

    /// Claims one key for each wanted device of local users: user → device → algorithm. What cannot be found is left
    /// out. A one-time key that was claimed and could not be delivered is lost, as intended. Cancel-safe: a key whose
    /// claim was committed is never given out again.
    pub async fn claim_keys(
        &self,
        wanted: &BTreeMap<UserId, BTreeMap<String, String>>,
    ) -> Result<ClaimedKeys, UserError> {
        let mut claimed = ClaimedKeys::new();
        for (user_id, devices) in wanted {
            let Some(user) = self.rooms().user_nid(user_id)? else { continue };
            for (device_id, algorithm) in devices {
                let device_key: (_, Arc<str>) = (user, device_id.as_str().into());
                let Some(device) = self.store().get(&DEVICES, &device_key)? else { continue };
                let Some((name, key)) = self.claim_key(device.nid, algorithm).await? else { continue };
                let devices = claimed.entry(user_id.clone()).or_default();
                devices.entry(device_id.clone()).or_default().insert(name, key);
            }
        }
        Ok(claimed)
    }

    /// Claims one key of a device: the oldest one-time key, or else the fallback key. Cancel-safe as above.
    pub async fn claim_key(
        &self,
        device: DeviceNid,
        algorithm: &str,
    ) -> Result<Option<(String, Box<RawValue>)>, UserError> {
        if let Some(claimed) = self.claim_one_time_key(device, algorithm).await? {
            return Ok(Some(claimed));
        }
        let row_key = (device, algorithm.to_owned());
        let Some(row) = self.store().get(&FALLBACK_KEYS, &row_key)? else { return Ok(None) };
        if !row.is_used {
            let mut batch = Batch::new();
            batch.expect_equals(&FALLBACK_KEYS, &row_key, &row);
            batch.put(&FALLBACK_KEYS, &row_key, &FallbackRow { is_used: true, ..row.clone() });
            batch.touch(device_topic(device));
            // Losing means that it was marked or replaced meanwhile: either way this claim may use what it read.
            self.try_commit(batch).await?;
        }
        Ok(Some((format!("{algorithm}:{}", row.key_id), into_raw(row.key)?)))
    }

    async fn claim_one_time_key(
        &self,
        device: DeviceNid,
        algorithm: &str,
    ) -> Result<Option<(String, Box<RawValue>)>, UserError> {
        loop {
            let Some((claim, pos)) = self.pick_one_time_key(device, algorithm)? else { return Ok(None) };
            let row_key = &claim.name;
            let id = &row_key.2;
            let order_key = (device, algorithm.to_owned(), pos, id.clone());
            // The row may have gone between the scan and our reservation.
            let Some(row) = self.store().get(&ONE_TIME_KEYS, row_key)? else { continue };
            let mut batch = Batch::new();
            batch.expect_equals(&ONE_TIME_KEYS, row_key, &row);
            batch.delete(&ONE_TIME_KEYS, row_key);
            batch.delete(&ONE_TIME_KEY_ORDER, &order_key);
            batch.add(&ONE_TIME_KEY_COUNTS, &(device, algorithm.to_owned()), -1);
            batch.touch(device_topic(device));
            if self.try_commit(batch).await?.is_some() {
                return Ok(Some((format!("{algorithm}:{id}"), into_raw(row.value)?)));
            }
        }
    }

    fn pick_one_time_key(
        &self,
        device: DeviceNid,
        algorithm: &str,
    ) -> Result<Option<(Claim<'_>, StreamPos)>, UserError> {
        for row in self.store().scan(&ONE_TIME_KEY_ORDER, &(device, algorithm.to_owned())).iter() {
            let ((_, _, pos, id), ()) = row?;
            if let Some(claim) = self.inner.claims.begin(&(device, algorithm.to_owned(), id)) {
                return Ok(Some((claim, pos)));
            }
        }
        Ok(None)
    }
}

fn split_name(name: &str) -> Result<(&str, &str), UserError> {
    match name.split_once(':') {
        Some((algorithm, id))
            if !algorithm.is_empty()
                && !id.is_empty()
                && algorithm.len() <= MAX_NAME_BYTES
                && id.len() <= MAX_NAME_BYTES =>
        {
            Ok((algorithm, id))
        }
        _ => Err(UserError::InvalidParam("the name of a key is algorithm:id")),
    }
}

fn check_key(key: &RawValue) -> Result<(), UserError> {
    if key.get().len() > MAX_KEY_BYTES {
        return Err(UserError::TooLarge("a one-time key"));
    }
    if !key.get().starts_with(['{', '"']) {
        return Err(UserError::BadJson("a one-time key is an object or a string"));
    }
    Ok(())
}

fn is_same_json(a: &[u8], b: &[u8]) -> bool {
    a == b || serde_json::from_slice::<Value>(a).ok() == serde_json::from_slice::<Value>(b).ok()
}

fn into_raw(key: Vec<u8>) -> Result<Box<RawValue>, UserError> {
    String::from_utf8(key)
        .ok()
        .and_then(|key| RawValue::from_string(key).ok())
        .ok_or(UserError::Inconsistent("a stored one-time key is not JSON"))
}

#[cfg(test)]
mod tests;
