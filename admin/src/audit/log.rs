//! Writing and reading the audit log.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use runtime::Clock;
use serde_json::{Value, json};
use storage::{Batch, Read, Store};

use super::row::{AUDIT, AuditRow, Ending};
use crate::caller::Caller;
use crate::error::AdminError;

/// Numbers of one millisecond.
const NUMBERS_OF_MS: u64 = 1 << 16;
/// The longest arguments and messages that are kept, in bytes.
const MAX_TEXT: usize = 4096;
/// Equal records within this time are one.
const FOLD_MS: u64 = 60_000;
/// How many records can be continued at a time.
const MAX_FOLDING: usize = 4096;
/// How many records one page of a search looks at: no search holds up others.
const MAX_LOOKED_AT: usize = 20_000;

/// The number of a record. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId(pub u64);

impl RecordId {
    /// When it was made, in milliseconds since 1970; a little later where many were made at once.
    #[must_use]
    pub fn time_ms(self) -> u64 {
        self.0 / NUMBERS_OF_MS
    }
}

/// What is to be recorded.
#[derive(Clone, Copy)]
pub struct NewRecord<'a> {
    /// Who, and through what.
    pub caller: &'a Caller,
    /// What.
    pub operation: &'a str,
    /// With which arguments, without secrets: an object.
    pub arguments: &'a Value,
}

/// Which records are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Only before this record.
    pub before: Option<RecordId>,
    /// Only from this time on, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Only before this time, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// Only what this user, `operator` or `server` did.
    pub who: Option<String>,
    /// Only operations whose name begins so.
    pub operation: Option<String>,
    /// Only what names this in its arguments.
    pub target: Option<String>,
    /// Only what ended so.
    pub ending: Option<Ending>,
}

/// Records, the newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<(RecordId, AuditRow)>,
    /// There may be more before this one. Records can be few, or none, where a search looked at many in vain.
    pub next: Option<RecordId>,
}

/// The audit log: cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    last: Mutex<u64>,
    folding: tokio::sync::Mutex<HashMap<FoldKey, (u64, AuditRow)>>,
}

#[derive(PartialEq, Eq, Hash)]
struct FoldKey {
    who: String,
    face: &'static str,
    operation: String,
    arguments: String,
    ending: &'static str,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(store: Store, clock: Clock) -> Result<Audit, AdminError> {
        let last = store.scan(&AUDIT, &()).reverse().keys().next().transpose()?.unwrap_or(0);
        Ok(Audit(Arc::new(Inner { store, clock, last: Mutex::new(last), folding: tokio::sync::Mutex::default() })))
    }

    fn next_id(&self, now_ms: u64) -> u64 {
        let mut last = self.0.last.lock();
        *last = last.saturating_add(1).max(now_ms.saturating_mul(NUMBERS_OF_MS));
        *last
    }

    fn row(at_ms: u64, record: NewRecord<'_>, ending: Ending, message: Option<String>) -> AuditRow {
        AuditRow {
            at_ms,
            last_ms: at_ms,
            who: record.caller.who.to_string(),
            face: record.caller.face,
            operation: record.operation.to_owned(),
            arguments: write_arguments(record.arguments),
            ending,
            message: message.map(shorten),
            count: 1,
        }
    }

    async fn put(&self, id: u64, row: &AuditRow) -> Result<(), AdminError> {
        let mut batch = Batch::new();
        batch.put(&AUDIT, &id, row);
        self.0.store.commit(batch).await?;
        Ok(())
    }

    /// Records that something begins.
    ///
    /// # Errors
    /// If it cannot be written: then it must not begin.
    pub async fn begin(&self, record: NewRecord<'_>) -> Result<RecordId, AdminError> {
        let row = Audit::row(self.0.clock.now_ms(), record, Ending::Begun, None);
        let id = self.next_id(row.at_ms);
        self.put(id, &row).await?;
        Ok(RecordId(id))
    }

    /// Completes the record of something that has begun.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn end(&self, id: RecordId, ending: Ending, message: Option<String>) -> Result<(), AdminError> {
        let Some(row) = self.0.store.get(&AUDIT, &id.0)? else { return Ok(()) };
        let row = AuditRow { ending, message: message.map(shorten), last_ms: self.0.clock.now_ms(), ..row };
        self.put(id.0, &row).await
    }

    /// Records something that is over. The same again within a minute is counted in one record.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn note(&self, record: NewRecord<'_>, ending: Ending, message: Option<String>) -> Result<(), AdminError> {
        self.note_at(self.0.clock.now_ms(), record, ending, message).await
    }

    /// Like [`Audit::note`], of what happened at `at_ms` and is written only now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn note_at(
        &self,
        at_ms: u64,
        record: NewRecord<'_>,
        ending: Ending,
        message: Option<String>,
    ) -> Result<(), AdminError> {
        let row = Audit::row(at_ms, record, ending, message);
        let key = FoldKey {
            who: row.who.clone(),
            face: row.face.name(),
            operation: row.operation.clone(),
            arguments: row.arguments.clone(),
            ending: ending.name(),
        };
        let mut folding = self.0.folding.lock().await;
        let now_ms = row.at_ms;
        let (id, row) = match folding.get(&key) {
            Some((id, before)) if now_ms.saturating_sub(before.at_ms) < FOLD_MS => {
                (*id, AuditRow { count: before.count.saturating_add(1), last_ms: now_ms, ..before.clone() })
            }
            _ => (self.next_id(now_ms), row),
        };
        if folding.len() >= MAX_FOLDING {
            folding.retain(|_, (_, row)| now_ms.saturating_sub(row.at_ms) < FOLD_MS);
        }
        if folding.len() < MAX_FOLDING {
            folding.insert(key, (id, row.clone()));
        }
        self.put(id, &row).await
    }

    /// Searches, from the newest to the oldest.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn search(&self, query: &AuditQuery, limit: usize) -> Result<AuditPage, AdminError> {
        let mut scan = self.0.store.scan(&AUDIT, &()).reverse();
        if let Some(since_ms) = query.since_ms {
            scan = scan.from(&since_ms.saturating_mul(NUMBERS_OF_MS));
        }
        if let Some(until_ms) = query.until_ms {
            scan = scan.until(&until_ms.saturating_mul(NUMBERS_OF_MS));
        }
        if let Some(before) = query.before {
            scan = scan.until(&before.0);
        }
        let mut page = AuditPage::default();
        for (looked_at, row) in scan.iter().enumerate() {
            let (id, row) = row?;
            if query.fits(&row) {
                page.records.push((RecordId(id), row));
            }
            if page.records.len() >= limit || looked_at + 1 >= MAX_LOOKED_AT {
                page.next = Some(RecordId(id));
                break;
            }
        }
        Ok(page)
    }

    /// Takes out what is older than its time, at most some thousand records. Returns how many.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_before(&self, ms: u64) -> Result<usize, AdminError> {
        let mut batch = Batch::new();
        let mut count = 0;
        for id in self.0.store.scan(&AUDIT, &()).until(&ms.saturating_mul(NUMBERS_OF_MS)).keys().take(MAX_FOLDING) {
            batch.delete(&AUDIT, &id?);
            count += 1;
        }
        if count > 0 {
            self.0.store.commit(batch).await?;
        }
        Ok(count)
    }
}

impl AuditQuery {
    fn fits(&self, row: &AuditRow) -> bool {
        self.who.as_ref().is_none_or(|who| *who == row.who)
            && self.operation.as_ref().is_none_or(|operation| row.operation.starts_with(operation.as_str()))
            && self.ending.is_none_or(|ending| ending == row.ending)
            && self.target.as_ref().is_none_or(|target| names_target(&row.arguments, target))
    }
}

/// Whether arguments name a thing. A user of this server may have been named without the server.
fn names_target(arguments: &str, target: &str) -> bool {
    let Ok(Value::Object(arguments)) = serde_json::from_str(arguments) else { return false };
    let localpart = target.strip_prefix('@').and_then(|user| user.split(':').next());
    let is_named = |value: &Value| value.as_str().is_some_and(|text| text.contains(target) || localpart == Some(text));
    arguments.values().any(|value| match value {
        Value::Array(values) => values.iter().any(is_named),
        value => is_named(value),
    })
}

fn write_arguments(arguments: &Value) -> String {
    let arguments = match arguments {
        Value::Object(fields) => fields.iter().filter(|(_, value)| !value.is_null() && **value != json!(false)),
        _ => return "{}".to_owned(),
    };
    let arguments: serde_json::Map<String, Value> =
        arguments.map(|(name, value)| (name.clone(), value.clone())).collect();
    let text = Value::Object(arguments).to_string();
    if text.len() <= MAX_TEXT { text } else { json!({"shortened": shorten(text)}).to_string() }
}

fn shorten(text: String) -> String {
    if text.len() <= MAX_TEXT {
        return text;
    }
    text.chars().take(MAX_TEXT / 8).chain("…".chars()).collect()
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}
