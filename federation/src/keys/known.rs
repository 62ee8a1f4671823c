//! The keys that are known, on the disk and in memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spec::ids::ServerName;
use spec::signing::VerifyKey;
use storage::{Batch, Keyspace, Profile, Read, StorageError};

use super::document::KeyDocument;
use super::{KeyRing, OwnKeys};

/// Server and key id → the key.
pub(crate) const SERVER_KEYS: Keyspace<(String, String), KeyRow> = Keyspace::new("server_keys", Profile::Points);
/// Server → the last document it signed, for others who ask this server as a notary.
pub(crate) const KEY_DOCUMENTS: Keyspace<String, DocumentRow> = Keyspace::new("server_key_documents", Profile::Points);

/// The largest document that is kept for others.
const MAX_KEPT_BYTES: usize = 32 * 1024;
/// How many keys of one server are remembered over time; one document holds fewer.
pub(super) const MAX_KEYS: usize = 1024;
/// The longest that a document is believed, from when it was fetched (Server-Server API §Publishing Keys).
pub(super) const MAX_VALIDITY_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A stored key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    /// The public key in base64.
    pub(crate) key: String,
    /// Until when what it signs counts, in milliseconds since the Unix epoch.
    pub(crate) valid_until: u64,
    /// Whether its server signs with it no more: it is for old events then, not for requests.
    pub(crate) is_old: bool,
}
storage::stored!(KeyRow, 1);

/// A stored document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DocumentRow {
    /// As its server signed it, without signatures of others.
    pub(crate) json: Vec<u8>,
    /// `valid_until_ts` as it stands there.
    pub(crate) valid_until: u64,
    /// When it was fetched.
    pub(crate) fetched_ms: u64,
}
storage::stored!(DocumentRow, 1);

/// A key in memory, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct KnownKey {
    pub(crate) key: VerifyKey,
    pub(crate) valid_until: u64,
    pub(crate) is_old: bool,
}

/// All keys of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownKeys(HashMap<String, KnownKey>);

impl KnownKeys {
    /// This server's own keys.
    pub(super) fn of_ours(own: &OwnKeys) -> KnownKeys {
        let old = own.old.iter().map(|old| {
            let known = KnownKey { key: old.key.clone(), valid_until: old.expired_ts, is_old: true };
            (old.key_id.clone(), known)
        });
        let mut keys: HashMap<_, _> = old.collect();
        let current = KnownKey { key: own.current.verify_key(), valid_until: u64::MAX, is_old: false };
        keys.insert(own.current.key_id().to_owned(), current);
        KnownKeys(keys)
    }

    /// A key for an event of this time; `None` stands for room versions that do not ask for the time.
    pub(crate) fn valid_at(&self, key_id: &str, at_ms: Option<u64>) -> Option<&VerifyKey> {
        let known = self.0.get(key_id)?;
        at_ms.is_none_or(|at| at <= known.valid_until).then_some(&known.key)
    }

    /// A key that may sign requests now.
    pub(crate) fn valid_now(&self, key_id: &str, now_ms: u64) -> Option<&VerifyKey> {
        let known = self.0.get(key_id)?;
        (!known.is_old && now_ms <= known.valid_until).then_some(&known.key)
    }
}

impl KeyRing {
    /// All that is known of a server's keys now.
    pub(super) fn known(&self, server: &ServerName) -> Result<Arc<KnownKeys>, StorageError> {
        if *server == self.0.server_name {
            return Ok(self.0.own_known.clone());
        }
        self.0.known.get_or_read(server, || {
            let mut keys = HashMap::new();
            for row in self.0.store.scan(&SERVER_KEYS, &server.as_str().to_owned()).iter().take(MAX_KEYS) {
                let ((_, key_id), row) = row?;
                if let Ok(key) = VerifyKey::parse(&row.key) {
                    keys.insert(key_id, KnownKey { key, valid_until: row.valid_until, is_old: row.is_old });
                }
            }
            Ok(Arc::new(KnownKeys(keys)))
        })
    }

    /// Remembers what a verified document says. Nothing is written if it says nothing new.
    pub(super) async fn remember(&self, document: &KeyDocument, source: Source) -> Result<(), StorageError> {
        let server = document.server.as_str().to_owned();
        let now = self.0.clock.now_ms();
        let mut batch = Batch::new();
        let mut room = MAX_KEYS.saturating_sub(self.known(&document.server)?.0.len());
        for key in &document.keys {
            let until = key.expired_ts.unwrap_or(document.valid_until_ts).min(now.saturating_add(MAX_VALIDITY_MS));
            let row = KeyRow { key: key.key.to_base64(), valid_until: until, is_old: key.expired_ts.is_some() };
            let id = (server.clone(), key.key_id.clone());
            let before = self.0.store.get(&SERVER_KEYS, &id)?;
            if before.is_none() {
                let Some(left) = room.checked_sub(1) else { continue };
                room = left;
            }
            if let Some(row) = merge_rows(before.as_ref(), row, source) {
                batch.put(&SERVER_KEYS, &id, &row);
            }
        }
        let json = document.signed_by_itself();
        let kept = self.0.store.get(&KEY_DOCUMENTS, &server)?;
        let is_newer = kept.is_none_or(|kept| kept.valid_until <= document.valid_until_ts);
        if is_newer && json.len() <= MAX_KEPT_BYTES {
            let row = DocumentRow { json, valid_until: document.valid_until_ts, fetched_ms: now };
            batch.put(&KEY_DOCUMENTS, &server, &row);
        }
        if !batch.is_empty() {
            // An error means that the keys are asked for again: they are still used by who asked now.
            if let Err(error) = self.0.store.commit(batch).await {
                tracing::error!(%server, %error, "the keys of a server were not written");
            }
        }
        self.0.known.forget(&document.server);
        Ok(())
    }

    /// The last document of a server, for those who ask this server as a notary.
    pub(super) fn kept_document(&self, server: &ServerName) -> Result<Option<DocumentRow>, StorageError> {
        self.0.store.get(&KEY_DOCUMENTS, &server.as_str().to_owned())
    }
}

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The server itself.
    Itself,
    /// A notary.
    Notary,
}

/// The row to write; `None` if it stays as it is. The server itself may take another key under the
/// same id (it was set up anew); a notary may not, unless the key it replaces has run out.
pub(super) fn merge_rows(before: Option<&KeyRow>, new: KeyRow, source: Source) -> Option<KeyRow> {
    let Some(before) = before else { return Some(new) };
    if before.key != new.key {
        return (source == Source::Itself || new.valid_until > before.valid_until).then_some(new);
    }
    // When a key was retired is for its server to say, and it may say it later than it was known to be valid.
    if new.is_old || before.is_old {
        let may_change = source == Source::Itself || (new.is_old && !before.is_old);
        return (may_change && new != *before).then_some(new);
    }
    (new.valid_until > before.valid_until).then_some(new)
}

/// The object without signatures of others.
pub(super) fn keep_own_signature(object: &mut Map<String, Value>, server: &str) {
    if let Some(signatures) = object.get_mut("signatures").and_then(Value::as_object_mut) {
        signatures.retain(|entity, _| entity == server);
    }
}

/// Values by key, bounded, read from the store when they are asked for.
pub(super) struct ReadCache<K, V> {
    entries: Cache<K, V>,
    changes: AtomicU64,
}

impl<K: Eq + Hash + Clone, V: Clone> ReadCache<K, V> {
    pub(super) fn new(entries: usize) -> Self {
        Self { entries: Cache::new(entries), changes: AtomicU64::new(0) }
    }

    /// The cached value, or what `read` gives. If something was forgotten during the read, the
    /// result is not kept: it may be older than that.
    fn get_or_read<E>(&self, key: &K, read: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some(value) = self.entries.get(key) {
            return Ok(value);
        }
        let before = self.changes.load(Ordering::SeqCst);
        let value = read()?;
        self.entries.insert(key.clone(), value.clone());
        if self.changes.load(Ordering::SeqCst) != before {
            self.entries.remove(key);
        }
        Ok(value)
    }

    /// To be called after a row was changed.
    fn forget(&self, key: &K) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.entries.remove(key);
    }
}
