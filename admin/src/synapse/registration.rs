//! Registration tokens, and whether a name is free.

use axum::extract::State;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use users::{RegistrationToken, UserError};

use super::users::action;
use crate::admin::Admin;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Query, Refusal, SynapseCaller, answer};
use crate::operation::Effect;
use crate::token::{find, is_valid};

/// The length of a token that the server chooses, and the longest one.
const DEFAULT_LENGTH: usize = 16;
const MAX_LENGTH: usize = 64;

fn describe(admin: &Admin, token: &RegistrationToken) -> Value {
    json!({
        "token": token.token,
        "uses_allowed": token.uses_allowed,
        "pending": admin.users().pending_registrations(&token.token),
        "completed": token.uses,
        "expiry_time": token.expires_at_ms,
    })
}

/// `GET /_synapse/admin/v1/registration_tokens`.
pub(super) async fn list(State(admin): State<Admin>, SynapseCaller(caller): SynapseCaller, query: Query) -> Answer {
    let valid = query.flag("valid")?;
    let now = admin.clock().now_ms();
    let work = async { Ok(admin.users().list_registration_tokens()?) };
    let tokens = admin.audited(&caller, action("token list", Effect::Reads, json!({"valid": valid})), work).await?;
    let wanted = tokens.iter().filter(|token| valid.is_none_or(|valid| is_valid(&admin, token, now) == valid));
    let tokens: Vec<Value> = wanted.map(|token| describe(&admin, token)).collect();
    answer(&json!({"registration_tokens": tokens}))
}

/// `GET /_synapse/admin/v1/registration_tokens/{token}`.
pub(super) async fn get_one(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(token): Args<String>,
) -> Answer {
    let work = async { find(&admin, &token) };
    let found = admin.audited(&caller, action("token show", Effect::Reads, json!({"token": token})), work).await?;
    answer(&describe(&admin, &found))
}

/// Tells `null` from nothing.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
pub(super) struct TokenBody {
    token: Option<String>,
    length: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    uses_allowed: Option<Option<u32>>,
    #[serde(default, deserialize_with = "present")]
    expiry_time: Option<Option<u64>>,
}

/// `POST /_synapse/admin/v1/registration_tokens/new`.
pub(super) async fn create(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    JsonBody(body): JsonBody<TokenBody>,
) -> Answer {
    let length = body.length.unwrap_or(DEFAULT_LENGTH);
    if !(1..=MAX_LENGTH).contains(&length) {
        return Err(Refusal::invalid_param(format!("length must be between 1 and {MAX_LENGTH}")));
    }
    let (uses, expires) = (body.uses_allowed.flatten(), body.expiry_time.flatten());
    if expires.is_some_and(|expires| expires <= admin.clock().now_ms()) {
        return Err(Refusal::invalid_param("expiry_time must not be in the past"));
    }
    let token = body.token.unwrap_or_else(|| admin.random().token(length));
    let arguments = json!({"uses_allowed": uses, "expiry_time": expires});
    let work = async { Ok(admin.users().create_registration_token(Some(token), uses, expires).await?) };
    let token = admin.audited(&caller, action("token create", Effect::Changes, arguments), work).await?;
    answer(&describe(&admin, &token))
}

/// `PUT /_synapse/admin/v1/registration_tokens/{token}`.
pub(super) async fn update(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(token): Args<String>,
    JsonBody(body): JsonBody<TokenBody>,
) -> Answer {
    let arguments = json!({"token": token, "uses_allowed": body.uses_allowed, "expiry_time": body.expiry_time});
    let work = async {
        find(&admin, &token)?;
        Ok(admin.users().update_registration_token(&token, body.uses_allowed, body.expiry_time).await?)
    };
    let changed = admin.audited(&caller, action("token update", Effect::Changes, arguments), work).await?;
    answer(&describe(&admin, &changed))
}

/// `DELETE /_synapse/admin/v1/registration_tokens/{token}`.
pub(super) async fn delete(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(token): Args<String>,
) -> Answer {
    let work = async {
        find(&admin, &token)?;
        Ok::<_, AdminError>(admin.users().delete_registration_token(&token).await?)
    };
    admin.audited(&caller, action("token delete", Effect::Destroys, json!({"token": token})), work).await?;
    answer(&json!({}))
}

/// `GET /_synapse/admin/v1/username_available`: also while registration is closed.
pub(super) async fn check_username(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    query: Query,
) -> Answer {
    let username = query.required("username")?;
    let work = async {
        admin.users().check_available(&username).map(drop).map_err(|error| match error {
            UserError::UserInUse | UserError::Exclusive(_) => {
                AdminError::coded(400, "M_USER_IN_USE", error.to_string())
            }
            UserError::InvalidUsername(_) => AdminError::coded(400, "M_INVALID_USERNAME", error.to_string()),
            error => error.into(),
        })
    };
    let read = action("user name-available", Effect::Reads, json!({"username": username}));
    admin.audited(&caller, read, work).await?;
    answer(&json!({"available": true}))
}
