//! Client-Server API §"Device management".

use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{AuthData, Device, SecurityEventKind, Users};

use crate::error::ApiError;
use crate::extract::{Address, Args, User};
use crate::json::{Answer, JsonBody, answer, answer_empty, json_response};
use crate::login::AuthBody;
use crate::uia::confirm_own;

/// The most devices that one request deletes.
const MAX_DELETED: usize = 1000;

fn describe_device(device: &Device) -> Value {
    let mut body = json!({"device_id": *device.device_id});
    if let Some(name) = &device.display_name {
        body["display_name"] = name.as_str().into();
    }
    if let Some(ip) = &device.last_seen_ip {
        body["last_seen_ip"] = ip.as_str().into();
    }
    if let Some(ms) = device.last_seen_ms {
        body["last_seen_ts"] = ms.into();
    }
    body
}

/// `GET /devices`.
pub(crate) async fn get_devices(user: User, State(users): State<Users>) -> Answer {
    let devices: Vec<Value> = users.devices(user.user)?.iter().map(describe_device).collect();
    answer(&json!({"devices": devices}))
}

/// `GET /devices/{deviceId}`.
pub(crate) async fn get_device(user: User, Args(device): Args<String>, State(users): State<Users>) -> Answer {
    let device = users.device(user.user, &device)?.ok_or_else(|| ApiError::not_found("no such device"))?;
    answer(&describe_device(&device))
}

#[derive(Deserialize)]
pub(crate) struct RenameBody {
    display_name: Option<String>,
}

/// `PUT /devices/{deviceId}`. Application services make devices by it.
pub(crate) async fn rename_device(
    user: User,
    Args(device): Args<String>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<RenameBody>,
) -> Answer {
    if user.appservice.is_some() {
        let is_new = users.ensure_device(user.user, &device, body.display_name.as_deref()).await?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        return Ok(json_response(status, Bytes::from_static(b"{}")));
    }
    match body.display_name {
        Some(name) => users.rename_device(user.user, &device, Some(&name)).await?,
        None if users.device(user.user, &device)?.is_some() => {}
        None => return Err(ApiError::not_found("no such device")),
    }
    answer_empty()
}

/// `DELETE /devices/{deviceId}`.
pub(crate) async fn delete_device(
    user: User,
    Args(device): Args<String>,
    State(users): State<Users>,
    Address(address): Address,
    JsonBody(body): JsonBody<AuthBody>,
) -> Answer {
    confirm_own(&users, &user, "devices", body.auth.as_ref()).await?;
    users.delete_device(user.user, &device).await?;
    users.note_security(&user.user_id, address, SecurityEventKind::SignedOut(vec![device]));
    answer_empty()
}

#[derive(Deserialize)]
pub(crate) struct DeleteBody {
    devices: Vec<String>,
    auth: Option<AuthData>,
}

/// `POST /delete_devices`.
pub(crate) async fn delete_devices(
    user: User,
    State(users): State<Users>,
    Address(address): Address,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Answer {
    if body.devices.len() > MAX_DELETED {
        return Err(ApiError::invalid_param("too many devices at once"));
    }
    confirm_own(&users, &user, "devices", body.auth.as_ref()).await?;
    for device in &body.devices {
        users.delete_device(user.user, device).await?;
    }
    users.note_security(&user.user_id, address, SecurityEventKind::SignedOut(body.devices));
    answer_empty()
}
