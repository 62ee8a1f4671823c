//! Identity keys of devices: uploading and querying.
//!
//! Spec: Client-Server API §"Key management API", §"Device keys".

use std::{collections::BTreeMap, sync::Arc};

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use spec::ids::UserId;
use storage::{Batch, Keyspace, Profile, Read};

use super::{
    Object,
    cross_signing::KeyUsage,
    one_time_keys::KeyCounts,
    parse_object, render_object,
    signatures::{SIGNATURES, Signatures},
};
use crate::{
    DeviceNid, Session, UserError, Users,
    device_lists::{DeviceListChangeKind, log_device_list_change},
    devices::DEVICES,
};

/// Owner and device ID → the signed key object as the device uploaded it.
pub(crate) const DEVICE_KEYS: Keyspace<(UserNid, Arc<str>), Vec<u8>> = Keyspace::new("device_keys", Profile::Points);

const MAX_DEVICE_KEYS_BYTES: usize = 64 * 1024;

/// Body of `/keys/upload`.
#[derive(Debug, Default, Deserialize)]
pub struct KeyUpload {
    /// Identity keys of the device.
    #[serde(default)]
    pub device_keys: Option<Object>,
    /// `algorithm:id` → key.
    #[serde(default)]
    pub one_time_keys: BTreeMap<String, Box<RawValue>>,
    /// `algorithm:id` → key, one per algorithm.
    #[serde(default, alias = "org.matrix.msc2732.fallback_keys")]
    pub fallback_keys: BTreeMap<String, Box<RawValue>>,
}

/// Answer of `/keys/query`, here or by another server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueriedKeys {
    /// User → device → keys.
    pub device_keys: BTreeMap<UserId, BTreeMap<String, Value>>,
    /// User → master key.
    pub master_keys: BTreeMap<UserId, Value>,
    /// User → self-signing key.
    pub self_signing_keys: BTreeMap<UserId, Value>,
    /// User → user-signing key: only the viewer's own.
    pub user_signing_keys: BTreeMap<UserId, Value>,
}

impl QueriedKeys {
    /// Adds what another answer has; of users in both, the other's.
    pub fn extend(&mut self, other: QueriedKeys) {
        self.device_keys.extend(other.device_keys);
        self.master_keys.extend(other.master_keys);
        self.self_signing_keys.extend(other.self_signing_keys);
        self.user_signing_keys.extend(other.user_signing_keys);
    }
}

/// Answer of `GET /user/devices/{userId}` (Server-Server API §"Device Management").
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserDevices {
    /// Whose.
    pub user_id: UserId,
    /// Position of the latest change.
    pub stream_id: u64,
    /// Devices with keys.
    pub devices: Vec<UserDevice>,
    /// Master key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key: Option<Value>,
    /// Self-signing key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signing_key: Option<Value>,
}

/// One device in [`UserDevices`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserDevice {
    /// Its ID.
    pub device_id: String,
    /// Its keys.
    pub keys: Value,
    /// Its name, if the server tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_display_name: Option<String>,
}

impl Users {
    /// Stores keys of the session's device, all or nothing. Keys that are there already are accepted again.
    /// Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam` for keys of another user or device, or a one-time key ID with another key; `BadJson`,
    /// `TooLarge`; `NotFound` when the device was deleted meanwhile.
    pub async fn upload_keys(&self, session: &Session, upload: &KeyUpload) -> Result<KeyCounts, UserError> {
        let key = (session.user, Arc::clone(&session.device_id));
        loop {
            let mut batch = Batch::new();
            let device = self.store().get(&DEVICES, &key)?.ok_or(UserError::NotFound("device"))?;
            self.put_keys(&mut batch, &session.user_id, &key, device.nid, upload)?;
            if batch.is_empty() {
                break;
            }
            // The device may be deleted at this moment: its keys must not outlive it.
            batch.expect_equals(&DEVICES, &key, &device);
            if self.try_commit(batch).await?.is_some() {
                break;
            }
        }
        self.key_counts(session.device)
    }

    pub(super) fn put_keys(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        key: &(UserNid, Arc<str>),
        device: DeviceNid,
        upload: &KeyUpload,
    ) -> Result<(), UserError> {
        if let Some(keys) = &upload.device_keys {
            self.put_device_keys(batch, user_id, key, keys)?;
        }
        self.put_one_time_keys(batch, device, &upload.one_time_keys)?;
        self.put_fallback_keys(batch, device, &upload.fallback_keys)
    }

    fn put_device_keys(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        row_key: &(UserNid, Arc<str>),
        keys: &Object,
    ) -> Result<(), UserError> {
        if !keys.get("algorithms").is_some_and(Value::is_array) {
            return Err(UserError::BadJson("device_keys.algorithms is a list"));
        }
        let are_keys_text =
            keys.get("keys").and_then(Value::as_object).is_some_and(|keys| keys.values().all(Value::is_string));
        if !are_keys_text || !keys.get("signatures").is_none_or(Value::is_object) {
            return Err(UserError::BadJson("device_keys.keys and device_keys.signatures are objects"));
        }
        let text = |name: &str| keys.get(name).and_then(Value::as_str);
        if text("user_id") != Some(user_id.as_str()) {
            return Err(UserError::InvalidParam("device_keys.user_id is not the user of this session"));
        }
        if text("device_id") != Some(&*row_key.1) {
            return Err(UserError::InvalidParam("device_keys.device_id is not the device of this session"));
        }
        let mut stored = keys.clone();
        // Only servers write here.
        stored.remove("unsigned");
        let json = render_object(&stored)?;
        if json.len() > MAX_DEVICE_KEYS_BYTES {
            return Err(UserError::TooLarge("device_keys"));
        }
        if self.store().get(&DEVICE_KEYS, row_key)?.is_some_and(|old| old == json) {
            return Ok(());
        }
        batch.put(&DEVICE_KEYS, row_key, &json);
        log_device_list_change(batch, row_key.0, Some(&row_key.1), DeviceListChangeKind::Updated);
        Ok(())
    }

    pub(crate) fn has_device_keys(&self, user: UserNid, device_id: &Arc<str>) -> Result<bool, UserError> {
        Ok(self.store().contains(&DEVICE_KEYS, &(user, Arc::clone(device_id)))?)
    }

    /// Adds the deletion of a device's identity keys, and of signatures on them, to `batch`; true if it had any.
    pub(crate) fn delete_device_keys(
        &self,
        batch: &mut Batch,
        user: UserNid,
        device_id: &Arc<str>,
    ) -> Result<bool, UserError> {
        for row in self.store().scan(&SIGNATURES, &(user, device_id.to_string())).iter() {
            batch.delete(&SIGNATURES, &row?.0);
        }
        batch.delete(&DEVICE_KEYS, &(user, Arc::clone(device_id)));
        self.has_device_keys(user, device_id)
    }

    /// Keys of local users as `viewer` may see them (`None`: another server). An empty list of devices asks for all.
    /// Users that do not exist are left out.
    pub fn query_keys(
        &self,
        viewer: Option<UserNid>,
        wanted: &BTreeMap<UserId, Vec<String>>,
    ) -> Result<QueriedKeys, UserError> {
        let mut found = QueriedKeys::default();
        for (user_id, device_ids) in wanted {
            let Some(user) = self.rooms().user_nid(user_id)? else { continue };
            let signatures = self.signatures_on(user, viewer)?;
            let devices = self.visible_device_keys(user, device_ids, &signatures)?;
            if !devices.is_empty() || self.account(user)?.is_some() {
                found.device_keys.insert(user_id.clone(), devices);
            }
            let cross = |usage, into: &mut BTreeMap<UserId, Value>| -> Result<(), UserError> {
                if let Some(key) = self.visible_cross_signing_key(user, usage, &signatures)? {
                    into.insert(user_id.clone(), key);
                }
                Ok(())
            };
            cross(KeyUsage::Master, &mut found.master_keys)?;
            cross(KeyUsage::SelfSigning, &mut found.self_signing_keys)?;
            if viewer == Some(user) {
                cross(KeyUsage::UserSigning, &mut found.user_signing_keys)?;
            }
        }
        Ok(found)
    }

    fn visible_device_keys(
        &self,
        user: UserNid,
        device_ids: &[String],
        signatures: &Signatures,
    ) -> Result<BTreeMap<String, Value>, UserError> {
        let mut devices = BTreeMap::new();
        for row in self.store().scan(&DEVICE_KEYS, &user).iter() {
            let ((_, device_id), json) = row?;
            if !device_ids.is_empty() && !device_ids.iter().any(|wanted| **wanted == *device_id) {
                continue;
            }
            let mut keys = parse_object(&json)?;
            signatures.merge_into(&mut keys, &device_id);
            let name = self.store().get(&DEVICES, &(user, Arc::clone(&device_id)))?.and_then(|row| row.display_name);
            if let Some(name) = name {
                keys.insert("unsigned".to_owned(), serde_json::json!({ "device_display_name": name }));
            }
            devices.insert(device_id.to_string(), Value::Object(keys));
        }
        Ok(devices)
    }

    /// Everything another server needs to know of a local user's devices. `None` when there is no such account.
    pub fn user_devices(&self, user_id: &UserId) -> Result<Option<UserDevices>, UserError> {
        let Some(user) = self.active_user(user_id)? else { return Ok(None) };
        let signatures = self.signatures_on(user, None)?;
        let stream_id = self.device_list_version(user)?.0;
        let devices = self
            .visible_device_keys(user, &[], &signatures)?
            .into_iter()
            .map(|(device_id, mut keys)| {
                let unsigned = keys.as_object_mut().and_then(|keys| keys.remove("unsigned"));
                let name = unsigned.as_ref().and_then(|u| u.get("device_display_name")).and_then(Value::as_str);
                UserDevice { device_id, device_display_name: name.map(str::to_owned), keys }
            })
            .collect();
        Ok(Some(UserDevices {
            user_id: user_id.clone(),
            stream_id,
            devices,
            master_key: self.visible_cross_signing_key(user, KeyUsage::Master, &signatures)?,
            self_signing_key: self.visible_cross_signing_key(user, KeyUsage::SelfSigning, &signatures)?,
        }))
    }
}
