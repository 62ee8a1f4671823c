//! Checking the batches of a group against the store and against each other.

use std::collections::HashMap;

use crate::{
    Batch, CommitError, Corrupt, StorageError, StreamPos, Value, ValueBuf,
    backend::{Engine, GroupWrite, View},
    batch::{Change, Operation},
    directory::KeyspaceIndex,
};

/// The rows that earlier batches of the group have changed but not yet written; `None` is a removed row.
///
/// Kept only if a later batch of the group can ask for them.
pub(super) struct Overlay {
    rows: Option<HashMap<RowAddress, Option<Vec<u8>>>>,
}

type RowAddress = (KeyspaceIndex, Vec<u8>);

impl Overlay {
    pub(super) fn for_group<'a>(batches: impl Iterator<Item = &'a Batch>) -> Self {
        let asked = batches.skip(1).any(|batch| batch.has_additions || !batch.expectations.is_empty());
        Overlay { rows: asked.then(HashMap::new) }
    }

    /// Checks the expectations, writes `pos` into the rows, and turns additions into plain values.
    pub(super) fn check_batch(&self, batch: &mut Batch, pos: StreamPos, view: View<'_>) -> Result<(), CommitError> {
        for expectation in &batch.expectations {
            let (key, value) = (expectation.key.as_slice(), expectation.value.as_deref());
            let met = self.read(expectation.index, key, view, |found| found == value).map_err(failed)?;
            if !met {
                return Err(CommitError::Expectation { keyspace: expectation.keyspace.name });
            }
        }
        batch.stamp(pos);
        if batch.has_additions {
            let sums = self.compute_sums(&batch.operations, view).map_err(failed)?;
            for (at, sum) in sums {
                if let Some(operation) = batch.operations.get_mut(at) {
                    operation.change = Change::Put(encode(sum));
                }
            }
        }
        Ok(())
    }

    /// The value after each addition, by index of the operation.
    fn compute_sums(&self, operations: &[Operation], view: View<'_>) -> Result<Vec<(usize, i64)>, StorageError> {
        let mut latest: HashMap<(KeyspaceIndex, &[u8]), Latest<'_>> = HashMap::new();
        let mut sums = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            let place = (operation.index, operation.key.as_slice());
            let value = match &operation.change {
                Change::Put(value) => Latest::Bytes(value.as_slice()),
                Change::Delete => Latest::Sum(0),
                Change::Add(amount) => {
                    let before = match latest.get(&place) {
                        Some(Latest::Sum(sum)) => Ok(*sum),
                        Some(Latest::Bytes(bytes)) => decode(Some(bytes)),
                        None => self.read(place.0, place.1, view, decode)?,
                    };
                    let before = before
                        .map_err(|source| StorageError::Corrupt { keyspace: operation.keyspace_name(), source })?;
                    let sum = before.saturating_add(*amount);
                    sums.push((at, sum));
                    Latest::Sum(sum)
                }
            };
            latest.insert(place, value);
        }
        Ok(sums)
    }

    fn read<R>(
        &self,
        index: KeyspaceIndex,
        key: &[u8],
        view: View<'_>,
        read: impl Fn(Option<&[u8]>) -> R,
    ) -> Result<R, StorageError> {
        if let Some(rows) = &self.rows
            && let Some(row) = rows.get(&(index, key.to_vec()))
        {
            return Ok(read(row.as_deref()));
        }
        let found = view.get_with(index, key, |value| read(Some(value)))?;
        Ok(found.unwrap_or_else(|| read(None)))
    }

    /// Remembers the rows of a batch that passed its checks.
    pub(super) fn remember(&mut self, batch: &Batch) {
        let Some(rows) = &mut self.rows else { return };
        for operation in &batch.operations {
            let value = match &operation.change {
                Change::Put(value) => Some(value.as_slice().to_vec()),
                Change::Delete | Change::Add(_) => None,
            };
            rows.insert((operation.index, operation.key.as_slice().to_vec()), value);
        }
    }
}

enum Latest<'a> {
    Bytes(&'a [u8]),
    Sum(i64),
}

fn decode(bytes: Option<&[u8]>) -> Result<i64, Corrupt> {
    bytes.map_or(Ok(0), i64::decode)
}

fn encode(sum: i64) -> ValueBuf {
    let mut out = ValueBuf::new();
    sum.encode(&mut out);
    out
}

fn failed(error: StorageError) -> CommitError {
    CommitError::Failed(std::sync::Arc::new(error))
}

/// Adds the rows of a checked batch to the group's write.
pub(super) fn write_batch(engine: &Engine, write: &mut GroupWrite, batch: &Batch) -> Result<(), StorageError> {
    for operation in &batch.operations {
        let key = operation.key.as_slice();
        match &operation.change {
            Change::Put(value) => engine.put(write, operation.index, key, value.as_slice())?,
            Change::Delete => engine.delete(write, operation.index, key)?,
            // `check_batch` has turned every addition into a put.
            Change::Add(_) => return Err(StorageError::backend("write", "an addition was not resolved")),
        }
    }
    Ok(())
}
