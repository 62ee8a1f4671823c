//! Users of other servers: the implementation of [`users::RemoteUsers`].
//!
//! A server is believed about its own users only, and about those that it was asked for: anything else in its answer is
//! left out before anybody sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, value::RawValue};
use spec::ids::{ServerName, UserId};
use users::{ClaimedKeys, QueriedKeys, RemoteAnswer, RemoteUsers, ToDeviceMessages, UserError};

use crate::Federation;
use crate::client::{Ask, FederationClient, encode_path, encode_query};
use crate::error::RemoteError;

/// The least time that a server is given for keys. A client that is in a hurry stops waiting before, which is no failure
/// of the server: it would be left alone for it.
const MIN_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest answer about one user's profile, in bytes: what a profile may have, and a little.
const MAX_PROFILE: usize = 96 * 1024;
/// The largest list of one user's devices, in bytes.
const MAX_DEVICES: usize = 8 * 1024 * 1024;
/// The largest one-time key, in bytes.
const MAX_KEY: usize = 8 * 1024;
/// The most devices of one user that are passed on.
const MAX_USER_DEVICES: usize = 1_000;

impl RemoteUsers for Federation {
    fn query_keys<'a>(
        &'a self,
        server: &'a ServerName,
        users: BTreeMap<UserId, Vec<String>>,
        timeout: Duration,
    ) -> RemoteAnswer<'a, QueriedKeys> {
        Box::pin(query_keys(&self.client, server, users, timeout))
    }

    fn claim_keys<'a>(
        &'a self,
        server: &'a ServerName,
        wanted: BTreeMap<UserId, BTreeMap<String, String>>,
        timeout: Duration,
    ) -> RemoteAnswer<'a, ClaimedKeys> {
        Box::pin(claim_keys(&self.client, server, wanted, timeout))
    }

    fn profile<'a>(&'a self, user: &'a UserId, field: Option<&'a str>) -> RemoteAnswer<'a, Map<String, Value>> {
        Box::pin(query_profile(&self.client, user, field))
    }

    fn send_to_device<'a>(
        &'a self,
        sender: &'a UserId,
        kind: &'a str,
        message_id: &'a str,
        messages: ToDeviceMessages,
    ) -> RemoteAnswer<'a, ()> {
        Box::pin(self.sender.queue_to_device(sender, kind, message_id, messages))
    }

    fn user_devices<'a>(&'a self, user: &'a UserId) -> RemoteAnswer<'a, Box<RawValue>> {
        Box::pin(fetch_devices(&self.client, user))
    }
}

/// The server of a user.
fn server_of(user: &UserId) -> Result<ServerName, UserError> {
    ServerName::parse(user.server_name()).map_err(|_| UserError::NotFound("the user's server"))
}

/// What a failure is to the domain of users.
fn explain_failure(server: &ServerName, error: RemoteError) -> UserError {
    tracing::debug!(destination = server.as_str(), %error, "asking about users failed");
    match error {
        RemoteError::Refused { server, status, errcode, message, .. } => {
            UserError::RemoteRefused { server, status: status.as_u16(), errcode, message }
        }
        RemoteError::NotAllowed(_)
        | RemoteError::BackingOff { .. }
        | RemoteError::Unreachable { .. }
        | RemoteError::Timeout(_)
        | RemoteError::TooLarge(_)
        | RemoteError::Malformed { .. } => UserError::RemoteUnavailable(server.as_str().to_owned()),
    }
}

/// As [`explain_failure`], where 404 means that there is no such thing.
fn explain_absence(server: &ServerName, error: RemoteError, what: &'static str) -> UserError {
    match &error {
        RemoteError::Refused { status, .. } if *status == http::StatusCode::NOT_FOUND => UserError::NotFound(what),
        _ => explain_failure(server, error),
    }
}

async fn ask<T: DeserializeOwned>(client: &FederationClient, server: &ServerName, ask: Ask) -> Result<T, UserError> {
    client.ask_json(server, ask).await.map_err(|error| explain_failure(server, error))
}

/// `POST /_matrix/federation/v1/user/keys/query`.
async fn query_keys(
    client: &FederationClient,
    server: &ServerName,
    wanted: BTreeMap<UserId, Vec<String>>,
    timeout: Duration,
) -> Result<QueriedKeys, UserError> {
    #[derive(Serialize)]
    struct Body<'a> {
        device_keys: &'a BTreeMap<UserId, Vec<String>>,
    }
    let path = encode_path(&["_matrix", "federation", "v1", "user", "keys", "query"]);
    let question = Ask { timeout: timeout.max(MIN_TIMEOUT), ..Ask::post(path, &Body { device_keys: &wanted }) };
    let mut answer: QueriedKeys = ask(client, server, question).await?;
    keep_wanted_keys(&wanted, &mut answer);
    Ok(answer)
}

/// Leaves what was asked for, and what others can read.
fn keep_wanted_keys(wanted: &BTreeMap<UserId, Vec<String>>, answer: &mut QueriedKeys) {
    answer.user_signing_keys.clear();
    let is_usable = |value: &Value| value.is_object() && spec::json::is_shallow(value);
    for keys in [&mut answer.master_keys, &mut answer.self_signing_keys] {
        keys.retain(|user, key| wanted.contains_key(user) && is_usable(key));
    }
    answer.device_keys.retain(|user, devices| {
        let Some(ids) = wanted.get(user) else { return false };
        devices.retain(|id, keys| (ids.is_empty() || ids.contains(id)) && is_usable(keys));
        devices.len() <= MAX_USER_DEVICES
    });
}

/// `POST /_matrix/federation/v1/user/keys/claim`.
async fn claim_keys(
    client: &FederationClient,
    server: &ServerName,
    wanted: BTreeMap<UserId, BTreeMap<String, String>>,
    timeout: Duration,
) -> Result<ClaimedKeys, UserError> {
    #[derive(Serialize)]
    struct Body<'a> {
        one_time_keys: &'a BTreeMap<UserId, BTreeMap<String, String>>,
    }
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        one_time_keys: ClaimedKeys,
    }
    let path = encode_path(&["_matrix", "federation", "v1", "user", "keys", "claim"]);
    let question = Ask { timeout: timeout.max(MIN_TIMEOUT), ..Ask::post(path, &Body { one_time_keys: &wanted }) };
    let mut answer: Answer = ask(client, server, question).await?;
    keep_wanted_claims(&wanted, &mut answer.one_time_keys);
    Ok(answer.one_time_keys)
}

/// Leaves at most one key for each device, of the algorithm that was asked for.
fn keep_wanted_claims(wanted: &BTreeMap<UserId, BTreeMap<String, String>>, claimed: &mut ClaimedKeys) {
    claimed.retain(|user, devices| {
        let Some(wishes) = wanted.get(user) else { return false };
        devices.retain(|device, keys| {
            let Some(algorithm) = wishes.get(device) else { return false };
            let mut is_first = true;
            keys.retain(|name, key| {
                let fits = name.strip_prefix(algorithm.as_str()).is_some_and(|rest| rest.starts_with(':'))
                    && key.get().len() <= MAX_KEY
                    && spec::json::check_text(key.get()).is_ok();
                fits && std::mem::replace(&mut is_first, false)
            });
            !keys.is_empty()
        });
        !devices.is_empty()
    });
}

/// `GET /_matrix/federation/v1/query/profile`.
async fn query_profile(
    client: &FederationClient,
    user: &UserId,
    field: Option<&str>,
) -> Result<Map<String, Value>, UserError> {
    let server = server_of(user)?;
    let mut arguments = vec![("user_id", user.as_str())];
    arguments.extend(field.map(|field| ("field", field)));
    let mut path = encode_path(&["_matrix", "federation", "v1", "query", "profile"]);
    path.push_str(&encode_query(&arguments));
    let question = Ask { max_bytes: MAX_PROFILE, ..Ask::get(path) };
    let answer = client.ask_json(&server, question).await;
    let mut profile: Map<String, Value> = answer.map_err(|error| explain_absence(&server, error, "the profile"))?;
    profile.retain(|name, value| match name.as_str() {
        // Clients rely on these being texts; absent is what servers mean by null.
        "displayname" | "avatar_url" => value.is_string(),
        _ => spec::json::is_shallow(value),
    });
    Ok(profile)
}

/// `GET /_matrix/federation/v1/user/devices/{userId}`.
async fn fetch_devices(client: &FederationClient, user: &UserId) -> Result<Box<RawValue>, UserError> {
    let server = server_of(user)?;
    let path = encode_path(&["_matrix", "federation", "v1", "user", "devices", user.as_str()]);
    let question = Ask { max_bytes: MAX_DEVICES, ..Ask::get(path) };
    let answer = client.ask_json(&server, question).await;
    answer.map_err(|error| explain_absence(&server, error, "the user"))
}

#[cfg(test)]
mod tests;
