//! Sessions by which an administrator acts as a user, for a time.
//!
//! Such a session is a device of the user like any other: they see it, and can end it.

use std::sync::Arc;

use rooms::UserNid;
use storage::{Batch, Keyspace, Profile, Read};

use crate::{IssuedTokens, NewSession, UserError, Users};

/// When the session ends, whose it is, on which device.
pub(crate) const ACTING_SESSIONS: Keyspace<(u64, UserNid, Arc<str>), ()> =
    Keyspace::new("acting_sessions", Profile::Points);

impl Users {
    /// A new device of `user` whose access token ends at `until_ms` (milliseconds since 1970), and the device with it;
    /// `None`: they stay until somebody ends them. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`, `UserDeactivated`; `InvalidParam` for a time that is over; `TooLarge` for the name.
    pub async fn start_acting(
        &self,
        user: UserNid,
        name: &str,
        until_ms: Option<u64>,
    ) -> Result<NewSession, UserError> {
        let account = self.account(user)?.ok_or(UserError::NotFound("account"))?;
        if account.is_deactivated {
            return Err(UserError::UserDeactivated);
        }
        let now = self.now_ms();
        if until_ms.is_some_and(|until| until <= now) {
            return Err(UserError::InvalidParam("the end of the session is over"));
        }
        crate::devices::check_display_name(Some(name))?;
        loop {
            let device_id: Arc<str> = self.inner.random.token(10).to_ascii_uppercase().into();
            let mut batch = Batch::new();
            let device = self.add_device(&mut batch, &(user, Arc::clone(&device_id)), Some(name));
            let access_token = self.issue_access_token(&mut batch, user, device, until_ms);
            if let Some(until) = until_ms {
                batch.put(&ACTING_SESSIONS, &(until, user, Arc::clone(&device_id)), &());
            }
            if self.try_commit(batch).await?.is_some() {
                let expires_in_ms = until_ms.map(|until| until.saturating_sub(now));
                let tokens = IssuedTokens { access_token, refresh_token: None, expires_in_ms };
                return Ok(NewSession { user_id: account.user_id, device_id, tokens });
            }
        }
    }

    /// Deletes the devices whose time is over.
    pub(crate) async fn end_acting_sessions(&self, now_ms: u64) -> Result<(), UserError> {
        let mut over = Vec::new();
        for key in self.store().scan(&ACTING_SESSIONS, &()).keys() {
            let key = key?;
            if key.0 > now_ms {
                break;
            }
            over.push(key);
        }
        for key in over {
            self.delete_device(key.1, &key.2).await?;
            let mut batch = Batch::new();
            batch.delete(&ACTING_SESSIONS, &key);
            self.store().commit(batch).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
