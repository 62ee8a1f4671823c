//! User-interactive authentication of one request (Client-Server API §"User-Interactive Authentication API").

use users::{AuthData, Session, UiaOutcome, UiaPurpose, Users};

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

/// Lets a request about the caller's own devices and keys pass: application services need prove nothing more
/// (Application Service API §"Device management", §"Cross-signing").
///
/// # Errors
/// The challenge, unless enough was proved.
pub(crate) async fn confirm_own(
    users: &Users,
    caller: &Session,
    endpoint: &'static str,
    auth: Option<&AuthData>,
) -> Result<(), ApiError> {
    if caller.appservice.is_none() {
        confirm(users, UiaPurpose::Account(caller.user, endpoint), auth).await?;
    }
    Ok(())
}
