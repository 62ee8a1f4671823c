//! Dehydrated devices (MSC3814): a device kept encrypted on the server, which receives keys while no client runs.
//!
//! It is a device like any other, but nobody is logged in on it. A user has at most one.

use std::sync::Arc;

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage::{Batch, Keyspace, Profile, Read, StreamPos};

use super::{Object, device_keys::KeyUpload};
use crate::{QueuedMessages, UserError, Users, devices::DEVICES};

/// Owner → the dehydrated device as JSON.
pub(crate) const DEHYDRATED: Keyspace<UserNid, Vec<u8>> = Keyspace::new("dehydrated_devices", Profile::Points);

const MAX_DEVICE_DATA_BYTES: usize = 64 * 1024;
const EVENTS_PER_PAGE: usize = 100;

/// Body of `PUT /dehydrated_device`.
#[derive(Debug, Deserialize)]
pub struct DehydratedUpload {
    /// Its device ID.
    pub device_id: Box<str>,
    /// The encrypted device.
    pub device_data: Box<RawValue>,
    /// Its name.
    #[serde(default)]
    pub initial_device_display_name: Option<String>,
    /// Its identity keys.
    pub device_keys: Object,
    /// Its one-time keys.
    #[serde(default)]
    pub one_time_keys: std::collections::BTreeMap<String, Box<RawValue>>,
    /// Its fallback keys.
    #[serde(default)]
    pub fallback_keys: std::collections::BTreeMap<String, Box<RawValue>>,
}

/// Answer of `GET /dehydrated_device`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DehydratedDevice {
    /// Its device ID.
    pub device_id: Box<str>,
    /// The encrypted device.
    pub device_data: Box<RawValue>,
}

impl Users {
    /// Stores a dehydrated device, with all of its keys, in place of an earlier one. Not cancel-safe in one respect:
    /// a call cut off in the middle may leave the user without any.
    ///
    /// # Errors
    /// `InvalidParam` when a logged-in device has this ID, `TooLarge`, and those of [`Users::upload_keys`].
    pub async fn put_dehydrated_device(&self, user: UserNid, upload: DehydratedUpload) -> Result<(), UserError> {
        if upload.device_data.get().len() > MAX_DEVICE_DATA_BYTES {
            return Err(UserError::TooLarge("device_data"));
        }
        let user_id = self.rooms().user_id(user)?;
        let device_id = self.check_device_id(user, &upload.device_id)?;
        let old = self.dehydrated_device(user)?;
        let is_own_place = old.as_ref().is_some_and(|old| *old.device_id == *device_id);
        let key = (user, Arc::clone(&device_id));
        if !is_own_place && self.store().contains(&DEVICES, &key)? {
            return Err(UserError::InvalidParam("a logged-in device has this ID"));
        }
        self.delete_dehydrated_device(user).await?;
        let keys = KeyUpload {
            device_keys: Some(upload.device_keys),
            one_time_keys: upload.one_time_keys,
            fallback_keys: upload.fallback_keys,
        };
        let stored = DehydratedDevice { device_id: upload.device_id, device_data: upload.device_data };
        let json = serde_json::to_vec(&stored).map_err(|_| UserError::Inconsistent("a device does not serialise"))?;
        let mut batch = Batch::new();
        let nid = self.add_device(&mut batch, &key, upload.initial_device_display_name.as_deref());
        self.put_keys(&mut batch, &user_id, &key, nid, &keys)?;
        batch.expect_absent(&DEHYDRATED, &user);
        batch.put(&DEHYDRATED, &user, &json);
        self.store().commit(batch).await?;
        Ok(())
    }

    /// The user's dehydrated device.
    pub fn dehydrated_device(&self, user: UserNid) -> Result<Option<DehydratedDevice>, UserError> {
        let Some(json) = self.store().get(&DEHYDRATED, &user)? else { return Ok(None) };
        let device = serde_json::from_slice(&json)
            .map_err(|_| UserError::Inconsistent("a stored dehydrated device is not readable"))?;
        Ok(Some(device))
    }

    /// Deletes the user's dehydrated device and gives its ID, if there was one. Cancel-safe: repeating completes it.
    pub async fn delete_dehydrated_device(&self, user: UserNid) -> Result<Option<Box<str>>, UserError> {
        let Some(device) = self.dehydrated_device(user)? else { return Ok(None) };
        self.delete_device(user, &device.device_id).await?;
        let mut batch = Batch::new();
        batch.delete(&DEHYDRATED, &user);
        self.store().commit(batch).await?;
        Ok(Some(device.device_id))
    }

    /// Messages for the dehydrated device after `since` (the position in the previous page, or zero). They stay
    /// queued: who rehydrates the device deletes it afterwards.
    ///
    /// # Errors
    /// `NotFound` when this is not the user's dehydrated device.
    pub fn dehydrated_messages(
        &self,
        user: UserNid,
        device_id: &str,
        since: StreamPos,
    ) -> Result<QueuedMessages, UserError> {
        let is_dehydrated = self.dehydrated_device(user)?.is_some_and(|device| &*device.device_id == device_id);
        let row = self.store().get(&DEVICES, &(user, device_id.into()))?;
        let row = row.filter(|_| is_dehydrated).ok_or(UserError::NotFound("dehydrated device"))?;
        self.queued_messages(row.nid, since, self.store().visible(), EVENTS_PER_PAGE)
    }
}

#[cfg(test)]
mod tests;
