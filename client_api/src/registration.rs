//! Making accounts (Client-Server API §"Account registration and management").

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use users::{
    Account, AccountKind, AdminRights, AppService, AuthData, DeviceLogin, NewAccount, UiaPurpose, UserError, Users,
};

use crate::error::ApiError;
use crate::extract::{Anybody, CallingService};
use crate::json::{Answer, JsonBody, answer};
use crate::login::{APPSERVICE_LOGIN, describe_session};
use crate::query::Query;
use crate::uia::confirm;

#[derive(Deserialize)]
pub(crate) struct RegisterBody {
    auth: Option<AuthData>,
    #[serde(rename = "type")]
    kind: Option<String>,
    username: Option<String>,
    password: Option<String>,
    device_id: Option<String>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    inhibit_login: bool,
    #[serde(default)]
    refresh_token: bool,
}

/// `POST /register`.
pub(crate) async fn register(
    _: Anybody,
    query: Query,
    State(users): State<Users>,
    service: CallingService,
    JsonBody(body): JsonBody<RegisterBody>,
) -> Answer {
    match query.text("kind")?.as_deref() {
        None | Some("user") => {}
        Some("guest") => return register_guest(&users, &body).await,
        Some(_) => return Err(ApiError::invalid_param("kind is user or guest")),
    }
    if body.kind.as_deref() == Some(APPSERVICE_LOGIN) {
        let service = service.required()?;
        return register_for_service(&users, &service, &body).await;
    }
    let flows = users.auth_flows(UiaPurpose::Register);
    if let Err(UserError::RegistrationClosed) = flows {
        return Err(UserError::RegistrationClosed.into());
    }
    // What is wrong with the request is said before the user proves anything, and before the token is used up.
    let username = body.username.as_deref().map(str::to_ascii_lowercase);
    if let Some(username) = &username {
        users.check_available(username)?;
    }
    if let Some(password) = &body.password {
        users.check_password_strength(password)?;
    }
    let registration_token = confirm(&users, UiaPurpose::Register, body.auth.as_ref()).await?;
    let password = body.password.as_deref().ok_or_else(|| ApiError::missing_param("password"))?;
    let localpart = username.unwrap_or_else(|| users.random_localpart());
    let account = users
        .register_account(NewAccount {
            localpart: &localpart,
            password: Some(password),
            kind: AccountKind::User,
            admin: AdminRights::IfFirst,
            registration_token: registration_token.as_deref(),
        })
        .await?;
    finish(&users, &account, &body).await
}

/// An account for an application service (Application Service API §"Server admin style permissions").
async fn register_for_service(users: &Users, service: &AppService, body: &RegisterBody) -> Answer {
    let name = body.username.as_deref().ok_or_else(|| ApiError::missing_param("username"))?;
    let account = users.register_for_appservice(service, name).await?;
    finish(users, &account, body).await
}

/// Logs in on the new account, if that is wanted.
async fn finish(users: &Users, account: &Account, body: &RegisterBody) -> Answer {
    if body.inhibit_login {
        let server = account.user_id.server_name();
        return answer(&json!({"user_id": account.user_id, "home_server": server}));
    }
    let login = DeviceLogin {
        device_id: body.device_id.as_deref(),
        display_name: body.initial_device_display_name.as_deref(),
        refreshable: body.refresh_token,
    };
    answer(&describe_session(users.start_session(account.user, login).await?))
}

async fn register_guest(users: &Users, body: &RegisterBody) -> Answer {
    let account = users.create_guest().await?;
    let display_name = body.initial_device_display_name.as_deref();
    let login = DeviceLogin { device_id: None, display_name, refreshable: body.refresh_token };
    answer(&describe_session(users.start_session(account.user, login).await?))
}

/// `GET /register/available`.
pub(crate) async fn check_available(_: Anybody, query: Query, State(users): State<Users>) -> Answer {
    users.check_available(&query.required("username")?.to_ascii_lowercase())?;
    answer(&json!({"available": true}))
}

/// `GET /register/m.login.registration_token/validity`.
pub(crate) async fn check_token(_: Anybody, query: Query, State(users): State<Users>) -> Answer {
    let valid = users.is_registration_token_valid(&query.required("token")?)?;
    answer(&json!({"valid": valid}))
}
