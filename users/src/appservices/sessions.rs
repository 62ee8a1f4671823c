//! Services acting as users (Application Service API §"Identity assertion").

use std::sync::{Arc, atomic::AtomicU64};

use rooms::UserNid;
use spec::ids::UserId;

use super::AppService;
use crate::{AccountKind, DeviceNid, Rights, Role, Session, UserError, Users};

/// Device numbers from here on stand for "no device" of a user: a service may act without one. Real devices are
/// numbered from 1.
const NO_DEVICE: u64 = 1 << 63;

/// What stands for the device of a user who acts without one. It is different for each user, so that nothing that is
/// kept by device is shared between them.
fn without_device(user: UserNid) -> DeviceNid {
    DeviceNid(NO_DEVICE | user.0)
}

impl Session {
    /// Whether the caller is a device: a service may act as a user without one, and `device_id` is then empty.
    pub fn has_device(&self) -> bool {
        self.device.0 < NO_DEVICE
    }

    /// Refuses a caller without a device: the first line of what cannot be done without.
    ///
    /// # Errors
    /// `MissingParam`.
    pub fn check_has_device(&self) -> Result<(), UserError> {
        if self.has_device() { Ok(()) } else { Err(UserError::MissingParam("device_id")) }
    }

    /// Whether the caller's requests are rate-limited: not those of a service that need not be, nor those of any
    /// service's sender.
    pub fn is_rate_limited(&self) -> bool {
        self.appservice.as_ref().is_none_or(|service| service.is_rate_limited() && self.user_id != *service.sender())
    }
}

impl Users {
    /// The session of a service that acts as one of its users (its sender, if it names none), on one of their devices
    /// if it names one. A sender that does not exist is made. The caller looks at [`Session::is_locked`]. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam` for what is no user id; `Forbidden` for a user outside of its namespaces or in another service's exclusive
    /// one, for the sender of server notices, and for one that it has not registered; `UserDeactivated`; `UnknownDevice`.
    pub async fn authenticate_appservice(
        &self,
        service: &Arc<AppService>,
        user_id: Option<&str>,
        device_id: Option<&str>,
    ) -> Result<Arc<Session>, UserError> {
        let user_id = match user_id {
            Some(user_id) => UserId::parse(user_id).map_err(|_| UserError::InvalidParam("user_id is no user id"))?,
            None => service.sender().clone(),
        };
        if self.check_owner(service, &user_id).is_err() {
            return Err(UserError::Forbidden("the application service cannot act as this user"));
        }
        let account = self.appservice_account(service, &user_id).await?;
        let (device_id, device, seen_ms) = match device_id {
            Some(device_id) => {
                let device = self.device(account.user, device_id)?.ok_or(UserError::UnknownDevice)?;
                (device.device_id, device.nid, device.last_seen_ms.unwrap_or(0))
            }
            None => (Arc::from(""), without_device(account.user), u64::MAX),
        };
        let facts = self.facts(account.user)?;
        let role = self.role(account.user)?.unwrap_or(Role::Member);
        Ok(Arc::new(Session {
            user_id,
            user: account.user,
            device_id,
            device,
            is_guest: account.kind == AccountKind::Guest,
            is_admin: account.is_admin,
            is_suspended: account.is_suspended,
            is_locked: account.is_locked,
            role,
            rights: Rights::of(role, &self.config().roles),
            is_shadow_banned: facts.is_shadow_banned,
            rate_limit: facts.rate_limit,
            account_expires_at_ms: facts.expires_at_ms,
            newcomer_since_ms: None,
            appservice: Some(Arc::clone(service)),
            expires_at_ms: None,
            seen_written_ms: AtomicU64::new(seen_ms),
        }))
    }
}
