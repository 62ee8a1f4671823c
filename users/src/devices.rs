//! Devices of local users. A device owns its tokens, keys and to-device messages: they end with it.
//!
//! Spec: Client-Server API §"Device management", §"Relationship between access tokens and devices".

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use spec::ids::UserId;
use storage::{Batch, Keyspace, Profile, Read, Store, nid, stored};

use crate::{
    IssuedTokens, Session, UserError, Users,
    device_lists::{DeviceListChangeKind, log_device_list_change},
    topics::{account_topic, device_topic, user_topic},
};

nid!(
    /// The number of a device. Never reused, also after the device is gone.
    pub struct DeviceNid
);

/// Owner and device ID.
pub(crate) type DeviceKey = (UserNid, Arc<str>);

pub(crate) const DEVICES: Keyspace<DeviceKey, DeviceRow> = Keyspace::new("devices", Profile::Points);
/// Kept after a device is deleted, which is what keeps numbers from being reused.
pub(crate) const DEVICE_OWNERS: Keyspace<DeviceNid, DeviceOwner> = Keyspace::new("device_owners", Profile::Points);
pub(crate) const DEVICE_SEEN: Keyspace<DeviceNid, SeenRow> = Keyspace::new("device_seen", Profile::Points);
/// With which program a device was last used.
pub(crate) const DEVICE_AGENTS: Keyspace<DeviceNid, AgentRow> = Keyspace::new("device_agents", Profile::Points);

/// "Last seen" is written at most this often per device.
const SEEN_INTERVAL_MS: u64 = 5 * 60_000;
const MAX_DEVICE_ID_BYTES: usize = 255;
const MAX_DISPLAY_NAME_BYTES: usize = 1_000;
/// Of a longer name of a program the beginning is kept.
const MAX_AGENT_CHARS: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    pub(crate) nid: DeviceNid,
    pub(crate) display_name: Option<String>,
    created_ms: u64,
    /// Changes with everything that is given to the device, so that its deletion misses nothing.
    revision: u64,
}
stored!(DeviceRow, 2);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceOwner {
    pub(crate) user: UserNid,
    pub(crate) device_id: Arc<str>,
}
stored!(DeviceOwner, 1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenRow {
    at_ms: u64,
    ip: Option<String>,
}
stored!(SeenRow, 1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentRow {
    user_agent: String,
}
stored!(AgentRow, 1);

/// A device as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub nid: DeviceNid,
    /// Its ID, unique per user.
    pub device_id: Arc<str>,
    /// Name given by the user.
    pub display_name: Option<String>,
    /// When it was last used, in milliseconds since 1970; up to five minutes behind.
    pub last_seen_ms: Option<u64>,
    /// From which address.
    pub last_seen_ip: Option<String>,
    /// With which program, as it calls itself; at most 200 characters of it.
    pub last_seen_user_agent: Option<String>,
}

/// What a login says about the device.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceLogin<'a> {
    /// A device ID to use or to reuse; `None` creates one.
    pub device_id: Option<&'a str>,
    /// Display name of a new device.
    pub display_name: Option<&'a str>,
    /// Whether the client understands refresh tokens.
    pub refreshable: bool,
}

/// The answer to a login.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Who logged in.
    pub user_id: UserId,
    /// On which device.
    pub device_id: Arc<str>,
    /// With which tokens.
    pub tokens: IssuedTokens,
}

/// Gives out device numbers.
pub(crate) struct NextDeviceNid(AtomicU64);

impl NextDeviceNid {
    pub(crate) fn load(store: &Store) -> Result<Self, UserError> {
        let last = match store.scan(&DEVICE_OWNERS, &()).reverse().iter().next() {
            Some(row) => row?.0.0,
            None => 0,
        };
        Ok(Self(AtomicU64::new(last + 1)))
    }

    fn take(&self) -> DeviceNid {
        DeviceNid(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Users {
    /// Logs `user` in on a new or an existing device. An existing device's previous tokens end; its keys and queued
    /// messages stay. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam` for an impossible device ID, `NotFound` when there is no such account, `UserDeactivated`,
    /// `AwaitingApproval`, `AccountExpired`.
    pub async fn start_session(&self, user: UserNid, login: DeviceLogin<'_>) -> Result<NewSession, UserError> {
        let account = self.account(user)?.ok_or(UserError::NotFound("account"))?;
        if account.is_deactivated {
            return Err(UserError::UserDeactivated);
        }
        self.check_may_log_in(user)?;
        check_display_name(login.display_name)?;
        let device_id: Arc<str> = match login.device_id {
            Some(id) => self.check_device_id(user, id)?,
            None => self.inner.random.token(10).to_ascii_uppercase().into(),
        };
        let key = (user, Arc::clone(&device_id));
        loop {
            let mut batch = Batch::new();
            let mut revoked = Vec::new();
            let nid = match self.store().get(&DEVICES, &key)? {
                Some(row) => {
                    expect_device(&mut batch, &key, &row);
                    revoked = self.delete_device_tokens(&mut batch, row.nid)?;
                    row.nid
                }
                None => self.add_device(&mut batch, &key, login.display_name),
            };
            let tokens = self.issue_tokens(&mut batch, user, nid, login.refreshable);
            if self.try_commit_revoking(batch, &revoked).await?.is_some() {
                return Ok(NewSession { user_id: account.user_id, device_id, tokens });
            }
        }
    }

    pub(crate) fn add_device(
        &self,
        batch: &mut Batch,
        key: &(UserNid, Arc<str>),
        display_name: Option<&str>,
    ) -> DeviceNid {
        let nid = self.inner.next_device.take();
        batch.expect_absent(&DEVICES, key);
        batch.expect_absent(&DEVICE_OWNERS, &nid);
        batch.put(
            &DEVICES,
            key,
            &DeviceRow { nid, display_name: display_name.map(str::to_owned), created_ms: self.now_ms(), revision: 0 },
        );
        batch.put(&DEVICE_OWNERS, &nid, &DeviceOwner { user: key.0, device_id: Arc::clone(&key.1) });
        // Of a device of a service's user, the service is told how many keys it has: none yet.
        batch.touch(user_topic(key.0)).touch(device_topic(nid));
        nid
    }

    pub(crate) fn check_device_id(&self, user: UserNid, device_id: &str) -> Result<Arc<str>, UserError> {
        if device_id.is_empty() || device_id.len() > MAX_DEVICE_ID_BYTES {
            return Err(UserError::InvalidParam("a device ID has 1 to 255 bytes"));
        }
        // Device IDs and cross-signing keys share a namespace in signatures.
        if self.is_cross_signing_key(user, device_id)? {
            return Err(UserError::InvalidParam("this device ID is the public part of a cross-signing key"));
        }
        Ok(device_id.into())
    }

    /// The devices of a user, in order of device ID.
    pub fn devices(&self, user: UserNid) -> Result<Vec<Device>, UserError> {
        let mut devices = Vec::new();
        for row in self.store().scan(&DEVICES, &user).iter() {
            let ((_, device_id), row) = row?;
            devices.push(self.device_view(device_id, row)?);
        }
        Ok(devices)
    }

    /// One device of a user.
    pub fn device(&self, user: UserNid, device_id: &str) -> Result<Option<Device>, UserError> {
        let device_id: Arc<str> = device_id.into();
        match self.store().get(&DEVICES, &(user, Arc::clone(&device_id)))? {
            Some(row) => Ok(Some(self.device_view(device_id, row)?)),
            None => Ok(None),
        }
    }

    pub(crate) fn device_nids(&self, user: UserNid) -> Result<Vec<DeviceNid>, UserError> {
        self.store().scan(&DEVICES, &user).iter().map(|row| Ok(row?.1.nid)).collect()
    }

    fn device_view(&self, device_id: Arc<str>, row: DeviceRow) -> Result<Device, UserError> {
        let seen = self.store().get(&DEVICE_SEEN, &row.nid)?;
        let (last_seen_ms, last_seen_ip) = seen.map_or((None, None), |seen| (Some(seen.at_ms), seen.ip));
        let last_seen_user_agent = self.store().get(&DEVICE_AGENTS, &row.nid)?.map(|row| row.user_agent);
        let DeviceRow { nid, display_name, .. } = row;
        Ok(Device { nid, device_id, display_name, last_seen_ms, last_seen_ip, last_seen_user_agent })
    }

    /// Renames a device. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`, `TooLarge`.
    pub async fn rename_device(
        &self,
        user: UserNid,
        device_id: &str,
        display_name: Option<&str>,
    ) -> Result<(), UserError> {
        check_display_name(display_name)?;
        let key: (UserNid, Arc<str>) = (user, device_id.into());
        loop {
            let row = self.store().get(&DEVICES, &key)?.ok_or(UserError::NotFound("device"))?;
            if row.display_name.as_deref() == display_name {
                return Ok(());
            }
            let mut batch = Batch::new();
            batch.expect_equals(&DEVICES, &key, &row);
            batch.put(&DEVICES, &key, &DeviceRow { display_name: display_name.map(str::to_owned), ..row });
            // Whether or not it has keys: servers that share a room are told of names too.
            log_device_list_change(&mut batch, user, Some(&key.1), DeviceListChangeKind::Updated);
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Notes that a session was used from `ip`, by the program that calls itself `user_agent`. Writes at most every five
    /// minutes per device. Cancel-safe.
    pub async fn record_device_seen(
        &self,
        session: &Session,
        ip: Option<&str>,
        user_agent: Option<&str>,
    ) -> Result<(), UserError> {
        let now = self.now_ms();
        let written = session.seen_written_ms.load(Ordering::Relaxed);
        if now < written.saturating_add(SEEN_INTERVAL_MS)
            || session.seen_written_ms.compare_exchange(written, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return Ok(());
        }
        let mut batch = Batch::new();
        // The device may have been deleted meanwhile: its traces must not come back.
        let key = (session.user, Arc::clone(&session.device_id));
        let Some(row) = self.store().get(&DEVICES, &key)? else { return Ok(()) };
        batch.expect_equals(&DEVICES, &key, &row);
        batch.put(&DEVICE_SEEN, &session.device, &SeenRow { at_ms: now, ip: ip.map(str::to_owned) });
        match user_agent.and_then(shorten_agent) {
            Some(user_agent) => batch.put(&DEVICE_AGENTS, &session.device, &AgentRow { user_agent }),
            None => batch.delete(&DEVICE_AGENTS, &session.device),
        };
        batch.touch(account_topic(session.user));
        self.try_commit(batch).await?;
        Ok(())
    }

    pub(crate) fn device_seen_ms(&self, device: DeviceNid) -> Result<u64, UserError> {
        Ok(self.store().get(&DEVICE_SEEN, &device)?.map_or(0, |seen| seen.at_ms))
    }

    /// The row of a device that still exists, with its key.
    pub(crate) fn live_device(&self, device: DeviceNid) -> Result<Option<(DeviceKey, DeviceRow)>, UserError> {
        let Some(owner) = self.store().get(&DEVICE_OWNERS, &device)? else { return Ok(None) };
        let key = (owner.user, owner.device_id);
        // Another device may have its place now.
        let row = self.store().get(&DEVICES, &key)?.filter(|row| row.nid == device);
        Ok(row.map(|row| (key, row)))
    }

    /// Deletes a device with its tokens, keys, pushers and queued messages; does nothing if it does not exist.
    /// Cancel-safe: the device is gone in one commit; what it left in its queue is removed after it.
    pub async fn delete_device(&self, user: UserNid, device_id: &str) -> Result<(), UserError> {
        let key: (UserNid, Arc<str>) = (user, device_id.into());
        loop {
            let Some(row) = self.store().get(&DEVICES, &key)? else { return Ok(()) };
            let mut batch = Batch::new();
            batch.expect_equals(&DEVICES, &key, &row);
            batch.delete(&DEVICES, &key);
            batch.delete(&DEVICE_SEEN, &row.nid);
            batch.delete(&DEVICE_AGENTS, &row.nid);
            let revoked = self.delete_device_tokens(&mut batch, row.nid)?;
            self.delete_device_pushers(&mut batch, user, row.nid)?;
            self.delete_device_settings(&mut batch, user, &key.1)?;
            if self.delete_device_keys(&mut batch, user, &key.1)? {
                log_device_list_change(&mut batch, user, Some(&key.1), DeviceListChangeKind::Deleted);
            }
            batch.touch(user_topic(user));
            batch.touch(device_topic(row.nid));
            if self.try_commit_revoking(batch, &revoked).await?.is_some() {
                return self.erase_device_queues(row.nid).await;
            }
        }
    }

    /// Deletes all devices of a user, except one if given (the one that changes its password). Each is deleted by its
    /// own commit: cancelling leaves the rest.
    pub async fn delete_all_devices(&self, user: UserNid, except: Option<&str>) -> Result<(), UserError> {
        for device in self.devices(user)? {
            if except != Some(&*device.device_id) {
                self.delete_device(user, &device.device_id).await?;
            }
        }
        Ok(())
    }
}

/// Begins a batch that gives something to a device which the device's deletion must take away again (tokens, pushers).
/// A deletion that has looked for such things before this commit fails and looks again; after it, this commit fails.
pub(crate) fn expect_device(batch: &mut Batch, key: &DeviceKey, row: &DeviceRow) {
    batch.expect_equals(&DEVICES, key, row);
    batch.put(&DEVICES, key, &DeviceRow { revision: row.revision.wrapping_add(1), ..row.clone() });
}

/// What is kept of the name of a program: nothing of one without a letter.
fn shorten_agent(user_agent: &str) -> Option<String> {
    let kept: String = user_agent.trim().chars().filter(|c| !c.is_control()).take(MAX_AGENT_CHARS).collect();
    (!kept.is_empty()).then_some(kept)
}

pub(crate) fn check_display_name(name: Option<&str>) -> Result<(), UserError> {
    match name {
        Some(name) if name.len() > MAX_DISPLAY_NAME_BYTES => Err(UserError::TooLarge("the device's display name")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
