//! OpenID tokens: proof of identity for third parties, without access to the account.
//!
//! Spec: Client-Server API §"OpenID"; Server-Server API §"OpenID".

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use spec::ids::UserId;
use storage::{Batch, Keyspace, Profile, Read, stored};

use crate::{
    UserError, Users,
    tokens::{TokenHash, hash_token},
};

pub(crate) const OPENID_TOKENS: Keyspace<TokenHash, OpenIdRow> = Keyspace::new("openid_tokens", Profile::Points);

const LIFETIME_SECONDS: u64 = 3_600;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OpenIdRow {
    pub(crate) user: UserNid,
    pub(crate) expires_at_ms: u64,
}
stored!(OpenIdRow, 1);

/// A fresh OpenID token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenIdToken {
    /// To be passed to the third party.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// The server that the third party should ask.
    pub matrix_server_name: String,
    /// Life in seconds.
    pub expires_in: u64,
}

impl Users {
    /// Makes an OpenID token. Cancel-safe.
    pub async fn create_openid_token(&self, user: UserNid) -> Result<OpenIdToken, UserError> {
        let access_token = self.inner.random.token(32);
        let mut batch = Batch::new();
        let expires_at_ms = self.now_ms() + LIFETIME_SECONDS * 1_000;
        batch.put(&OPENID_TOKENS, &hash_token(&access_token), &OpenIdRow { user, expires_at_ms });
        self.store().commit(batch).await?;
        Ok(OpenIdToken {
            access_token,
            token_type: "Bearer",
            matrix_server_name: self.rooms().server_name().as_str().to_owned(),
            expires_in: LIFETIME_SECONDS,
        })
    }

    /// Whose OpenID token this is.
    ///
    /// # Errors
    /// `UnknownToken`.
    pub fn openid_user(&self, token: &str) -> Result<UserId, UserError> {
        let row = self
            .store()
            .get(&OPENID_TOKENS, &hash_token(token))?
            .filter(|row| self.now_ms() < row.expires_at_ms)
            .ok_or(UserError::UnknownToken { soft_logout: false })?;
        Ok(self.rooms().user_id(row.user)?)
    }
}

#[cfg(test)]
mod tests;
