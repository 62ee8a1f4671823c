//! Logging in and out (Client-Server API §"Login", §"Logout", §"Refreshing access tokens").

use axum::extract::State;
use rooms::UserNid;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use users::{AuthData, AuthIdentifier, DeviceLogin, NewSession, SecurityEventKind, UiaPurpose, Users};

use crate::error::ApiError;
use crate::extract::{Address, Anybody, CallingService, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::limits::{Caller, LimitClass};
use crate::uia::confirm;
use crate::{Edge, EdgeParts};

/// `GET /login`.
pub(crate) async fn get_login_types() -> Answer {
    answer(&json!({"flows": [
        {"type": "m.login.password"},
        {"type": "m.login.token", "get_login_token": true},
        {"type": APPSERVICE_LOGIN},
    ]}))
}

/// How application services log in and register.
pub(crate) const APPSERVICE_LOGIN: &str = "m.login.application_service";

#[derive(Deserialize)]
pub(crate) struct LoginBody {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<AuthIdentifier>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    device_id: Option<String>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

/// `POST /login`.
pub(crate) async fn log_in(
    _: Anybody,
    State(edge): State<Edge>,
    service: CallingService,
    Address(address): Address,
    JsonBody(body): JsonBody<LoginBody>,
) -> Answer {
    let EdgeParts { users, rooms, limits, config, .. } = &*edge;
    let user = match body.kind.as_str() {
        "m.login.password" => {
            let user_id = find_meant(users, name_of(&body)?)?;
            if let Some(user) = rooms.user_nid(&user_id)? {
                limits.check(LimitClass::Login, Caller::User(user))?;
            }
            let password = body.password.as_deref().ok_or_else(|| ApiError::missing_param("password"))?;
            let checked = users.check_password(&user_id, password).await;
            if checked.is_err() {
                users.note_security(&user_id, address, SecurityEventKind::LoginFailed);
            }
            checked?.user
        }
        "m.login.token" => {
            users.take_login_token(body.token.as_deref().ok_or_else(|| ApiError::missing_param("token"))?)?
        }
        APPSERVICE_LOGIN => users.login_for_appservice(&*service.required()?, name_of(&body)?).await?.user,
        _ => return Err(ApiError::bad_request("this login type is not supported")),
    };
    let login = DeviceLogin {
        device_id: body.device_id.as_deref(),
        display_name: body.initial_device_display_name.as_deref(),
        refreshable: body.refresh_token,
    };
    let session = users.start_session(user, login).await?;
    if body.kind != APPSERVICE_LOGIN {
        let kind = SecurityEventKind::LoggedIn(session.device_id.to_string());
        users.note_security(&session.user_id, address, kind);
    }
    let mut session = describe_session(session);
    if let Some(base_url) = &config.public_baseurl {
        session.insert("well_known".into(), json!({"m.homeserver": {"base_url": base_url}}));
    }
    answer(&session)
}

fn name_of(body: &LoginBody) -> Result<&str, ApiError> {
    match &body.identifier {
        Some(identifier) if identifier.kind == "m.id.user" => {
            identifier.user.as_deref().ok_or_else(|| ApiError::missing_param("identifier.user"))
        }
        Some(_) => Err(ApiError::bad_request("only the identifier type m.id.user is supported")),
        None => body.user.as_deref().ok_or_else(|| ApiError::missing_param("identifier")),
    }
}

/// The user whom somebody who logs in means. Names that people choose have small letters only, and people do not always
/// type them so.
///
/// # Errors
/// As for a wrong password.
fn find_meant(users: &Users, name: &str) -> Result<UserId, ApiError> {
    let named = users.parse_local_user(name).map_err(|_| wrong_password())?;
    if users.account_by_id(&named)?.is_some() {
        return Ok(named);
    }
    Ok(users.parse_local_user(&name.to_ascii_lowercase()).unwrap_or(named))
}

fn wrong_password() -> ApiError {
    ApiError::forbidden("invalid user name or password")
}

/// The body that answers a login or a registration.
pub(crate) fn describe_session(session: NewSession) -> Map<String, Value> {
    let NewSession { user_id, device_id, tokens } = session;
    let mut body = Map::new();
    body.insert("home_server".into(), user_id.server_name().into());
    body.insert("user_id".into(), user_id.as_str().into());
    body.insert("device_id".into(), (&*device_id).into());
    body.insert("access_token".into(), tokens.access_token.into());
    if let Some(refresh_token) = tokens.refresh_token {
        body.insert("refresh_token".into(), refresh_token.into());
    }
    if let Some(expires_in_ms) = tokens.expires_in_ms {
        body.insert("expires_in_ms".into(), expires_in_ms.into());
    }
    body
}

#[derive(Deserialize)]
pub(crate) struct AuthBody {
    pub(crate) auth: Option<AuthData>,
}

/// `POST /login/get_token`.
pub(crate) async fn create_login_token(
    user: User,
    State(users): State<Users>,
    JsonBody(body): JsonBody<AuthBody>,
) -> Answer {
    confirm(&users, UiaPurpose::Account(user.user, "login/get_token"), body.auth.as_ref()).await?;
    let (login_token, expires_in_ms) = users.create_login_token(user.user);
    answer(&json!({"login_token": login_token, "expires_in_ms": expires_in_ms}))
}

#[derive(Deserialize)]
pub(crate) struct RefreshBody {
    refresh_token: String,
}

/// `POST /refresh`.
pub(crate) async fn refresh(_: Anybody, State(users): State<Users>, JsonBody(body): JsonBody<RefreshBody>) -> Answer {
    let tokens = users.refresh(&body.refresh_token).await?;
    let mut body = Map::new();
    body.insert("access_token".into(), tokens.access_token.into());
    if let Some(refresh_token) = tokens.refresh_token {
        body.insert("refresh_token".into(), refresh_token.into());
    }
    if let Some(expires_in_ms) = tokens.expires_in_ms {
        body.insert("expires_in_ms".into(), expires_in_ms.into());
    }
    answer(&body)
}

/// `POST /logout`.
pub(crate) async fn log_out(user: User, State(users): State<Users>, Address(address): Address) -> Answer {
    users.delete_device(user.user, &user.device_id).await?;
    users.note_security(&user.user_id, address, SecurityEventKind::SignedOut(vec![user.device_id.to_string()]));
    answer_empty()
}

/// `POST /logout/all`.
pub(crate) async fn log_out_everywhere(user: User, State(users): State<Users>, Address(address): Address) -> Answer {
    users.delete_all_devices(user.user, None).await?;
    users.note_security(&user.user_id, address, SecurityEventKind::SignedOutEverywhere);
    answer_empty()
}

/// Refuses a request about another user than its caller.
///
/// # Errors
/// `M_FORBIDDEN`.
pub(crate) fn check_own(user: &User, subject: &UserId) -> Result<UserNid, ApiError> {
    if user.user_id == *subject { Ok(user.user) } else { Err(ApiError::forbidden("this is another user's")) }
}
