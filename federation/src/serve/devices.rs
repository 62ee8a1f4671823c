//! Server-Server API §Device Management, §End-to-End Encryption: what others may know of the devices of this server's
//! users, and their one-time keys.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use spec::ids::UserId;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::{Origin, SignedJson};
use crate::serve::answer::{Answer, answer};
use crate::serve::arguments::Args;

/// How many users one request may ask about.
const MAX_USERS: usize = 1000;
/// How many one-time keys one request may claim: each claim is a commit.
const MAX_CLAIMS: usize = 1000;

/// `GET /user/devices/{userId}`.
pub(crate) async fn get_devices(_: Origin, Args(user): Args<UserId>, State(federation): State<Federation>) -> Answer {
    let unknown = || ServeError::not_found("no such user on this server");
    if user.server_name() != federation.server_name.as_str() {
        return Err(unknown());
    }
    answer(&federation.users.user_devices(&user)?.ok_or_else(unknown)?)
}

#[derive(Deserialize)]
pub(crate) struct QueryBody {
    device_keys: BTreeMap<UserId, Vec<String>>,
}

/// `POST /user/keys/query`: what every server may see, never user-signing keys.
pub(crate) async fn query_keys(
    State(federation): State<Federation>,
    SignedJson { body, .. }: SignedJson<QueryBody>,
) -> Answer {
    let mut wanted = body.device_keys;
    keep_local(&federation, &mut wanted);
    if wanted.len() > MAX_USERS {
        return Err(ServeError::too_large(format!("at most {MAX_USERS} users may be asked about at once")));
    }
    let found = federation.users.query_keys(None, &wanted)?;
    answer(&json!({
        "device_keys": found.device_keys,
        "master_keys": found.master_keys,
        "self_signing_keys": found.self_signing_keys,
    }))
}

#[derive(Deserialize)]
pub(crate) struct ClaimBody {
    one_time_keys: BTreeMap<UserId, BTreeMap<String, String>>,
}

/// `POST /user/keys/claim`.
pub(crate) async fn claim_keys(
    State(federation): State<Federation>,
    SignedJson { body, .. }: SignedJson<ClaimBody>,
) -> Answer {
    let mut wanted = body.one_time_keys;
    keep_local(&federation, &mut wanted);
    if wanted.values().map(BTreeMap::len).sum::<usize>() > MAX_CLAIMS {
        return Err(ServeError::too_large(format!("at most {MAX_CLAIMS} keys may be claimed at once")));
    }
    answer(&json!({"one_time_keys": federation.users.claim_keys(&wanted).await?}))
}

/// Drops users of other servers: this one speaks for its own only.
fn keep_local<T>(federation: &Federation, wanted: &mut BTreeMap<UserId, T>) {
    let own = federation.server_name.as_str();
    wanted.retain(|user, _| user.server_name() == own);
}
