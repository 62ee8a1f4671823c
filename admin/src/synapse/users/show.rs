//! What is known of one account.

use axum::extract::State;
use rooms::Membership;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use users::{Account, AccountKind, ExternalId, Signal};

use super::{action, find_account, parse_user};
use crate::Caller;
use crate::admin::Admin;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Query, Refusal, SynapseCaller, answer};
use crate::operation::Effect;

/// The features that tools know as experimental. All of them are on for everybody here.
const FEATURES: [&str; 3] = ["msc3881", "msc3575", "msc4222"];

/// Performs and records a read.
async fn read<T>(
    admin: &Admin,
    caller: &Caller,
    name: &str,
    user: &str,
    work: impl FnOnce() -> Result<T, AdminError>,
) -> Result<T, Refusal> {
    Ok(admin.audited(caller, action(name, Effect::Reads, json!({"user": user})), async { work() }).await?)
}

/// An account in full.
pub(super) fn describe(admin: &Admin, account: &Account) -> Result<Value, AdminError> {
    let users = admin.users();
    let entry = users.account_summary(account.user)?.ok_or_else(|| AdminError::not_found("User not found"))?;
    let services = users.appservices();
    let service = services.iter().find(|service| service.owns_user_exclusively(&account.user_id));
    Ok(json!({
        "name": account.user_id,
        "displayname": entry.display_name,
        "threepids": users.third_party_ids(account.user)?,
        "external_ids": users.external_ids(account.user)?,
        "avatar_url": entry.avatar_url,
        "is_guest": account.kind == AccountKind::Guest,
        "admin": entry.account.is_admin,
        "deactivated": entry.account.is_deactivated,
        "erased": entry.is_erased,
        "shadow_banned": entry.is_shadow_banned,
        "locked": entry.account.is_locked,
        "suspended": entry.account.is_suspended,
        "approved": !entry.awaits_approval,
        "creation_ts": account.created_ms / 1000,
        "last_seen_ts": entry.last_seen_ms,
        "appservice_id": service.map(|service| service.id()),
        "consent_server_notice_sent": null,
        "consent_version": null,
        "consent_ts": null,
        "user_type": entry.user_type,
    }))
}

/// `GET /_synapse/admin/v2/users/{user_id}`.
pub(in crate::synapse) async fn get_user(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    answer(&read(&admin, &caller, "user show", &user, || describe(&admin, &account)).await?)
}

/// `GET /_synapse/admin/v1/whois/{user_id}`.
pub(in crate::synapse) async fn get_whois(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let devices = read(&admin, &caller, "user whois", &user, || Ok(admin.users().devices(account.user)?)).await?;
    let connections: Vec<Value> = devices
        .into_iter()
        .filter(|device| device.last_seen_ms.is_some())
        .map(|device| {
            json!({
                "ip": device.last_seen_ip,
                "last_seen": device.last_seen_ms,
                "user_agent": device.last_seen_user_agent,
            })
        })
        .collect();
    let devices = json!({"": {"sessions": [{"connections": connections}]}});
    answer(&json!({"user_id": account.user_id, "devices": devices}))
}

/// `GET /_synapse/admin/v1/users/{user_id}/joined_rooms`: also of users of other servers.
pub(in crate::synapse) async fn get_joined_rooms(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let memberships = memberships_of(&admin, &caller, "user joined-rooms", &user).await?;
    let joined: Vec<String> =
        memberships.into_iter().filter(|(_, is)| *is == Membership::Join).map(|(room, _)| room).collect();
    answer(&json!({"total": joined.len(), "joined_rooms": joined}))
}

/// `GET /_synapse/admin/v1/users/{user_id}/memberships`: also of users of other servers.
pub(in crate::synapse) async fn get_memberships(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let memberships = memberships_of(&admin, &caller, "user memberships", &user).await?;
    let memberships: Map<String, Value> =
        memberships.into_iter().map(|(room, membership)| (room, membership.as_str().into())).collect();
    answer(&json!({"memberships": memberships}))
}

async fn memberships_of(
    admin: &Admin,
    caller: &Caller,
    name: &str,
    user: &str,
) -> Result<Vec<(String, Membership)>, Refusal> {
    let user_id = parse_user(user)?;
    if user_id.server_name() == admin.rooms().server_name().as_str() {
        find_account(admin, user)?;
    }
    read(admin, caller, name, user, || {
        let Some(nid) = admin.rooms().user_nid(&user_id)? else { return Ok(Vec::new()) };
        let rooms = admin.rooms().user_rooms(nid)?;
        let named = rooms.iter().map(|(room, row)| Ok((admin.rooms().room_id(*room)?.to_string(), row.membership)));
        named.collect()
    })
    .await
}

/// `GET /_synapse/admin/v1/users/{user_id}/accountdata`.
pub(in crate::synapse) async fn get_account_data(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let work = || {
        let mut global = Map::new();
        for data in admin.users().all_account_data(account.user)? {
            global.insert(data.kind, serde_json::to_value(&data.content).map_err(AdminError::internal)?);
        }
        let mut rooms = Map::new();
        for room in admin.rooms().user_rooms(account.user)?.keys() {
            let mut contents = Map::new();
            for data in admin.users().all_room_account_data(account.user, *room)? {
                contents.insert(data.kind, serde_json::to_value(&data.content).map_err(AdminError::internal)?);
            }
            if !contents.is_empty() {
                rooms.insert(admin.rooms().room_id(*room)?.to_string(), Value::Object(contents));
            }
        }
        Ok(json!({"account_data": {"global": global, "rooms": rooms}}))
    };
    answer(&read(&admin, &caller, "user account-data", &user, work).await?)
}

/// `GET /_synapse/admin/v1/users/{user_id}/pushers`.
pub(in crate::synapse) async fn get_pushers(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    let account = find_account(&admin, &user)?;
    let pushers = read(&admin, &caller, "user pushers", &user, || Ok(admin.users().pushers(account.user)?)).await?;
    let pushers: Vec<Value> = pushers
        .into_iter()
        .map(|kept| {
            json!({
                "app_display_name": kept.pusher.app_display_name,
                "app_id": kept.pusher.app_id,
                "data": kept.pusher.data,
                "device_display_name": kept.pusher.device_display_name,
                "kind": kept.pusher.kind,
                "lang": kept.pusher.lang,
                "profile_tag": kept.pusher.profile_tag.unwrap_or_default(),
                "pushkey": kept.pusher.pushkey,
            })
        })
        .collect();
    answer(&json!({"total": pushers.len(), "pushers": pushers}))
}

/// `GET /_synapse/admin/v1/users/{user_id}/sent_invite_count`.
pub(in crate::synapse) async fn get_invite_count(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    query: Query,
) -> Answer {
    let count = count(&admin, &caller, &user, &query, Signal::Invitations).await?;
    answer(&json!({"invite_count": count}))
}

/// `GET /_synapse/admin/v1/users/{user_id}/cumulative_joined_room_count`.
pub(in crate::synapse) async fn get_joined_count(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    query: Query,
) -> Answer {
    let count = count(&admin, &caller, &user, &query, Signal::Joins).await?;
    answer(&json!({"cumulative_joined_room_count": count}))
}

async fn count(admin: &Admin, caller: &Caller, user: &str, query: &Query, signal: Signal) -> Result<u64, Refusal> {
    let account = find_account(admin, user)?;
    let since = match signal {
        Signal::Invitations => query.required("from_ts")?.parse::<u64>(),
        Signal::Joins => query.text("from_ts")?.map_or(Ok(0), |text| text.parse::<u64>()),
    };
    let since = since.map_err(|_| Refusal::invalid_param("from_ts is malformed"))?;
    read(admin, caller, "user signals", user, || Ok(admin.users().signals_since(account.user, signal, since)?)).await
}

/// `GET /_synapse/admin/v1/auth_providers/{provider}/users/{external_id}`.
pub(in crate::synapse) async fn find_by_external_id(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((auth_provider, external_id)): Args<(String, String)>,
) -> Answer {
    let id = ExternalId { auth_provider, external_id };
    let name = format!("{} {}", id.auth_provider, id.external_id);
    let found = read(&admin, &caller, "user find", &name, || {
        let user = admin.users().find_by_external_id(&id)?;
        Ok(user.map(|user| admin.rooms().user_id(user)).transpose()?)
    });
    let found = found.await?.ok_or_else(|| Refusal::not_found("User not found"))?;
    answer(&json!({"user_id": found}))
}

/// `GET /_synapse/admin/v1/threepid/{medium}/users/{address}`.
pub(in crate::synapse) async fn find_by_address(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((medium, address)): Args<(String, String)>,
) -> Answer {
    let found = read(&admin, &caller, "user find", &medium, || {
        let user = admin.users().find_by_third_party_id(&medium, &address)?;
        Ok(user.map(|user| admin.rooms().user_id(user)).transpose()?)
    });
    let found = found.await?.ok_or_else(|| Refusal::not_found("User not found"))?;
    answer(&json!({"user_id": found}))
}

/// `GET /_synapse/admin/v1/experimental_features/{user_id}`.
pub(in crate::synapse) async fn get_experimental_features(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
) -> Answer {
    find_account(&admin, &user)?;
    let features: Map<String, Value> = FEATURES.iter().map(|name| ((*name).to_owned(), true.into())).collect();
    let features = read(&admin, &caller, "user features", &user, || Ok(features)).await?;
    answer(&json!({"features": features}))
}

#[derive(Deserialize)]
pub(in crate::synapse) struct FeaturesBody {
    features: Map<String, Value>,
}

/// `PUT /_synapse/admin/v1/experimental_features/{user_id}`: what is asked for is already so, or is refused. Nothing is
/// kept for each user: the features that tools know by these names are on for everybody.
pub(in crate::synapse) async fn set_experimental_features(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<FeaturesBody>,
) -> Answer {
    find_account(&admin, &user)?;
    read(&admin, &caller, "user set-features", &user, || {
        for (name, wanted) in &body.features {
            if !FEATURES.contains(&name.as_str()) {
                let message = format!("{name:?} is not recognised as a valid experimental feature.");
                return Err(AdminError::coded(400, "M_UNKNOWN", message));
            }
            if *wanted != Value::Bool(true) {
                return Err(AdminError::invalid(format!("{name} is on for everybody on this server")));
            }
        }
        Ok(())
    })
    .await?;
    answer(&json!({}))
}
