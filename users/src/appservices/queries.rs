//! What services are asked: the port that the edge implements, and what is made of the answers.
//!
//! Spec: Application Service API §"Querying", §"Third-party networks", §"Pinging"; MSC3983, MSC3984.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Map, Value};
use spec::ids::{RoomAlias, UserId};

use super::AppService;
use crate::{ClaimedKeys, QueriedKeys, UserError, Users};

/// Why a service did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppServiceFailure {
    /// It has no URL (operator).
    #[error("the application service has no URL")]
    NoUrl,
    /// It took too long (service).
    #[error("the application service did not answer in time")]
    Timeout,
    /// It cannot be reached (service, or the way to it).
    #[error("the application service cannot be reached: {0}")]
    Unreachable(String),
    /// It answered with another status than 200 (service).
    #[error("the application service answered {status}")]
    BadStatus {
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// Its answer makes no sense (service).
    #[error("the answer of the application service is malformed")]
    Malformed,
}

/// What the port returns: a boxed future.
pub type AppServiceAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AppServiceFailure>> + Send + 'a>>;

/// A question about a third-party network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThirdPartyQuestion {
    /// What a protocol is like.
    Protocol(String),
    /// Locations of a protocol with these fields.
    Locations(String, Vec<(String, String)>),
    /// Users of a protocol with these fields.
    Users(String, Vec<(String, String)>),
    /// The locations that an alias stands for.
    LocationsOf(RoomAlias),
    /// The third-party users that a user stands for.
    UsersOf(UserId),
}

/// What application services can be asked. Every question has a time limit.
pub trait AppServiceQueries: Send + Sync {
    /// Whether the service can be reached and knows this server's token; how long that took.
    fn ping<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        transaction_id: Option<&'a str>,
    ) -> AppServiceAnswer<'a, Duration>;

    /// Whether there is such a user; the service has made it then.
    fn has_user<'a>(&'a self, service: &'a Arc<AppService>, user: &'a UserId) -> AppServiceAnswer<'a, bool>;

    /// Whether there is such an alias; the service has made it then.
    fn has_alias<'a>(&'a self, service: &'a Arc<AppService>, alias: &'a RoomAlias) -> AppServiceAnswer<'a, bool>;

    /// What it knows of a third-party network; `None` if nothing.
    fn third_party<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        question: &'a ThirdPartyQuestion,
    ) -> AppServiceAnswer<'a, Option<Value>>;

    /// Claims one-time keys: user → device → algorithm (MSC3983).
    fn claim_keys<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        wanted: &'a BTreeMap<UserId, BTreeMap<String, String>>,
    ) -> AppServiceAnswer<'a, ClaimedKeys>;

    /// Device keys: user → devices, none of them for all (MSC3984).
    fn query_keys<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        wanted: &'a BTreeMap<UserId, Vec<String>>,
    ) -> AppServiceAnswer<'a, QueriedKeys>;
}

/// The port of a server that speaks with no services.
#[derive(Clone, Copy, Debug)]
pub struct NoAppServices;

fn refuse<'a, T: Send + 'a>() -> AppServiceAnswer<'a, T> {
    Box::pin(std::future::ready(Err(AppServiceFailure::NoUrl)))
}

impl AppServiceQueries for NoAppServices {
    fn ping<'a>(&'a self, _: &'a Arc<AppService>, _: Option<&'a str>) -> AppServiceAnswer<'a, Duration> {
        refuse()
    }

    fn has_user<'a>(&'a self, _: &'a Arc<AppService>, _: &'a UserId) -> AppServiceAnswer<'a, bool> {
        refuse()
    }

    fn has_alias<'a>(&'a self, _: &'a Arc<AppService>, _: &'a RoomAlias) -> AppServiceAnswer<'a, bool> {
        refuse()
    }

    fn third_party<'a>(
        &'a self,
        _: &'a Arc<AppService>,
        _: &'a ThirdPartyQuestion,
    ) -> AppServiceAnswer<'a, Option<Value>> {
        refuse()
    }

    fn claim_keys<'a>(
        &'a self,
        _: &'a Arc<AppService>,
        _: &'a BTreeMap<UserId, BTreeMap<String, String>>,
    ) -> AppServiceAnswer<'a, ClaimedKeys> {
        refuse()
    }

    fn query_keys<'a>(
        &'a self,
        _: &'a Arc<AppService>,
        _: &'a BTreeMap<UserId, Vec<String>>,
    ) -> AppServiceAnswer<'a, QueriedKeys> {
        refuse()
    }
}

impl Users {
    /// Whether there is an account for a user of this server, after the services that could have such a user were asked
    /// to make it. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn find_or_ask_for_user(&self, port: &dyn AppServiceQueries, user: &UserId) -> Result<bool, UserError> {
        if user.server_name() != self.rooms().server_name().as_str() {
            return Ok(false);
        }
        if self.account_by_id(user)?.is_some() {
            return Ok(true);
        }
        for service in self.appservices().iter().filter(|service| service.url().is_some() && service.owns_user(user)) {
            match port.has_user(service, user).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::info!(appservice = service.id(), %error, "a user could not be asked for"),
            }
        }
        Ok(self.account_by_id(user)?.is_some())
    }

    /// Asks the services that could have an alias of this server to make it; says whether one did. Cancel-safe.
    pub async fn ask_for_alias(&self, port: &dyn AppServiceQueries, alias: &RoomAlias) -> bool {
        for service in self.appservices().iter().filter(|service| service.url().is_some() && service.owns_alias(alias))
        {
            match port.has_alias(service, alias).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::info!(appservice = service.id(), %error, "an alias could not be asked for"),
            }
        }
        false
    }

    /// Every protocol of every service, as clients are told of it.
    pub async fn third_party_protocols(&self, port: &dyn AppServiceQueries) -> Map<String, Value> {
        let services = self.appservices();
        let mut names: Vec<&String> = services.iter().flat_map(|service| service.protocols()).collect();
        names.sort_unstable();
        names.dedup();
        let asked = names.into_iter().map(async |name| (name.clone(), self.third_party_protocol(port, name).await));
        let answers = join_all(asked).await;
        answers.into_iter().filter_map(|(name, answer)| Some((name, answer?))).collect()
    }

    /// One protocol as clients are told of it: that of the first service that answers, with the instances of all.
    pub async fn third_party_protocol(&self, port: &dyn AppServiceQueries, protocol: &str) -> Option<Value> {
        let services = self.appservices();
        let question = ThirdPartyQuestion::Protocol(protocol.to_owned());
        let providers = services.iter().filter(|service| provides(service, protocol));
        let answers = join_all(providers.map(async |service| (service, ask(port, service, &question).await))).await;
        let (mut described, mut instances) = (None, Vec::new());
        for (service, answer) in answers {
            let Some(Value::Object(mut answer)) = answer else { continue };
            if let Some(Value::Array(own)) = answer.remove("instances") {
                instances.extend(own.into_iter().filter_map(|instance| name_instance(service, instance)));
            }
            described.get_or_insert(answer);
        }
        let mut described: Map<String, Value> = described?;
        described.insert("instances".to_owned(), Value::Array(instances));
        Some(Value::Object(described))
    }

    /// The answers of all services that may know something, put together.
    pub async fn ask_third_parties(&self, port: &dyn AppServiceQueries, question: &ThirdPartyQuestion) -> Vec<Value> {
        let services = self.appservices();
        let knows = |service: &&Arc<AppService>| match question {
            ThirdPartyQuestion::Protocol(name)
            | ThirdPartyQuestion::Locations(name, _)
            | ThirdPartyQuestion::Users(name, _) => provides(service, name),
            ThirdPartyQuestion::LocationsOf(alias) => service.owns_alias(alias),
            ThirdPartyQuestion::UsersOf(user) => service.owns_user(user),
        };
        let answers = join_all(services.iter().filter(knows).map(|service| ask(port, service, question))).await;
        let lists = answers.into_iter().filter_map(|answer| match answer {
            Some(Value::Array(found)) => Some(found),
            _ => None,
        });
        lists.flatten().filter(Value::is_object).collect()
    }

    /// Claims from services the keys that this server has none of (MSC3983), and adds them.
    pub async fn claim_from_appservices(
        &self,
        port: &dyn AppServiceQueries,
        wanted: &BTreeMap<UserId, BTreeMap<String, String>>,
        claimed: &mut ClaimedKeys,
    ) {
        let mut missing: BTreeMap<UserId, BTreeMap<String, String>> = BTreeMap::new();
        for (user, devices) in wanted {
            let of_user = claimed.get(user);
            let lacking = devices.iter().filter(|(device, _)| of_user.is_none_or(|of| !of.contains_key(*device)));
            let lacking: BTreeMap<String, String> = lacking.map(|(of, name)| (of.clone(), name.clone())).collect();
            if !lacking.is_empty() {
                missing.insert(user.clone(), lacking);
            }
        }
        for (service, wanted) in self.split_by_owner(missing) {
            let Some(answer) = answered(&service, port.claim_keys(&service, &wanted).await) else { continue };
            for (user, devices) in answer {
                let Some(asked) = wanted.get(&user) else { continue };
                let asked_for = devices.into_iter().filter(|(device, _)| asked.contains_key(device));
                claimed.entry(user).or_default().extend(asked_for);
            }
        }
    }

    /// Asks services for keys of their users' devices that this server knows nothing of (MSC3984), and adds them.
    pub async fn query_from_appservices(
        &self,
        port: &dyn AppServiceQueries,
        wanted: BTreeMap<UserId, Vec<String>>,
        found: &mut QueriedKeys,
    ) {
        for (service, wanted) in self.split_by_owner(wanted) {
            let Some(answer) = answered(&service, port.query_keys(&service, &wanted).await) else { continue };
            for (user, devices) in answer.device_keys.into_iter().filter(|(user, _)| wanted.contains_key(user)) {
                let known = found.device_keys.entry(user).or_default();
                for (device, keys) in devices {
                    known.entry(device).or_insert(keys);
                }
            }
            let own = |keys: BTreeMap<UserId, Value>| keys.into_iter().filter(|(user, _)| wanted.contains_key(user));
            for (user, key) in own(answer.master_keys) {
                found.master_keys.entry(user).or_insert(key);
            }
            for (user, key) in own(answer.self_signing_keys) {
                found.self_signing_keys.entry(user).or_insert(key);
            }
        }
    }

    /// What is wanted of users that belong to one service alone, which keeps their keys.
    fn split_by_owner<T>(&self, wanted: BTreeMap<UserId, T>) -> Vec<(Arc<AppService>, BTreeMap<UserId, T>)> {
        let services = self.appservices();
        let asked = |service: &&Arc<AppService>| service.wants_encryption() && service.url().is_some();
        let mut by_owner: BTreeMap<&str, (Arc<AppService>, BTreeMap<UserId, T>)> = BTreeMap::new();
        for (user, wish) in wanted {
            let Some(owner) = services.iter().filter(asked).find(|service| service.owns_user_exclusively(&user)) else {
                continue;
            };
            let (_, of_owner) = by_owner.entry(owner.id()).or_insert_with(|| (Arc::clone(owner), BTreeMap::new()));
            of_owner.insert(user, wish);
        }
        by_owner.into_values().collect()
    }
}

fn provides(service: &AppService, protocol: &str) -> bool {
    service.protocols().iter().any(|name| name == protocol)
}

async fn ask(port: &dyn AppServiceQueries, service: &Arc<AppService>, question: &ThirdPartyQuestion) -> Option<Value> {
    answered(service, port.third_party(service, question).await).flatten()
}

/// What a service answered; what it did not is for the log.
fn answered<T>(service: &AppService, answer: Result<T, AppServiceFailure>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        // It knows no such question.
        Err(AppServiceFailure::BadStatus { status: 404 | 405, .. } | AppServiceFailure::NoUrl) => None,
        Err(error) => {
            tracing::info!(appservice = service.id(), %error, "an application service did not answer a question");
            None
        }
    }
}

/// An instance of a protocol, with what it is called on this server.
fn name_instance(service: &AppService, instance: Value) -> Option<Value> {
    let Value::Object(mut instance) = instance else { return None };
    let network = instance.get("network_id")?.as_str()?;
    let id = network_instance(service.id(), network);
    instance.insert("instance_id".to_owned(), id.into());
    Some(Value::Object(instance))
}

/// What a network of a service is called in `third_party_instance_id`.
fn network_instance(service: &str, network: &str) -> String {
    format!("{service}|{network}")
}

impl AppService {
    /// What one of its networks is called by clients, in `instance_id` and `third_party_instance_id`.
    pub fn network_instance(&self, network: &str) -> String {
        network_instance(self.id(), network)
    }
}
