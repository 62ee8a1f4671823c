//! Users that are the server itself: who sends server notices, and who answers in the admin room. Nobody can log in as
//! them or take their ids.

use rooms::UserNid;
use serde_json::Value;
use spec::ids::UserId;

use crate::{AccountKind, AdminRights, NewAccount, UserError, Users};

impl Users {
    /// Whether the id is that of a user who is the server itself, whose account nobody may make.
    #[must_use]
    pub fn is_server_user(&self, user: &UserId) -> bool {
        let config = self.config();
        let is_local = user.server_name() == self.rooms().server_name().as_str();
        let reserved = [&config.server_notices.localpart, &config.admin_localpart];
        is_local && reserved.into_iter().any(|localpart| localpart.as_deref() == Some(user.localpart()))
    }

    /// The account of a user who is the server itself, made if it does not exist, with its profile set as given.
    /// Cancel-safe: what was begun is completed by the next call.
    ///
    /// # Errors
    /// `Forbidden` if the account is somebody's; those of the store.
    pub async fn ensure_server_user(
        &self,
        localpart: &str,
        display_name: Option<&str>,
        avatar_url: Option<&str>,
    ) -> Result<(UserNid, UserId), UserError> {
        let user_id = self.parse_local_user(localpart)?;
        let account = match self.account_by_id(&user_id)? {
            Some(account) => account,
            None => {
                let new = NewAccount {
                    localpart,
                    password: None,
                    kind: AccountKind::User,
                    admin: AdminRights::Denied,
                    registration_token: None,
                };
                self.create_reserved_account(user_id.clone(), new).await?
            }
        };
        if account.kind != AccountKind::User || account.has_password || account.is_deactivated {
            return Err(UserError::Forbidden("the account for the server itself is somebody's: configure another one"));
        }
        self.set_profile_field(account.user, "displayname", display_name.map(Value::from)).await?;
        self.set_profile_field(account.user, "avatar_url", avatar_url.map(Value::from)).await?;
        Ok((account.user, user_id))
    }
}
