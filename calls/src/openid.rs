//! Who it is that shows an OpenID token: asked of the server that gave it out (Server-Server API §OpenID).

use spec::ids::{ServerName, UserId};
use users::UserError;

use crate::calls::Calls;
use crate::error::CallError;

/// The longest token that is passed on to another server, in bytes.
const MAX_TOKEN: usize = 1024;

/// An OpenID token as a client passes it on.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenIdProof {
    /// The token.
    pub access_token: String,
    /// The server that gave it out.
    pub matrix_server_name: String,
}

impl std::fmt::Debug for OpenIdProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenIdProof").field("matrix_server_name", &self.matrix_server_name).finish_non_exhaustive()
    }
}

impl Calls {
    /// Whose token it is: of this server in process, of another by asking it. What another server says counts for its
    /// own users only. Cancel-safe.
    ///
    /// # Errors
    /// [`CallError::NotVerified`]; [`CallError::BadRequest`] for what cannot be a token; [`CallError::Off`].
    pub async fn verify_openid(&self, proof: &OpenIdProof) -> Result<UserId, CallError> {
        self.media()?;
        if proof.access_token.is_empty() || proof.access_token.len() > MAX_TOKEN {
            return Err(CallError::BadRequest("the OpenID token is missing or too long"));
        }
        let server = ServerName::parse(&proof.matrix_server_name)
            .map_err(|_| CallError::BadRequest("matrix_server_name is not the name of a server"))?;
        if server == *self.rooms.server_name() {
            return match self.users.openid_user(&proof.access_token) {
                Ok(user) => Ok(user),
                Err(UserError::UnknownToken { .. }) => {
                    Err(CallError::NotVerified("the OpenID token is unknown or expired"))
                }
                Err(error) => Err(error.into()),
            };
        }
        let user = self.remote.openid_user(&server, proof).await.map_err(|error| {
            tracing::debug!(%server, %error, "an OpenID token was not confirmed");
            CallError::NotVerified("the server of the OpenID token does not confirm it")
        })?;
        if user.server_name() != server.as_str() {
            return Err(CallError::NotVerified("the server of the OpenID token speaks for a user of another server"));
        }
        Ok(user)
    }
}
