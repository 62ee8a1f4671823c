//! User-interactive authentication of one request (Client-Server API §"User-Interactive Authentication API").

use users::{AuthData, UiaOutcome, UiaPurpose, Users};

use crate::error::ApiError;

/// Lets a request pass whose `auth` completes the authentication; gives the registration token that was shown.
/// Cancel-safe.
///
/// # Errors
/// The challenge, unless enough was proved.
pub(crate) async fn confirm(
    users: &Users,
    purpose: UiaPurpose,
    auth: Option<&AuthData>,
) -> Result<Option<String>, ApiError> {
    match users.authenticate_interactively(purpose, auth).await? {
        UiaOutcome::Complete { registration_token } => Ok(registration_token),
        UiaOutcome::Challenge(challenge) => Err(ApiError::Challenge(Box::new(challenge))),
    }
}
