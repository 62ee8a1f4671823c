//! Taking in a transaction (Server-Server API §Transactions): bounds, one answer for one transaction, EDUs, and the
//! events written down before anything is acknowledged.
//!
//! The work runs apart from the request: a server that hangs up leaves nothing half done, and finds the same answer
//! when it asks again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Extension;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use http::{HeaderValue, header};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use spec::ids::{EventId, ServerName};
use storage::{Batch, Corrupt, Keyspace, Profile, Read, StorageError, ValueBuf};
use tokio::sync::oneshot;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::{MaxBody, PlaceHolder, SignedJson};

mod admission;

/// The most PDUs of a transaction.
pub(super) const MAX_PDUS: usize = 50;
/// The most EDUs of a transaction.
pub(super) const MAX_EDUS: usize = 100;
/// The longest transaction id in bytes.
const MAX_TXN_ID: usize = 255;
/// How long the answer to a transaction is kept, in hours: longer than a server is left alone after a failure.
const KEPT_HOURS: u64 = 72;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// How many old answers are deleted in one commit.
const PURGE_ROWS: usize = 1000;
/// The longest text that says what is wrong with an event.
const MAX_ERROR_CHARS: usize = 200;

/// Server, transaction id → the hour and the answer.
pub(super) const ANSWERS: Keyspace<(String, String), Answer> =
    Keyspace::new("federation_transactions", Profile::Points);
/// Hour, server, transaction id: the answers by age.
pub(super) const ANSWERS_BY_HOUR: Keyspace<(u64, String, String), ()> =
    Keyspace::new("federation_transactions_by_hour", Profile::Log);

/// What a transaction was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer(Vec<u8>);

impl storage::Value for Answer {
    fn encode(&self, out: &mut ValueBuf) {
        out.push(&[1]);
        out.push(&self.0);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        match bytes.split_first() {
            Some((1, answer)) => Ok(Answer(answer.to_vec())),
            _ => Err(Corrupt("answer has an unknown version")),
        }
    }
}

/// A transaction as it came, within its bounds.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// The events, not looked at yet.
    pub pdus: Vec<Map<String, Value>>,
    /// The EDUs, not looked at yet.
    pub edus: Vec<Map<String, Value>>,
}

/// What became of each event, by its id: nothing to say, or what is wrong.
pub(super) type Outcomes = BTreeMap<EventId, Option<String>>;

/// A transaction by its server and its id, and the lock that lets in one request of it at a time.
type Locks = HashMap<(ServerName, String), Arc<tokio::sync::Mutex<()>>>;

/// Transactions that are being taken in: of requests with the same id one at a time.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    locks: Mutex<Locks>,
    purged_hour: AtomicU64,
}

impl UnderWay {
    fn lock_of(&self, key: &(ServerName, String)) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.lock().entry(key.clone()).or_default().clone()
    }

    fn forget_unused(&self, key: &(ServerName, String)) {
        let mut locks = self.locks.lock();
        // One reference is the map's; whoever else holds one still needs it.
        if locks.get(key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(key);
        }
    }
}

/// `PUT /_matrix/federation/v1/send/{txnId}`.
pub(super) fn router(max_body: usize) -> Router<Federation> {
    let path = "/_matrix/federation/v1/send/{txn_id}";
    Router::new().route(path, put(send_transaction).layer(Extension(MaxBody(max_body))))
}

async fn send_transaction(
    State(federation): State<Federation>,
    Path(txn_id): Path<String>,
    place: PlaceHolder,
    signed: SignedJson<IgnoredAny>,
) -> Result<Response, ServeError> {
    let SignedJson { origin, raw, .. } = signed;
    let (reply, answer) = oneshot::channel();
    let taker = federation.clone();
    federation.tasks.spawn("incoming transaction", async move {
        // Whoever asked may have gone; their place is theirs until the work is done.
        drop(reply.send(taker.take_transaction(origin, txn_id, raw).await));
        drop(place);
    });
    let body = answer.await.map_err(|_| ServeError::unavailable("this server is going down"))??;
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], body).into_response())
}

impl Federation {
    /// Takes in a transaction and returns the answer, a JSON object. Not cancel-safe: spawn it.
    ///
    /// # Errors
    /// What is wrong with the transaction as a whole; that too much waits; storage errors. Nothing of its events is
    /// kept then.
    pub(super) async fn take_transaction(
        &self,
        origin: ServerName,
        txn_id: String,
        body: Map<String, Value>,
    ) -> Result<Vec<u8>, ServeError> {
        let transaction = read_transaction(&origin, &txn_id, body)?;
        self.inbound.counters.transactions.add(1);
        let key = (origin, txn_id);
        let lock = self.inbound.under_way.lock_of(&key);
        let guard = lock.lock().await;
        let taken = self.take_once(&key, transaction).await;
        drop(guard);
        drop(lock);
        self.inbound.under_way.forget_unused(&key);
        taken
    }

    async fn take_once(&self, key: &(ServerName, String), transaction: Transaction) -> Result<Vec<u8>, ServeError> {
        let (origin, txn_id) = (&key.0, &key.1);
        let row_key = (origin.as_str().to_owned(), txn_id.clone());
        if let Some(answer) = self.store.get(&ANSWERS, &row_key)? {
            return Ok(answer.0);
        }
        let counts = (transaction.pdus.len(), transaction.edus.len());
        self.apply_edus(origin, transaction.edus).await?;
        let admitted = self.admit(origin, transaction.pdus).await?;
        let answer = render_answer(&admitted.outcomes);
        if counts.0 > 0 {
            let hour = self.clock.now_ms() / HOUR_MS;
            let mut batch = Batch::new();
            batch.put(&ANSWERS, &row_key, &Answer(answer.clone()));
            batch.put(&ANSWERS_BY_HOUR, &(hour, row_key.0, row_key.1), &());
            self.stage(origin, admitted.staged, batch).await?;
            self.purge_answers(hour);
        }
        tracing::debug!(%origin, txn_id, pdus = counts.0, edus = counts.1, "a transaction was taken in");
        Ok(answer)
    }

    /// Starts deleting old answers, once an hour.
    fn purge_answers(&self, hour: u64) {
        if self.inbound.under_way.purged_hour.swap(hour, Ordering::Relaxed) == hour {
            return;
        }
        let federation = self.clone();
        self.tasks.spawn("old transactions", async move {
            if let Err(error) = federation.delete_answers(hour.saturating_sub(KEPT_HOURS)).await {
                tracing::error!(%error, "old transactions could not be deleted");
            }
        });
    }

    async fn delete_answers(&self, before: u64) -> Result<(), ServeError> {
        while !self.tasks.is_shutting_down() {
            let old: Result<Vec<_>, StorageError> =
                self.store.scan(&ANSWERS_BY_HOUR, &()).keys().take(PURGE_ROWS).collect();
            let old: Vec<_> = old?.into_iter().take_while(|(hour, ..)| *hour < before).collect();
            if old.is_empty() {
                break;
            }
            let mut batch = Batch::new();
            for key in old {
                batch.delete(&ANSWERS_BY_HOUR, &key);
                batch.delete(&ANSWERS, &(key.1, key.2));
            }
            self.store.commit(batch).await?;
        }
        Ok(())
    }
}

/// Reads the body within its bounds. What is no object among the PDUs and EDUs is left out.
pub(crate) fn read_transaction(
    origin: &ServerName,
    txn_id: &str,
    mut body: Map<String, Value>,
) -> Result<Transaction, ServeError> {
    if txn_id.is_empty() || txn_id.len() > MAX_TXN_ID {
        return Err(ServeError::invalid_param("the transaction id is empty or too long"));
    }
    match body.get("origin") {
        Some(Value::String(claimed)) if claimed == origin.as_str() => {}
        Some(_) => return Err(ServeError::forbidden("origin is not the server that signed the request")),
        None => return Err(ServeError::missing_param("origin is missing")),
    }
    let pdus =
        take_objects(&mut body, "pdus", MAX_PDUS)?.ok_or_else(|| ServeError::missing_param("pdus is missing"))?;
    let edus = take_objects(&mut body, "edus", MAX_EDUS)?.unwrap_or_default();
    Ok(Transaction { pdus, edus })
}

fn take_objects(
    body: &mut Map<String, Value>,
    name: &'static str,
    most: usize,
) -> Result<Option<Vec<Map<String, Value>>>, ServeError> {
    let list = match body.remove(name) {
        Some(Value::Array(list)) => list,
        None | Some(Value::Null) => return Ok(None),
        Some(_) => return Err(ServeError::bad_json(format!("{name} is not a list"))),
    };
    if list.len() > most {
        return Err(ServeError::invalid_param(format!("a transaction has at most {most} {name}")));
    }
    let objects = list.into_iter().filter_map(|value| match value {
        Value::Object(object) => Some(object),
        _ => None,
    });
    Ok(Some(objects.collect()))
}

fn render_answer(outcomes: &Outcomes) -> Vec<u8> {
    let mut pdus = Map::new();
    for (event_id, error) in outcomes {
        let mut outcome = Map::new();
        if let Some(error) = error {
            outcome.insert("error".to_owned(), error.chars().take(MAX_ERROR_CHARS).collect::<String>().into());
        }
        pdus.insert(event_id.as_str().to_owned(), outcome.into());
    }
    let mut answer = Map::new();
    answer.insert("pdus".to_owned(), pdus.into());
    // A map with text keys always serialises.
    serde_json::to_vec(&answer).unwrap_or_default()
}

#[cfg(test)]
mod tests;
