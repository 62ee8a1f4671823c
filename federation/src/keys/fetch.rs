//! Asking servers for their keys, and notaries for those of servers that do not answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::ServerName;

use super::KeyRing;
use super::check::Signed;
use super::document::KeyDocument;
use super::known::{KnownKeys, Source};
use crate::client::{Ask, encode_path};

/// How long one server may take, and a notary, which asks servers in its turn.
const SERVER_TIMEOUT: Duration = Duration::from_secs(10);
const NOTARY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long all servers together may take; what is missing then is asked of notaries.
const ALL_SERVERS_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest document, and the largest answer of a notary.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
const MAX_NOTARY_BYTES: usize = 4 * 1024 * 1024;
/// How many servers are asked at a time, and how many a notary is asked about at once.
const CONCURRENT: usize = 32;
const NOTARY_BATCH: usize = 50;
/// With more servers than this a notary is asked first: many of them may be long gone, and each of
/// these costs a time limit.
const NOTARY_FIRST: usize = 16;
/// How many keys of one server a notary is asked for by name.
const MAX_NAMED_KEYS: usize = 20;
/// When a server may be asked again: after it answered (with an unknown key asked for), and after
/// the first failure, doubled with each further one.
const PAUSE_MS: u64 = 10 * 1000;
const MAX_PAUSE_MS: u64 = 10 * 60 * 1000;

/// When a server's keys may be asked for again, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    next_ms: u64,
    failures: u32,
    notary_next_ms: u64,
}

impl Attempt {
    pub(super) fn pause_ms(failures: u32) -> u64 {
        PAUSE_MS.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_PAUSE_MS)
    }
}

impl KeyRing {
    /// Looks for keys that could check these signatures. What is found is remembered; what is not
    /// has been asked for, or was lately.
    pub(super) async fn find_missing(&self, missing: Vec<Signed>, notary: Option<&ServerName>) {
        let mut missing = missing;
        let servers: BTreeSet<&ServerName> = missing.iter().map(|signed| &signed.server).collect();
        if servers.len() > NOTARY_FIRST {
            self.ask_notaries(&missing, notary).await;
            missing = self.still_missing(missing);
        }
        self.ask_servers(&missing).await;
        missing = self.still_missing(missing);
        if !missing.is_empty() {
            self.ask_notaries(&missing, notary).await;
        }
    }

    fn still_missing(&self, missing: Vec<Signed>) -> Vec<Signed> {
        let mut read: HashMap<ServerName, Arc<KnownKeys>> = HashMap::new();
        let mut rest = missing;
        rest.retain(|signed| {
            let known = match read.get(&signed.server) {
                Some(known) => known.clone(),
                None => {
                    let known = self.known_or_nothing(&signed.server);
                    read.insert(signed.server.clone(), known.clone());
                    known
                }
            };
            !signed.is_covered_by(&known)
        });
        rest
    }

    /// Asks the servers themselves, all at once within bounds.
    pub(super) async fn ask_servers(&self, missing: &[Signed]) {
        let servers = missing.iter().map(|signed| signed.server.clone()).collect();
        self.fetch_servers(servers, ALL_SERVERS_TIMEOUT).await;
    }

    /// Asks servers for their keys, some at a time, and gives up on those that take too long together.
    pub(super) async fn fetch_servers(&self, servers: BTreeSet<ServerName>, limit: Duration) {
        let asking = async {
            let mut waiting = servers.iter();
            let mut flying = FuturesUnordered::new();
            loop {
                flying.extend(
                    waiting
                        .by_ref()
                        .take(CONCURRENT.saturating_sub(flying.len()))
                        .map(|server| self.fetch_server(server)),
                );
                if flying.next().await.is_none() {
                    break;
                }
            }
        };
        if self.0.clock.timeout(limit, asking).await.is_none() {
            tracing::debug!("not all servers gave their keys in time");
        }
    }

    /// Asks a server for its keys, unless that was done a moment ago. Whoever comes while somebody
    /// asks waits for what comes of it.
    pub(super) async fn fetch_server(&self, server: &ServerName) {
        if *server == self.0.server_name || !self.may_ask(server) {
            return;
        }
        let flight = self.0.flights.lock().entry(server.clone()).or_default().clone();
        {
            let _flight = flight.lock().await;
            if self.may_ask(server) {
                let result = self.fetch_document(server).await;
                self.note_attempt(server, result.is_ok());
                if result.is_ok() {
                    self.0.fetched.add(1)
                } else {
                    self.0.failed.add(1)
                }
                if let Err(reason) = result {
                    tracing::debug!(%server, %reason, "its keys were not fetched");
                }
            }
        }
        drop(flight);
        // Whoever waits holds a reference besides the map's.
        let mut flights = self.0.flights.lock();
        if flights.get(server).is_some_and(|flight| Arc::strong_count(flight) == 1) {
            flights.remove(server);
        }
    }

    async fn fetch_document(&self, server: &ServerName) -> Result<(), String> {
        let ask = Ask::get(encode_path(&["_matrix", "key", "v2", "server"]));
        let ask = ask.within(SERVER_TIMEOUT).at_most(MAX_DOCUMENT_BYTES).despite_backoff();
        let body = self.0.client.ask_stranger(server, ask).await.map_err(|error| error.to_string())?;
        let object: Map<String, Value> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let document = KeyDocument::read(object).map_err(|error| error.to_string())?;
        if document.server != *server {
            return Err(format!("the document is that of {}", document.server));
        }
        self.remember(&document, Source::Itself).await.map_err(|error| error.to_string())
    }

    fn may_ask(&self, server: &ServerName) -> bool {
        let now = self.0.clock.now_ms();
        self.0.attempts.get(server).is_none_or(|attempt| attempt.next_ms <= now)
    }

    fn note_attempt(&self, server: &ServerName, succeeded: bool) {
        let before = self.0.attempts.get(server).unwrap_or_default();
        let failures = if succeeded { 0 } else { before.failures.saturating_add(1) };
        let next_ms = self.0.clock.now_ms().saturating_add(Attempt::pause_ms(failures));
        self.0.attempts.insert(server.clone(), Attempt { next_ms, failures, ..before });
    }

    /// Asks the trusted notaries one after the other, `first` before the others if it is trusted.
    async fn ask_notaries(&self, missing: &[Signed], first: Option<&ServerName>) {
        let trusted = &self.0.notaries;
        let preferred = first.filter(|first| trusted.contains(first)).into_iter();
        let notaries: Vec<&ServerName> =
            preferred.chain(trusted.iter().filter(|notary| Some(*notary) != first)).collect();
        if notaries.is_empty() {
            return;
        }
        let mut missing = self.due_for_notaries(missing);
        for notary in notaries {
            if missing.is_empty() {
                return;
            }
            // A notary is no witness of its own keys.
            let (own, others): (Vec<Signed>, Vec<Signed>) =
                missing.into_iter().partition(|signed| signed.server == *notary);
            let wanted = collect_wanted(&others);
            for batch in wanted.chunks(NOTARY_BATCH) {
                if let Err(reason) = self.ask_notary(notary, batch).await {
                    tracing::debug!(%notary, %reason, "the notary gave no keys");
                    break;
                }
            }
            missing = self.still_missing(others);
            missing.extend(own);
        }
    }

    /// Those that notaries were not asked about a moment ago; from now on they were.
    fn due_for_notaries(&self, missing: &[Signed]) -> Vec<Signed> {
        let now = self.0.clock.now_ms();
        let attempt_of = |server: &ServerName| self.0.attempts.get(server).unwrap_or_default();
        let due = missing.iter().filter(|signed| attempt_of(&signed.server).notary_next_ms <= now);
        let due: Vec<Signed> = due.cloned().collect();
        for signed in &due {
            let pause = Attempt::pause_ms(attempt_of(&signed.server).failures.max(1));
            let attempt = Attempt { notary_next_ms: now.saturating_add(pause), ..attempt_of(&signed.server) };
            self.0.attempts.insert(signed.server.clone(), attempt);
        }
        due
    }

    async fn ask_notary(&self, notary: &ServerName, wanted: &[Wanted]) -> Result<(), String> {
        self.fetch_server(notary).await;
        let now = self.0.clock.now_ms();
        let notary_keys = self.known_or_nothing(notary);
        let ask = Ask::post(encode_path(&["_matrix", "key", "v2", "query"]), &write_query(wanted, now));
        let ask = ask.within(NOTARY_TIMEOUT).at_most(MAX_NOTARY_BYTES);
        let answer: Answer = self.0.client.ask_json(notary, ask).await.map_err(|error| error.to_string())?;
        for object in answer.server_keys.into_iter().take(wanted.len().saturating_mul(4)) {
            let Ok(document) = KeyDocument::read(object) else { continue };
            let was_asked = wanted.iter().any(|wanted| wanted.server == document.server);
            let is_signed = document.is_signed_by(notary, |key_id| notary_keys.valid_now(key_id, now).cloned());
            if was_asked && is_signed {
                self.remember(&document, Source::Notary).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// The known keys of a server; none if they cannot be read.
    pub(super) fn known_or_nothing(&self, server: &ServerName) -> Arc<KnownKeys> {
        self.known(server).unwrap_or_else(|error| {
            tracing::error!(%server, %error, "the keys of a server cannot be read");
            Arc::default()
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    server_keys: Vec<Map<String, Value>>,
}

/// What a notary is asked for of one server.
struct Wanted {
    server: ServerName,
    key_ids: BTreeSet<String>,
    valid_at: u64,
}

fn collect_wanted(missing: &[Signed]) -> Vec<Wanted> {
    let mut by_server: BTreeMap<&ServerName, Wanted> = BTreeMap::new();
    for signed in missing {
        let wanted = by_server.entry(&signed.server).or_insert_with(|| Wanted {
            server: signed.server.clone(),
            key_ids: BTreeSet::new(),
            valid_at: 0,
        });
        wanted.valid_at = wanted.valid_at.max(signed.at_ms.unwrap_or_default());
        for key_id in &signed.key_ids {
            if wanted.key_ids.len() < MAX_NAMED_KEYS {
                wanted.key_ids.insert(key_id.clone());
            }
        }
    }
    by_server.into_values().collect()
}

fn write_query(wanted: &[Wanted], now_ms: u64) -> Value {
    let servers = wanted.iter().map(|wanted| {
        // Nobody can vouch for the future: asking for it would only keep the notary from what it has.
        let criteria = json!({ "minimum_valid_until_ts": wanted.valid_at.min(now_ms) });
        let keys: Map<String, Value> = wanted.key_ids.iter().map(|id| (id.clone(), criteria.clone())).collect();
        (wanted.server.as_str().to_owned(), Value::Object(keys))
    });
    json!({ "server_keys": servers.collect::<Map<String, Value>>() })
}
