//! Client-Server API §"End-to-End Encryption": device keys and cross-signing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::sync::SyncToken;
use axum::extract::State;
use rooms::Rooms;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{ServerName, UserId};
use users::{AppServiceQueries, AuthData, CrossSigningUpload, KeyUpload, RemoteUsers, SignatureUpload, Users};

use crate::extract::User;
use crate::json::{Answer, JsonBody, LARGE_BODY, answer};
use crate::query::Query;
use crate::uia::confirm_own;

const KEYS_BODY: usize = 2 * 1024 * 1024;

/// `POST /keys/upload`.
pub(crate) async fn upload_keys(
    user: User,
    State(users): State<Users>,
    JsonBody(body): JsonBody<KeyUpload, KEYS_BODY>,
) -> Answer {
    user.check_has_device()?;
    let counts = users.upload_keys(&user, &body).await?;
    answer(&json!({"one_time_key_counts": counts.one_time_keys}))
}

/// How long other servers are waited for unless the client says otherwise, and the longest it may say, in
/// milliseconds.
const DEFAULT_TIMEOUT_MS: u64 = 10_000;
const MAX_TIMEOUT_MS: u64 = 60_000;

fn timeout_of(wanted_ms: Option<u64>) -> Duration {
    Duration::from_millis(wanted_ms.unwrap_or(DEFAULT_TIMEOUT_MS).min(MAX_TIMEOUT_MS))
}

/// `failures` of an answer: the servers that did not answer.
fn describe_failures(servers: BTreeSet<ServerName>) -> BTreeMap<ServerName, Map<String, Value>> {
    servers.into_iter().map(|server| (server, Map::new())).collect()
}

#[derive(Deserialize)]
pub(crate) struct QueryBody {
    device_keys: BTreeMap<UserId, Vec<String>>,
    timeout: Option<u64>,
}

/// `POST /keys/query`.
pub(crate) async fn query_keys(
    user: User,
    State(users): State<Users>,
    State(remote): State<Arc<dyn RemoteUsers>>,
    State(services): State<Arc<dyn AppServiceQueries>>,
    JsonBody(body): JsonBody<QueryBody, KEYS_BODY>,
) -> Answer {
    let timeout = timeout_of(body.timeout);
    let wanted = body.device_keys.clone();
    let (mut found, failures) = users.query_keys_everywhere(&*remote, user.user, body.device_keys, timeout).await?;
    users.query_from_appservices(&*services, wanted, &mut found).await;
    answer(&json!({
        "device_keys": found.device_keys,
        "master_keys": found.master_keys,
        "self_signing_keys": found.self_signing_keys,
        "user_signing_keys": found.user_signing_keys,
        "failures": describe_failures(failures),
    }))
}

#[derive(Deserialize)]
pub(crate) struct ClaimBody {
    one_time_keys: BTreeMap<UserId, BTreeMap<String, String>>,
    timeout: Option<u64>,
}

/// `POST /keys/claim`.
pub(crate) async fn claim_keys(
    _: User,
    State(users): State<Users>,
    State(remote): State<Arc<dyn RemoteUsers>>,
    State(services): State<Arc<dyn AppServiceQueries>>,
    JsonBody(body): JsonBody<ClaimBody, KEYS_BODY>,
) -> Answer {
    let timeout = timeout_of(body.timeout);
    let wanted = body.one_time_keys.clone();
    let (mut claimed, failures) = users.claim_keys_everywhere(&*remote, body.one_time_keys, timeout).await?;
    users.claim_from_appservices(&*services, &wanted, &mut claimed).await;
    answer(&json!({"one_time_keys": claimed, "failures": describe_failures(failures)}))
}

/// `GET /keys/changes`.
pub(crate) async fn get_changes(
    user: User,
    query: Query,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
) -> Answer {
    let from = SyncToken::parse(&query.required("from")?)?;
    let to = SyncToken::parse(&query.required("to")?)?;
    let mut changed = Vec::new();
    for other in users.users_with_changed_devices(user.user, from.pos, to.pos)? {
        if other == user.user || rooms.shares_room(user.user, other)? {
            changed.push(rooms.user_id(other)?);
        }
    }
    let (joined, left) = rooms.encounters_since(user.user, from.pos, to.pos)?;
    for other in joined {
        let other = rooms.user_id(other)?;
        if !changed.contains(&other) {
            changed.push(other);
        }
    }
    let left = left.into_iter().map(|other| rooms.user_id(other)).collect::<Result<Vec<_>, _>>()?;
    answer(&json!({"changed": changed, "left": left}))
}

#[derive(Deserialize)]
pub(crate) struct CrossSigningBody {
    auth: Option<AuthData>,
    #[serde(flatten)]
    upload: CrossSigningUpload,
}

/// `POST /keys/device_signing/upload`.
pub(crate) async fn upload_cross_signing(
    user: User,
    State(users): State<Users>,
    JsonBody(body): JsonBody<CrossSigningBody>,
) -> Answer {
    if users.needs_auth_for_cross_signing(user.user, &body.upload)? {
        confirm_own(&users, &user, "keys/device_signing", body.auth.as_ref()).await?;
    }
    users.upload_cross_signing(user.user, &body.upload).await?;
    answer(&json!({}))
}

/// `POST /keys/signatures/upload`.
pub(crate) async fn upload_signatures(
    user: User,
    State(users): State<Users>,
    JsonBody(body): JsonBody<SignatureUpload, LARGE_BODY>,
) -> Answer {
    answer(&json!({"failures": users.upload_signatures(user.user, &body).await?}))
}
