//! Asking services (Application Service API §"Querying", §"Third-party networks", §"Pinging"; MSC3983, MSC3984).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spec::ids::{RoomAlias, UserId};
use users::{
    AppService, AppServiceAnswer, AppServiceFailure, AppServiceQueries, ClaimedKeys, QueriedKeys, ThirdPartyQuestion,
};

use crate::Dispatcher;
use crate::client::{Call, encode};

/// How long a service may take over a ping or a question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A service that makes a user or a room meanwhile may take longer.
const MAKING_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// For how many invited users services are asked at a time: other servers decide who is invited.
const MAX_ASKED: usize = 16;

fn get(path: String, legacy: Option<String>, timeout: Duration) -> Call {
    Call { method: Method::GET, path, legacy, body: Bytes::new(), timeout, max_answer: MAX_ANSWER }
}

fn post(path: &str, body: &impl Serialize) -> Result<Call, AppServiceFailure> {
    let body = serde_json::to_vec(body).map_err(|_| AppServiceFailure::Malformed)?.into();
    let (path, timeout) = (path.to_owned(), QUESTION_TIMEOUT);
    Ok(Call { method: Method::POST, path, legacy: None, body, timeout, max_answer: MAX_ANSWER })
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, AppServiceFailure> {
    serde_json::from_slice(answer).map_err(|_| AppServiceFailure::Malformed)
}

impl Dispatcher {
    /// Whether a thing is there: a service answers 200 or 404.
    async fn exists(&self, service: &AppService, call: &Call) -> Result<bool, AppServiceFailure> {
        match self.client.call(service, call).await {
            Ok(_) => Ok(true),
            Err(AppServiceFailure::BadStatus { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks, aside, for a user who was invited and does not exist, unless too many are asked for.
    pub(crate) fn ask_for_unknown(&self, user: UserId) {
        {
            let mut asked = self.asked.lock();
            if asked.len() >= MAX_ASKED || !asked.insert(user.clone()) {
                return tracing::debug!(%user, "no application service is asked for a user");
            }
        }
        let dispatcher = self.clone();
        self.tasks.spawn("appservice user query", async move {
            let shutdown = dispatcher.tasks.shutdown_token();
            let asking = dispatcher.users.find_or_ask_for_user(&dispatcher, &user);
            if let Some(Err(error)) = shutdown.run_until_cancelled(asking).await {
                tracing::warn!(%error, "an application service was not asked for a user");
            }
            dispatcher.asked.lock().remove(&user);
        });
    }
}

impl AppServiceQueries for Dispatcher {
    fn ping<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        transaction_id: Option<&'a str>,
    ) -> AppServiceAnswer<'a, Duration> {
        Box::pin(async move {
            let body = match transaction_id {
                Some(id) => json!({"transaction_id": id}),
                None => json!({}),
            };
            let call = post("/_matrix/app/v1/ping", &body)?;
            let began = self.clock.monotonic();
            self.client.call(service, &call).await?;
            self.note_back(service.id());
            Ok(self.clock.monotonic().saturating_sub(began))
        })
    }

    fn has_user<'a>(&'a self, service: &'a Arc<AppService>, user: &'a UserId) -> AppServiceAnswer<'a, bool> {
        Box::pin(async move {
            let user = encode(user.as_str());
            let call = get(format!("/_matrix/app/v1/users/{user}"), Some(format!("/users/{user}")), MAKING_TIMEOUT);
            self.exists(service, &call).await
        })
    }

    fn has_alias<'a>(&'a self, service: &'a Arc<AppService>, alias: &'a RoomAlias) -> AppServiceAnswer<'a, bool> {
        Box::pin(async move {
            let alias = encode(alias.as_str());
            let call = get(format!("/_matrix/app/v1/rooms/{alias}"), Some(format!("/rooms/{alias}")), MAKING_TIMEOUT);
            self.exists(service, &call).await
        })
    }

    fn third_party<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        question: &'a ThirdPartyQuestion,
    ) -> AppServiceAnswer<'a, Option<Value>> {
        Box::pin(async move {
            let path = third_party_path(question);
            let legacy = Some(format!("/_matrix/app/unstable/{path}"));
            let call = get(format!("/_matrix/app/v1/{path}"), legacy, QUESTION_TIMEOUT);
            match self.client.call(service, &call).await {
                Ok(answer) => read(&answer).map(Some),
                Err(AppServiceFailure::BadStatus { status: 404, .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn claim_keys<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        wanted: &'a BTreeMap<UserId, BTreeMap<String, String>>,
    ) -> AppServiceAnswer<'a, ClaimedKeys> {
        Box::pin(async move {
            let as_lists = |devices: &'a BTreeMap<String, String>| {
                devices.iter().map(|(device, algorithm)| (device, [algorithm])).collect::<BTreeMap<_, _>>()
            };
            let body: BTreeMap<_, _> = wanted.iter().map(|(user, devices)| (user, as_lists(devices))).collect();
            let call = post("/_matrix/app/unstable/org.matrix.msc3983/keys/claim", &body)?;
            read(&self.client.call(service, &call).await?)
        })
    }

    fn query_keys<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        wanted: &'a BTreeMap<UserId, Vec<String>>,
    ) -> AppServiceAnswer<'a, QueriedKeys> {
        Box::pin(async move {
            let body = json!({"device_keys": wanted});
            let call = post("/_matrix/app/unstable/org.matrix.msc3984/keys/query", &body)?;
            read(&self.client.call(service, &call).await?)
        })
    }
}

fn third_party_path(question: &ThirdPartyQuestion) -> String {
    let with_fields = |kind: &str, protocol: &str, fields: &[(String, String)]| {
        let fields: Vec<String> =
            fields.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        let mark = if fields.is_empty() { "" } else { "?" };
        format!("thirdparty/{kind}/{}{mark}{}", encode(protocol), fields.join("&"))
    };
    match question {
        ThirdPartyQuestion::Protocol(protocol) => format!("thirdparty/protocol/{}", encode(protocol)),
        ThirdPartyQuestion::Locations(protocol, fields) => with_fields("location", protocol, fields),
        ThirdPartyQuestion::Users(protocol, fields) => with_fields("user", protocol, fields),
        ThirdPartyQuestion::LocationsOf(alias) => format!("thirdparty/location?alias={}", encode(alias.as_str())),
        ThirdPartyQuestion::UsersOf(user) => format!("thirdparty/user?userid={}", encode(user.as_str())),
    }
}
