//! Devices of the users of services: made without logging in (MSC4190), and served by transactions (MSC3202, MSC4203).

use std::sync::Arc;

use rooms::UserNid;
use serde_json::value::RawValue;
use spec::ids::UserId;
use storage::{Batch, Read, StreamPos};

use super::AppService;
use crate::{AccountKind, DeviceNid, UserError, Users, devices::check_display_name, to_device::TO_DEVICE};

/// A device that a service is told of in its transactions.
#[derive(Clone, Debug)]
pub struct AppServiceDevice {
    /// The service.
    pub service: Arc<AppService>,
    /// Whose device it is.
    pub user_id: UserId,
    /// Its id.
    pub device_id: Arc<str>,
}

impl Users {
    /// Makes a device without logging in on it; says whether it is new. One that exists gets the name, if one is given.
    /// Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam` for an impossible id; `TooLarge`.
    pub async fn ensure_device(
        &self,
        user: UserNid,
        device_id: &str,
        display_name: Option<&str>,
    ) -> Result<bool, UserError> {
        check_display_name(display_name)?;
        loop {
            if self.device(user, device_id)?.is_some() {
                if let Some(name) = display_name {
                    self.rename_device(user, device_id, Some(name)).await?;
                }
                return Ok(false);
            }
            let key = (user, self.check_device_id(user, device_id)?);
            let mut batch = Batch::new();
            self.add_device(&mut batch, &key, display_name);
            if self.try_commit(batch).await?.is_some() {
                return Ok(true);
            }
        }
    }

    /// Whose device this is, if a service is told of it: one that asked for that, and made the account.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn appservice_device(&self, device: DeviceNid) -> Result<Option<AppServiceDevice>, UserError> {
        let services = self.appservices();
        if !services.iter().any(|service| service.wants_encryption()) {
            return Ok(None);
        }
        let Some(((user, device_id), _)) = self.live_device(device)? else { return Ok(None) };
        let Some(account) = self.account(user)?.filter(|account| account.kind == AccountKind::Appservice) else {
            return Ok(None);
        };
        // Namespaces may overlap: the one that nobody else can have comes first.
        let wants = |service: &&Arc<AppService>| service.wants_encryption();
        let exclusive = services.iter().filter(wants).find(|of| of.owns_user_exclusively(&account.user_id));
        let service = exclusive.or_else(|| services.iter().filter(wants).find(|of| of.owns_user(&account.user_id)));
        Ok(service.map(|service| AppServiceDevice {
            service: Arc::clone(service),
            user_id: account.user_id,
            device_id,
        }))
    }

    /// Takes the oldest messages off a device's queue, as many as fit into `bytes` (one fits always), in the commit of
    /// `batch`. They come as JSON, and with whether more are left.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn take_messages(
        &self,
        batch: &mut Batch,
        device: DeviceNid,
        bytes: usize,
    ) -> Result<(Vec<Box<RawValue>>, bool), UserError> {
        let (mut taken, mut size) = (Vec::new(), 0usize);
        for row in self.store().scan(&TO_DEVICE, &device).iter() {
            let (key, json) = row?;
            size = size.saturating_add(json.len());
            if size > bytes && !taken.is_empty() {
                return Ok((taken, true));
            }
            let message = String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok());
            taken.push(message.ok_or(UserError::Inconsistent("a queued message is not JSON"))?);
            batch.delete(&TO_DEVICE, &key);
        }
        Ok((taken, false))
    }

    /// Every device with messages in its queue: one seek each.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn devices_with_messages(&self) -> Result<Vec<DeviceNid>, UserError> {
        let mut devices = Vec::new();
        let mut next = DeviceNid(0);
        loop {
            let from = (next, StreamPos::ZERO, 0);
            let Some(key) = self.store().scan(&TO_DEVICE, &()).from(&from).keys().next() else { return Ok(devices) };
            let (device, ..) = key?;
            devices.push(device);
            next = DeviceNid(device.0.saturating_add(1));
        }
    }
}
