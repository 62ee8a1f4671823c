//! One's own account (Client-Server API §"Account registration and management").

use axum::extract::State;
use runtime::Tasks;
use serde::Deserialize;
use serde_json::json;
use users::{AuthData, SecurityEventKind, UiaPurpose, Users};

use crate::error::ApiError;
use crate::extract::{Address, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::uia::confirm;

/// `GET /account/whoami`.
pub(crate) async fn get_whoami(user: User) -> Answer {
    let mut body = json!({"user_id": user.user_id, "is_guest": user.is_guest});
    if user.has_device() {
        body["device_id"] = (&*user.device_id).into();
    }
    answer(&body)
}

/// `GET /account/3pid`: those that administrators wrote down.
pub(crate) async fn get_threepids(user: User, State(users): State<Users>) -> Answer {
    answer(&json!({"threepids": users.third_party_ids(user.user)?}))
}

#[derive(Deserialize)]
pub(crate) struct PasswordBody {
    auth: Option<AuthData>,
    new_password: Option<String>,
    #[serde(default = "yes")]
    logout_devices: bool,
}

fn yes() -> bool {
    true
}

/// `POST /account/password`.
pub(crate) async fn change_password(
    user: User,
    State(users): State<Users>,
    Address(address): Address,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Answer {
    if let Some(password) = &body.new_password {
        users.check_password_strength(password)?;
    }
    confirm(&users, UiaPurpose::Account(user.user, "account/password"), body.auth.as_ref()).await?;
    let password = body.new_password.as_deref().ok_or_else(|| ApiError::missing_param("new_password"))?;
    users.set_password(user.user, password).await?;
    users.note_security(&user.user_id, address, SecurityEventKind::PasswordChanged);
    if body.logout_devices {
        users.delete_all_devices(user.user, Some(&user.device_id)).await?;
    }
    answer_empty()
}

#[derive(Deserialize)]
pub(crate) struct DeactivateBody {
    auth: Option<AuthData>,
    #[serde(default)]
    erase: bool,
}

/// `POST /account/deactivate`. The rooms are left after the answer.
pub(crate) async fn deactivate(
    user: User,
    State(users): State<Users>,
    State(tasks): State<Tasks>,
    Address(address): Address,
    JsonBody(body): JsonBody<DeactivateBody>,
) -> Answer {
    confirm(&users, UiaPurpose::Account(user.user, "account/deactivate"), body.auth.as_ref()).await?;
    users.close_account(&tasks, user.user, body.erase).await?;
    users.note_security(&user.user_id, address, SecurityEventKind::Deactivated(body.erase));
    answer(&json!({"id_server_unbind_result": "no-support"}))
}
