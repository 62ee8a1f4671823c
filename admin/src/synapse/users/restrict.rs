//! What administrators decide about accounts, one thing a route.

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use users::{RateLimitOverride, Role};

use super::{action, argument_of, find_account};
use crate::Caller;
use crate::admin::Admin;
use crate::arguments::Secret;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Refusal, SynapseCaller, answer};
use crate::operation::Effect;
use crate::user;

/// How long cross-signing keys may be replaced without a password, in milliseconds.
const REPLACEMENT_MS: u64 = 10 * 60_000;

#[derive(Deserialize)]
pub(in crate::synapse) struct DeactivateBody {
    #[serde(default)]
    erase: bool,
}

/// `POST /_synapse/admin/v1/deactivate/{user_id}`.
pub(in crate::synapse) async fn deactivate(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<DeactivateBody>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let operation = user::Deactivate { user: argument_of(&account)?, erase: body.erase };
    admin.perform_operation(&caller, operation).await?;
    answer(&json!({"id_server_unbind_result": "success"}))
}

#[derive(Deserialize)]
pub(in crate::synapse) struct PasswordBody {
    new_password: String,
    #[serde(default = "yes")]
    logout_devices: bool,
}

fn yes() -> bool {
    true
}

/// `POST /_synapse/admin/v1/reset_password/{user_id}`.
pub(in crate::synapse) async fn reset_password(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let operation = user::ResetPassword {
        user: argument_of(&account)?,
        password: Some(Secret::new(body.new_password)),
        keep_devices: !body.logout_devices,
    };
    admin.perform_operation(&caller, operation).await?;
    answer(&json!({}))
}

#[derive(Deserialize)]
pub(in crate::synapse) struct SuspendBody {
    suspend: bool,
}

/// `PUT /_synapse/admin/v1/suspend/{user_id}`.
pub(in crate::synapse) async fn suspend(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<SuspendBody>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let user = argument_of(&account)?;
    match body.suspend {
        true => admin.perform_operation(&caller, user::Suspend { user }).await?,
        false => admin.perform_operation(&caller, user::Unsuspend { user }).await?,
    };
    answer(&serde_json::Map::from_iter([(format!("user_{}_suspended", account.user_id), body.suspend.into())]))
}

/// `POST /_synapse/admin/v1/users/{user_id}/shadow_ban`.
pub(in crate::synapse) async fn shadow_ban(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    set_shadow_ban(&admin, &caller, &user, false).await
}

/// `DELETE /_synapse/admin/v1/users/{user_id}/shadow_ban`.
pub(in crate::synapse) async fn lift_shadow_ban(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    set_shadow_ban(&admin, &caller, &user, true).await
}

async fn set_shadow_ban(admin: &Admin, caller: &Caller, user: &str, lift: bool) -> Answer {
    let account = find_account(admin, user)?;
    admin.perform_operation(caller, user::ShadowBan { user: argument_of(&account)?, lift }).await?;
    answer(&json!({}))
}

/// `GET /_synapse/admin/v1/users/{user_id}/admin`.
pub(in crate::synapse) async fn get_admin(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let read = action("user is-admin", Effect::Reads, json!({"user": user}));
    let is_admin = admin.audited(&caller, read, async { Ok(account.is_admin) }).await?;
    answer(&json!({"admin": is_admin}))
}

#[derive(Deserialize)]
pub(in crate::synapse) struct AdminBody {
    admin: bool,
}

/// `PUT /_synapse/admin/v1/users/{user_id}/admin`.
pub(in crate::synapse) async fn set_admin(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<AdminBody>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let arguments = json!({"user": user, "admin": body.admin});
    let work = async { set_admin_flag(&admin, &caller, &account, body.admin).await };
    admin.audited(&caller, action("user role", Effect::Changes, arguments), work).await?;
    answer(&json!({}))
}

/// Makes an account an administrator, or takes that away; other roles stay.
pub(super) async fn set_admin_flag(
    admin: &Admin,
    caller: &Caller,
    account: &users::Account,
    is_admin: bool,
) -> Result<(), AdminError> {
    match (account.is_admin, is_admin) {
        (false, true) => user::set_role(admin, caller, account, Role::Administrator).await,
        (true, false) => user::set_role(admin, caller, account, Role::Member).await,
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
pub(in crate::synapse) struct LoginBody {
    valid_until_ms: Option<u64>,
}

/// `POST /_synapse/admin/v1/users/{user_id}/login`.
pub(in crate::synapse) async fn log_in(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<LoginBody>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    if caller.user().is_some_and(|(nid, _)| nid == account.user) {
        return Err(Refusal::invalid_param("Cannot use admin API to login as self"));
    }
    let arguments = json!({"user": user, "valid_until_ms": body.valid_until_ms});
    let work = async {
        user::check_may_change(&admin, &caller, &account)?;
        let name = format!("Administration ({})", caller.who);
        Ok(admin.users().start_acting(account.user, &name, body.valid_until_ms).await?)
    };
    let session = admin.audited(&caller, action("user login-as", Effect::Changes, arguments), work).await?;
    answer(&json!({"access_token": session.tokens.access_token}))
}

/// `GET /_synapse/admin/v1/users/{user_id}/override_ratelimit`.
pub(in crate::synapse) async fn get_rate_limit(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let read = action("user rate-limit", Effect::Reads, json!({"user": user}));
    let facts = admin.audited(&caller, read, async { Ok(admin.users().facts(account.user)?) }).await?;
    answer(&facts.rate_limit.map_or(json!({}), describe_limit))
}

#[derive(Deserialize)]
pub(in crate::synapse) struct LimitBody {
    #[serde(default)]
    messages_per_second: u32,
    #[serde(default)]
    burst_count: u32,
}

/// `POST /_synapse/admin/v1/users/{user_id}/override_ratelimit`.
pub(in crate::synapse) async fn set_rate_limit(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<LimitBody>,
) -> Answer {
    let limit = RateLimitOverride { per_second: body.messages_per_second, burst: body.burst_count };
    change_rate_limit(&admin, &caller, &user, Some(limit)).await?;
    answer(&describe_limit(limit))
}

/// `DELETE /_synapse/admin/v1/users/{user_id}/override_ratelimit`.
pub(in crate::synapse) async fn delete_rate_limit(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    change_rate_limit(&admin, &caller, &user, None).await?;
    answer(&json!({}))
}

fn describe_limit(limit: RateLimitOverride) -> serde_json::Value {
    json!({"messages_per_second": limit.per_second, "burst_count": limit.burst})
}

async fn change_rate_limit(
    admin: &Admin,
    caller: &Caller,
    user: &str,
    limit: Option<RateLimitOverride>,
) -> Result<(), Refusal> {
    let account = find_account(admin, user)?;
    let arguments = json!({"user": user, "limit": limit.map(describe_limit)});
    let work = async {
        admin.users().change_facts(account.user, |facts| facts.rate_limit = limit).await?;
        Ok(())
    };
    Ok(admin.audited(caller, action("user rate-limit", Effect::Changes, arguments), work).await?)
}

#[derive(Deserialize)]
pub(in crate::synapse) struct ValidityBody {
    user_id: String,
    expiration_ts: Option<u64>,
}

/// `POST /_synapse/admin/v1/account_validity/validity`.
pub(in crate::synapse) async fn renew(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    JsonBody(body): JsonBody<ValidityBody>,
) -> Answer {
    let account = find_account(&admin, &body.user_id)?;
    let arguments = json!({"user": body.user_id, "expiration_ts": body.expiration_ts});
    let work = async {
        let expires = body.expiration_ts.or_else(|| admin.users().next_expiry_ms());
        Ok(admin.users().change_facts(account.user, |facts| facts.expires_at_ms = expires).await?)
    };
    let facts = admin.audited(&caller, action("user validity", Effect::Changes, arguments), work).await?;
    answer(&json!({"expiration_ts": facts.expires_at_ms}))
}

/// `POST /_synapse/admin/v1/users/{user_id}/_allow_cross_signing_replacement_without_uia`.
pub(in crate::synapse) async fn allow_cross_signing_replacement(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let work = async {
        if !admin.users().has_cross_signing(account.user)? {
            return Err(AdminError::not_found("User has no master cross-signing key"));
        }
        let until = admin.clock().now_ms().saturating_add(REPLACEMENT_MS);
        admin.users().change_facts(account.user, |facts| facts.cross_signing_until_ms = Some(until)).await?;
        Ok(until)
    };
    let changes = action("user allow-cross-signing-reset", Effect::Changes, json!({"user": user}));
    let until = admin.audited(&caller, changes, work).await?;
    answer(&json!({"updatable_without_uia_before_ms": until}))
}
