//! Devices of accounts.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{Account, Device, DeviceLogin};

use super::users::{action, argument_of, find_account};
use crate::admin::Admin;
use crate::device;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Refusal, SynapseCaller, answer};
use crate::operation::Effect;
use crate::user::check_may_change;

/// The most devices of one request.
const MAX_DEVICES: usize = 1_000;

fn describe(account: &Account, device: &Device) -> Value {
    json!({
        "device_id": &*device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": device.last_seen_ip,
        "last_seen_ts": device.last_seen_ms,
        "last_seen_user_agent": device.last_seen_user_agent,
        "user_id": account.user_id,
    })
}

/// `GET /_synapse/admin/v2/users/{user_id}/devices`.
pub(super) async fn list(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let work = async { Ok(admin.users().devices(account.user)?) };
    let devices = admin.audited(&caller, action("device list", Effect::Reads, json!({"user": user})), work).await?;
    let devices: Vec<Value> = devices.iter().map(|device| describe(&account, device)).collect();
    answer(&json!({"total": devices.len(), "devices": devices}))
}

#[derive(Deserialize)]
pub(super) struct NewDeviceBody {
    device_id: String,
}

/// `POST /_synapse/admin/v2/users/{user_id}/devices`: a device without anybody logged in on it.
pub(super) async fn create(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<NewDeviceBody>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let arguments = json!({"user": user, "device": body.device_id});
    let work = async {
        check_may_change(&admin, &caller, &account)?;
        if admin.users().device(account.user, &body.device_id)?.is_none() {
            let login = DeviceLogin { device_id: Some(&body.device_id), ..DeviceLogin::default() };
            // Nobody is told the token, so nobody has it.
            admin.users().start_session(account.user, login).await?;
        }
        Ok(())
    };
    admin.audited(&caller, action("device create", Effect::Changes, arguments), work).await?;
    let mut response = answer(&json!({}))?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// `GET /_synapse/admin/v2/users/{user_id}/devices/{device_id}`.
pub(super) async fn get_one(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((user, device)): Args<(String, String)>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let arguments = json!({"user": user, "device": device});
    let work = async { device::find(&admin, &account, &device) };
    let found = admin.audited(&caller, action("device show", Effect::Reads, arguments), work).await?;
    answer(&describe(&account, &found))
}

#[derive(Deserialize)]
pub(super) struct RenameBody {
    display_name: Option<String>,
}

/// `PUT /_synapse/admin/v2/users/{user_id}/devices/{device_id}`.
pub(super) async fn rename(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((user, device)): Args<(String, String)>,
    JsonBody(body): JsonBody<RenameBody>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    device::find(&admin, &account, &device)?;
    if let Some(name) = body.display_name {
        admin.perform_operation(&caller, device::Rename { user: argument_of(&account)?, device, name }).await?;
    }
    answer(&json!({}))
}

/// `DELETE /_synapse/admin/v2/users/{user_id}/devices/{device_id}`: also of one that is not there.
pub(super) async fn delete_one(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((user, device)): Args<(String, String)>,
) -> Answer {
    delete(&admin, &caller, &user, vec![device]).await
}

#[derive(Deserialize)]
pub(super) struct DeleteBody {
    devices: Vec<String>,
}

/// `POST /_synapse/admin/v2/users/{user_id}/delete_devices`: those that are not there are passed over.
pub(super) async fn delete_many(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Answer {
    if body.devices.len() > MAX_DEVICES {
        return Err(Refusal::invalid_param(format!("at most {MAX_DEVICES} devices at once")));
    }
    delete(&admin, &caller, &user, body.devices).await
}

async fn delete(admin: &Admin, caller: &crate::Caller, user: &str, devices: Vec<String>) -> Answer {
    let account = find_account(admin, user)?;
    let arguments = json!({"user": user, "devices": devices});
    let work = async {
        check_may_change(admin, caller, &account)?;
        for device in &devices {
            admin.users().delete_device(account.user, device).await?;
        }
        Ok::<_, AdminError>(())
    };
    admin.audited(caller, action("device delete", Effect::Destroys, arguments), work).await?;
    answer(&json!({}))
}
