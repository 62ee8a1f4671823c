//! Moderation of accounts (Client-Server API §"Server Administration").

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use users::{Account, AccountFlags, Users};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer};

fn find_account(users: &Users, user_id: &UserId) -> Result<Account, ApiError> {
    if users.parse_local_user(user_id.as_str()).is_err() {
        return Err(ApiError::invalid_param("the user belongs to another server"));
    }
    let account = users.account_by_id(user_id)?.filter(|account| !account.is_deactivated);
    account.ok_or_else(|| ApiError::not_found("no such account on this server"))
}

/// An account that its administrator may lock or suspend: neither their own nor another administrator's.
fn find_moderated(users: &Users, caller: &User, user_id: &UserId) -> Result<Account, ApiError> {
    let account = find_account(users, user_id)?;
    if account.is_admin || account.user == caller.user {
        return Err(ApiError::forbidden("administrators cannot be locked or suspended"));
    }
    Ok(account)
}

/// `GET /admin/lock/{userId}`.
pub(crate) async fn get_lock(_: User, Args(user_id): Args<UserId>, State(users): State<Users>) -> Answer {
    answer(&json!({"locked": find_account(&users, &user_id)?.is_locked}))
}

#[derive(Deserialize)]
pub(crate) struct LockBody {
    locked: bool,
}

/// `PUT /admin/lock/{userId}`.
pub(crate) async fn set_lock(
    caller: User,
    Args(user_id): Args<UserId>,
    State(users): State<Users>,
    JsonBody(LockBody { locked }): JsonBody<LockBody>,
) -> Answer {
    let account = find_moderated(&users, &caller, &user_id)?;
    users.set_account_flags(account.user, AccountFlags { locked: Some(locked), ..AccountFlags::default() }).await?;
    answer(&json!({"locked": locked}))
}

/// `GET /admin/suspend/{userId}`.
pub(crate) async fn get_suspension(_: User, Args(user_id): Args<UserId>, State(users): State<Users>) -> Answer {
    answer(&json!({"suspended": find_account(&users, &user_id)?.is_suspended}))
}

#[derive(Deserialize)]
pub(crate) struct SuspendBody {
    suspended: bool,
}

/// `PUT /admin/suspend/{userId}`.
pub(crate) async fn set_suspension(
    caller: User,
    Args(user_id): Args<UserId>,
    State(users): State<Users>,
    JsonBody(SuspendBody { suspended }): JsonBody<SuspendBody>,
) -> Answer {
    let account = find_moderated(&users, &caller, &user_id)?;
    let flags = AccountFlags { suspended: Some(suspended), ..AccountFlags::default() };
    users.set_account_flags(account.user, flags).await?;
    answer(&json!({"suspended": suspended}))
}

/// `GET /admin/whois/{userId}`: for the user, and for administrators.
pub(crate) async fn get_whois(caller: User, Args(user_id): Args<UserId>, State(users): State<Users>) -> Answer {
    if caller.user_id != user_id && !caller.is_admin {
        return Err(ApiError::forbidden("only administrators may ask about others"));
    }
    let account = find_account(&users, &user_id)?;
    let mut devices = Map::new();
    for device in users.devices(account.user)? {
        let mut connection = Map::new();
        if let Some(ip) = device.last_seen_ip {
            connection.insert("ip".into(), ip.into());
        }
        if let Some(ms) = device.last_seen_ms {
            connection.insert("last_seen".into(), ms.into());
        }
        if let Some(user_agent) = device.last_seen_user_agent {
            connection.insert("user_agent".into(), user_agent.into());
        }
        let sessions: Value = json!({"sessions": [{"connections": [connection]}]});
        devices.insert(device.device_id.to_string(), sessions);
    }
    answer(&json!({"user_id": user_id, "devices": devices}))
}
