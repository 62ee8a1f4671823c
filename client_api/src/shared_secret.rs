//! Accounts made by scripts that know the shared secret, in the protocol that deployment tools speak.

use axum::extract::State;
use serde_json::json;
use users::{DeviceLogin, SharedSecretRegistration, Users};

use crate::extract::Anybody;
use crate::json::{Answer, JsonBody, answer};
use crate::login::describe_session;

/// `GET /_synapse/admin/v1/register`.
pub(crate) async fn get_nonce(State(users): State<Users>) -> Answer {
    answer(&json!({"nonce": users.new_registration_nonce()?}))
}

/// `POST /_synapse/admin/v1/register`.
pub(crate) async fn register(
    _: Anybody,
    State(users): State<Users>,
    JsonBody(body): JsonBody<SharedSecretRegistration>,
) -> Answer {
    let account = users.register_with_shared_secret(&body).await?;
    let login = DeviceLogin { device_id: None, display_name: None, refreshable: false };
    answer(&describe_session(users.start_session(account.user, login).await?))
}
