//! Accounts made by scripts that know the shared secret, in the protocol that deployment tools speak.

use axum::extract::State;
use serde_json::json;
use users::{DeviceLogin, SecurityEventKind, SharedSecretRegistration, Users};

use crate::extract::{Address, Anybody};
use crate::json::{Answer, JsonBody, answer};
use crate::login::describe_session;

/// `GET /_synapse/admin/v1/register`.
pub(crate) async fn get_nonce(State(users): State<Users>) -> Answer {
    answer(&json!({"nonce": users.new_registration_nonce()?}))
}

/// `POST /_synapse/admin/v1/register`. Attempts are recorded, those in vain too.
pub(crate) async fn register(
    _: Anybody,
    Address(address): Address,
    State(users): State<Users>,
    JsonBody(body): JsonBody<SharedSecretRegistration>,
) -> Answer {
    let registered = users.register_with_shared_secret(&body).await;
    let account = registered.inspect_err(|_| {
        if let Ok(user_id) = users.parse_local_user(&body.username.to_ascii_lowercase()) {
            users.note_security(&user_id, address, SecurityEventKind::SecretRegistrationFailed);
        }
    })?;
    let registered = SecurityEventKind::RegisteredBySecret { is_admin: account.is_admin };
    users.note_security(&account.user_id, address, registered);
    let login = DeviceLogin { device_id: None, display_name: None, refreshable: false };
    answer(&describe_session(users.start_session(account.user, login).await?))
}
