//! How much a user and the whole server may store.
//!
//! A user's limit is the one an administrator gave to them, else that of their role, else `user_quota`. The sums of
//! `usage.rs` are read and the upload is committed under one lock, so that two uploads at once cannot pass a limit
//! together.

use spec::ids::UserId;
use storage::{Batch, Read};
use tokio::sync::MutexGuard;

use crate::config::MediaConfig;
use crate::error::{MediaError, QuotaOf};
use crate::media::{Inner, Media};
use crate::rows::{MediaKey, USER_QUOTAS};

/// In the place of a limit: none.
const NO_LIMIT: u64 = u64::MAX;

/// Roles that may have limits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploaderRole {
    /// A visitor.
    Guest,
    /// Anybody else.
    Member,
    /// Somebody who moderates the server.
    Moderator,
    /// Somebody who administers the server.
    Administrator,
}

/// Knows the roles of this server's users; given to [`Media::set_roles`]. Without it all are members.
pub trait UploaderRoles: Send + Sync {
    /// The user's role; none if it cannot be said now, which counts as member.
    fn role(&self, user_id: &UserId) -> Option<UploaderRole>;
}

/// What an administrator says of one user's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserQuota {
    /// That of the role.
    OfRole,
    /// None.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

/// While this exists, nobody else stores anything that counts towards the same limits.
pub(crate) struct Share<'a> {
    _user: Option<MutexGuard<'a, ()>>,
    _server: Option<MutexGuard<'a, ()>>,
}

fn quota_of_role(config: &MediaConfig, role: UploaderRole) -> Option<u64> {
    let own = match role {
        UploaderRole::Guest => config.guest_quota,
        UploaderRole::Member => None,
        UploaderRole::Moderator => config.moderator_quota,
        UploaderRole::Administrator => config.administrator_quota,
    };
    own.or(config.user_quota).map(|size| size.bytes())
}

impl Media {
    /// Tells once who has which role. A second call changes nothing.
    pub fn set_roles(&self, roles: std::sync::Arc<dyn UploaderRoles>) {
        // Set at the start, before requests come.
        let _ = self.0.roles.set(roles);
    }

    /// How many bytes the user may store; none if there is no limit.
    ///
    /// # Errors
    /// `Storage`.
    pub fn quota(&self, user: &UserId) -> Result<Option<u64>, MediaError> {
        self.0.quota(&self.config(), user.as_str())
    }

    /// What an administrator said of the user's limit.
    ///
    /// # Errors
    /// `Storage`.
    pub fn user_quota(&self, user: &UserId) -> Result<UserQuota, MediaError> {
        Ok(match self.0.store.get(&USER_QUOTAS, &user.as_str().to_owned())? {
            None => UserQuota::OfRole,
            Some(NO_LIMIT) => UserQuota::Unlimited,
            Some(bytes) => UserQuota::Bytes(bytes),
        })
    }

    /// Gives a user a limit of their own. What is stored beyond it stays. Cancel-safe.
    ///
    /// # Errors
    /// `Commit`.
    pub async fn set_user_quota(&self, user: &UserId, quota: UserQuota) -> Result<(), MediaError> {
        let (key, mut batch) = (user.as_str().to_owned(), Batch::new());
        match quota {
            UserQuota::OfRole => batch.delete(&USER_QUOTAS, &key),
            UserQuota::Unlimited => batch.put(&USER_QUOTAS, &key, &NO_LIMIT),
            UserQuota::Bytes(bytes) => batch.put(&USER_QUOTAS, &key, &bytes),
        };
        self.0.store.commit(batch).await?;
        Ok(())
    }

    /// Whether the user may store so many bytes more, as things stand: to be asked before they are sent. Storing them
    /// asks again.
    ///
    /// # Errors
    /// `QuotaExceeded`, `Storage`.
    pub fn check_quota(&self, user: &UserId, length: u64) -> Result<(), MediaError> {
        let config = self.config();
        self.0.check_user_quota(&config, user.as_str(), length)?;
        self.0.check_server_quota(&config, length)
    }
}

impl Inner {
    fn quota(&self, config: &MediaConfig, user: &str) -> Result<Option<u64>, MediaError> {
        if let Some(own) = self.store.get(&USER_QUOTAS, &user.to_owned())? {
            return Ok(Some(own).filter(|own| *own != NO_LIMIT));
        }
        let role = self.roles.get().and_then(|roles| roles.role(&UserId::parse(user).ok()?));
        Ok(quota_of_role(config, role.unwrap_or(UploaderRole::Member)))
    }

    fn check_user_quota(&self, config: &MediaConfig, user: &str, length: u64) -> Result<(), MediaError> {
        match self.quota(config, user)? {
            Some(limit) if self.user_bytes(user)?.saturating_add(length) > limit => {
                Err(self.exceeded(config, QuotaOf::User, limit))
            }
            _ => Ok(()),
        }
    }

    fn check_server_quota(&self, config: &MediaConfig, length: u64) -> Result<(), MediaError> {
        match config.server_quota.map(|size| size.bytes()) {
            Some(limit) if self.local_bytes()?.saturating_add(length) > limit => {
                Err(self.exceeded(config, QuotaOf::Server, limit))
            }
            _ => Ok(()),
        }
    }

    fn exceeded(&self, config: &MediaConfig, whose: QuotaOf, limit: u64) -> MediaError {
        let info_uri = config.quota_info_uri.clone().unwrap_or_else(|| format!("https://{}/", self.server_name));
        MediaError::QuotaExceeded { whose, limit, info_uri, can_upgrade: config.quota_can_upgrade }
    }

    /// Waits until nobody else stores what counts towards the limits of this upload, and measures it. To be held until
    /// it is committed.
    pub(crate) async fn check_room(
        &self,
        key: &MediaKey,
        uploader: Option<&str>,
        length: u64,
    ) -> Result<Share<'_>, MediaError> {
        let mut share = Share { _user: None, _server: None };
        let Some(user) = uploader.filter(|_| key.0 == self.server_name.as_str()) else { return Ok(share) };
        let config = self.config();
        if self.quota(&config, user)?.is_some() {
            share._user = Some(self.lock_quota(user).await);
            self.check_user_quota(&config, user, length)?;
        }
        if config.server_quota.is_some() {
            share._server = Some(self.server_quota_lock.lock().await);
            self.check_server_quota(&config, length)?;
        }
        Ok(share)
    }
}

#[cfg(test)]
mod tests;
