//! Rows in memory, for tests: a tree per keyspace, copied on write while a snapshot holds it.

use std::{collections::BTreeMap, ops::Bound, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::{
    OpenError,
    backend::{ByteRange, EncodedRow},
    directory::{Directory, KeyspaceIndex},
};

type Table = BTreeMap<Bytes, Bytes>;

/// How long [`MemoryDisk::wait_until_free`] waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a memory store keeps when it is closed or crashes: open another store on a clone to restart it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Disk>);

#[derive(Debug, Default)]
struct Disk {
    tables: RwLock<Vec<(&'static str, Arc<Table>)>>,
    in_use: Mutex<bool>,
    freed: Condvar,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks the thread until no store is open on the disk, a minute at most; `false` if one still is. After a stop the
    /// last handle may live a moment longer: a computation that nobody waits for any more has it.
    #[must_use]
    pub fn wait_until_free(&self) -> bool {
        let mut in_use = self.0.in_use.lock();
        self.0.freed.wait_while_for(&mut in_use, |in_use| *in_use, PATIENCE);
        !*in_use
    }
}

/// One open memory store.
#[derive(Debug)]
pub(crate) struct Memory {
    disk: Arc<Disk>,
    /// Keyspace number to place in `Disk::tables`, whose entries never move.
    places: Vec<usize>,
}

impl Memory {
    pub(crate) fn open(disk: &MemoryDisk, directory: &Directory) -> Result<Self, OpenError> {
        let disk = disk.0.clone();
        if std::mem::replace(&mut *disk.in_use.lock(), true) {
            return Err(OpenError::Locked { path: Path::new("(memory)").to_owned() });
        }
        let mut tables = disk.tables.write();
        let places = directory
            .names()
            .iter()
            .map(|name| {
                tables.iter().position(|(existing, _)| existing == name).unwrap_or_else(|| {
                    tables.push((*name, Arc::default()));
                    tables.len() - 1
                })
            })
            .collect();
        drop(tables);
        Ok(Memory { disk, places })
    }

    fn table(&self, index: KeyspaceIndex) -> Arc<Table> {
        let tables = self.disk.tables.read();
        self.places
            .get(usize::from(index))
            .and_then(|at| tables.get(*at))
            .map(|(_, table)| table.clone())
            .unwrap_or_default()
    }

    pub(crate) fn get(&self, index: KeyspaceIndex, key: &[u8]) -> Option<Bytes> {
        // The value is cloned out, so that the caller's closure never runs under the lock.
        let tables = self.disk.tables.read();
        tables.get(*self.places.get(usize::from(index))?)?.1.get(key).cloned()
    }

    pub(crate) fn cursor(&self, index: KeyspaceIndex, range: &ByteRange, reverse: bool) -> MemoryCursor {
        MemoryCursor::new(self.table(index), range, reverse)
    }

    pub(crate) fn bytes(&self, index: KeyspaceIndex, range: &ByteRange) -> u64 {
        let upper = range.upper.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let table = self.table(index);
        let rows = table.range::<[u8], _>((Bound::Included(range.lower.as_slice()), upper));
        rows.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    pub(crate) fn snapshot(&self) -> MemorySnapshot {
        let tables = self.disk.tables.read();
        MemorySnapshot {
            tables: self
                .places
                .iter()
                .map(|at| tables.get(*at).map(|(_, table)| table.clone()).unwrap_or_default())
                .collect(),
        }
    }

    pub(crate) fn write(&self, changes: &mut Vec<Change>) {
        let mut tables = self.disk.tables.write();
        for change in changes.drain(..) {
            let Some((_, table)) = self.places.get(usize::from(change.index)).and_then(|at| tables.get_mut(*at)) else {
                continue;
            };
            let table = Arc::make_mut(table);
            match change.value {
                Some(value) => {
                    table.insert(change.key, value);
                }
                None => {
                    table.remove(&change.key);
                }
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        *self.disk.in_use.lock() = false;
        self.disk.freed.notify_all();
    }
}

/// A change to one row; no value removes it.
#[derive(Debug)]
pub(crate) struct Change {
    index: KeyspaceIndex,
    key: Bytes,
    value: Option<Bytes>,
}

impl Change {
    pub(crate) fn put(index: KeyspaceIndex, key: &[u8], value: &[u8]) -> Self {
        Change { index, key: Bytes::copy_from_slice(key), value: Some(Bytes::copy_from_slice(value)) }
    }

    pub(crate) fn delete(index: KeyspaceIndex, key: &[u8]) -> Self {
        Change { index, key: Bytes::copy_from_slice(key), value: None }
    }
}

/// The tables as they were.
pub(crate) struct MemorySnapshot {
    tables: Vec<Arc<Table>>,
}

impl MemorySnapshot {
    pub(crate) fn get(&self, index: KeyspaceIndex, key: &[u8]) -> Option<&Bytes> {
        self.tables.get(usize::from(index))?.get(key)
    }

    pub(crate) fn cursor(&self, index: KeyspaceIndex, range: &ByteRange, reverse: bool) -> MemoryCursor {
        let table = self.tables.get(usize::from(index)).cloned().unwrap_or_default();
        MemoryCursor::new(table, range, reverse)
    }
}

const PAGE: usize = 64;

/// Walks a table page by page: the page is owned, so that no borrow of the tree is kept.
pub(crate) struct MemoryCursor {
    table: Arc<Table>,
    lower: Bound<Bytes>,
    upper: Bound<Bytes>,
    reverse: bool,
    page: Vec<(Bytes, Bytes)>,
    next: usize,
}

impl MemoryCursor {
    fn new(table: Arc<Table>, range: &ByteRange, reverse: bool) -> Self {
        let lower = Bound::Included(Bytes::copy_from_slice(&range.lower));
        let upper = match &range.upper {
            Some(upper) => Bound::Excluded(Bytes::copy_from_slice(upper)),
            None => Bound::Unbounded,
        };
        MemoryCursor { table, lower, upper, reverse, page: Vec::new(), next: 0 }
    }

    pub(crate) fn advance(&mut self) -> Option<EncodedRow<'_>> {
        if self.next == self.page.len() {
            self.load_page();
        }
        let (key, value) = self.page.get(self.next)?;
        self.next += 1;
        Some((key, value))
    }

    fn load_page(&mut self) {
        if let Some((last, _)) = self.page.pop() {
            *(if self.reverse { &mut self.upper } else { &mut self.lower }) = Bound::Excluded(last);
        }
        self.page.clear();
        self.next = 0;
        if let (Bound::Excluded(lower), Bound::Excluded(upper)) = (&self.lower, &self.upper)
            && lower >= upper
        {
            return;
        }
        let rows = self.table.range((self.lower.clone(), self.upper.clone()));
        let copy = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        if self.reverse {
            self.page.extend(rows.rev().take(PAGE).map(copy));
        } else {
            self.page.extend(rows.take(PAGE).map(copy));
        }
    }
}
