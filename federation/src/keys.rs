//! Keys: publishing this server's, finding those of others, and checking signatures with them
//! (Server-Server API §Retrieving server keys, §Request Authentication).
//!
//! A key of another server counts once its server said so in a document that it signed with it,
//! fetched from the server itself or else from a notary that the operator trusts. Keys are never
//! forgotten: old events have to be checked long after their server is gone.

mod check;
mod document;
mod fetch;
mod known;
pub(crate) mod serve;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use runtime::{Clock, Counter, Metrics, Tasks};
use serde_json::{Map, Value};
use spec::ids::ServerName;
use spec::signing::{SigningKey, VerifyError, VerifyKey, signing_key_ids, verify_json};
use spec::xmatrix::XMatrix;
use storage::{KeyspaceInfo, StorageError, Store};
use tokio::sync::Semaphore;

use crate::client::FederationClient;
use crate::config::FederationConfig;
use check::Signed;
#[cfg(feature = "fuzzing")]
pub(crate) use document::KeyDocument;
use fetch::Attempt;
use known::{KnownKeys, ReadCache};

/// Every keyspace of this module.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[known::SERVER_KEYS.info(), known::KEY_DOCUMENTS.info()];

/// How long the keys for one request, or one object, are looked for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How many servers' keys are in memory.
const CACHED_SERVERS: usize = 10_000;
/// How many servers it is remembered of when they may be asked again.
const ATTEMPTS: usize = 20_000;
/// How many requests to the notary may look for keys at a time.
const NOTARY_PLACES: usize = 8;

/// This server's keys.
#[derive(Clone, Debug)]
pub struct OwnKeys {
    /// The one that signs.
    pub current: Arc<SigningKey>,
    /// Those that signed before it.
    pub old: Vec<OldKey>,
}

/// A key that this server signs with no more.
#[derive(Clone, Debug)]
pub struct OldKey {
    /// `ed25519:` and the version.
    pub key_id: String,
    /// The public half.
    pub key: VerifyKey,
    /// Until when it signed, in milliseconds since the Unix epoch.
    pub expired_ts: u64,
}

/// What [`KeyRing::new`] needs.
pub struct KeyRingParts {
    /// The store with [`crate::keyspaces`].
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// Where signatures of many events are checked.
    pub tasks: Tasks,
    /// This server.
    pub server_name: ServerName,
    /// Its keys.
    pub own: OwnKeys,
    /// The notaries.
    pub config: Arc<FederationConfig>,
    /// The way to other servers.
    pub client: FederationClient,
}

/// Why a signature is not believed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The request was meant for another server (remote server).
    #[error("the request is for {0}")]
    WrongDestination(ServerName),
    /// The request claims to come from this server (remote server).
    #[error("the request claims to be this server's own")]
    FromOurselves,
    /// No key of this id is known of the server that is valid now (remote server, or the way to it).
    #[error("no valid key of {server} is known that could check the signature")]
    NoKey {
        /// Who signed, or should have.
        server: ServerName,
    },
    /// The signature is wrong (remote server).
    #[error("the signature of {server} is not valid: {error}")]
    BadSignature {
        /// Who should have signed.
        server: ServerName,
        /// What is wrong.
        error: VerifyError,
    },
    /// The keys cannot be read (us).
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The keys of all servers; clones share them.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    tasks: Tasks,
    server_name: ServerName,
    own: OwnKeys,
    own_known: Arc<KnownKeys>,
    notaries: Vec<ServerName>,
    client: FederationClient,
    known: ReadCache<ServerName, Arc<KnownKeys>>,
    attempts: Cache<ServerName, Attempt>,
    /// Held while a server is asked for its keys, so that one asks and the others wait for it.
    flights: Mutex<HashMap<ServerName, Arc<tokio::sync::Mutex<()>>>>,
    notary_places: Semaphore,
    fetched: Counter,
    failed: Counter,
}

impl KeyRing {
    /// A ring with what the store knows. Names of notaries that are no server names are passed over.
    #[must_use]
    pub fn new(parts: KeyRingParts) -> KeyRing {
        let notaries = parts.config.trusted_key_servers.iter().filter_map(|name| {
            let parsed = ServerName::parse(name);
            if parsed.is_err() {
                tracing::warn!(%name, "trusted_key_servers names something that is no server name");
            }
            parsed.ok().filter(|name| *name != parts.server_name)
        });
        KeyRing(Arc::new(Inner {
            notaries: notaries.collect(),
            own_known: Arc::new(KnownKeys::of_ours(&parts.own)),
            store: parts.store,
            clock: parts.clock,
            tasks: parts.tasks,
            server_name: parts.server_name,
            own: parts.own,
            client: parts.client,
            known: ReadCache::new(CACHED_SERVERS),
            attempts: Cache::new(ATTEMPTS),
            flights: Mutex::default(),
            notary_places: Semaphore::new(NOTARY_PLACES),
            fetched: Counter::default(),
            failed: Counter::default(),
        }))
    }

    /// Shows how often servers were asked for their keys.
    pub(crate) fn publish_metrics(&self, metrics: &Metrics) {
        for (outcome, counter) in [("fetched", &self.0.fetched), ("failed", &self.0.failed)] {
            let help = "Servers asked for their own keys.";
            metrics.publish("conduit_federation_key_fetches_total", help, &[("outcome", outcome)], counter);
        }
    }

    /// [`KeyRing::verify_request`] without asking anybody: the server, if a key that is known proves it. `None` says
    /// nothing.
    pub(crate) fn verify_by_known_key(
        &self,
        header: &XMatrix,
        method: &str,
        uri: &str,
        content: Option<&Map<String, Value>>,
    ) -> Option<ServerName> {
        let (us, origin) = (&self.0.server_name, &header.origin);
        if header.destination.as_ref().is_some_and(|destination| destination != us) || origin == us {
            return None;
        }
        let known = self.known(origin).ok()?;
        let key = known.valid_now(&header.key_id, self.0.clock.now_ms())?;
        header.verify(key, us, method, uri, content).is_ok().then(|| origin.clone())
    }

    /// Checks that a request was sent by the server that it names, to this one. `uri` is path and
    /// query as they were received; `content` the body, if there is one. Keys that are missing are
    /// looked for, for ten seconds at most. Cancel-safe.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn verify_request(
        &self,
        header: &XMatrix,
        method: &str,
        uri: &str,
        content: Option<&Map<String, Value>>,
    ) -> Result<ServerName, KeyError> {
        let us = &self.0.server_name;
        if let Some(destination) = header.destination.as_ref().filter(|destination| *destination != us) {
            return Err(KeyError::WrongDestination(destination.clone()));
        }
        if header.origin == *us {
            return Err(KeyError::FromOurselves);
        }
        let origin = &header.origin;
        let now = self.0.clock.now_ms();
        let key = self.find_key(origin, &header.key_id, now).await?;
        let verify = |key: &VerifyKey| header.verify(key, us, method, uri, content);
        let bad = |error| KeyError::BadSignature { server: origin.clone(), error };
        let Err(error) = verify(&key) else { return Ok(origin.clone()) };
        // A server that was set up anew may have another key under the same id.
        self.0.clock.timeout(REQUEST_TIMEOUT, self.fetch_server(origin)).await;
        match self.known(origin)?.valid_now(&header.key_id, now).filter(|found| **found != key) {
            Some(found) => verify(found).map_err(bad)?,
            None => return Err(bad(error)),
        }
        Ok(origin.clone())
    }

    /// Checks that a server signed a plain JSON object (no event) with a key that is valid now.
    /// Keys that are missing are looked for, for ten seconds at most. Cancel-safe.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn verify_object(&self, object: &Map<String, Value>, signer: &ServerName) -> Result<(), KeyError> {
        let now = self.0.clock.now_ms();
        let mut signed = Signed::new(signer.clone(), Some(now));
        signed.add_keys(signing_key_ids(object, signer.as_str()));
        let known = self.known_for(signed).await?;
        let mut result = Err(KeyError::NoKey { server: signer.clone() });
        for key_id in signing_key_ids(object, signer.as_str()) {
            let Some(key) = known.valid_now(key_id, now) else { continue };
            let bad = |error| KeyError::BadSignature { server: signer.clone(), error };
            result = Ok(verify_json(object, signer.as_str(), key_id, key).map_err(bad)?);
        }
        result
    }

    async fn find_key(&self, server: &ServerName, key_id: &str, now_ms: u64) -> Result<VerifyKey, KeyError> {
        let mut signed = Signed::new(server.clone(), Some(now_ms));
        signed.add_keys(std::iter::once(key_id));
        let known = self.known_for(signed).await?;
        known.valid_now(key_id, now_ms).cloned().ok_or_else(|| KeyError::NoKey { server: server.clone() })
    }

    /// The keys of one server, looked for within the time that a request may wait.
    async fn known_for(&self, signed: Signed) -> Result<Arc<KnownKeys>, KeyError> {
        let server = signed.server.clone();
        let known = self.known(&server)?;
        if signed.is_covered_by(&known) {
            return Ok(known);
        }
        let looking = self.find_missing(vec![signed], None);
        if self.0.clock.timeout(REQUEST_TIMEOUT, looking).await.is_none() {
            tracing::debug!(%server, "its keys were not found in time");
        }
        Ok(self.known(&server)?)
    }
}
