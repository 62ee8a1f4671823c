//! A set of changes that is committed as a whole.

use smallvec::SmallVec;

use crate::{
    CommitError, KeyBuf, Keyspace, KeyspaceInfo, RowKey, StreamPos, Topic, Value, ValueBuf,
    directory::{Directory, KeyspaceIndex},
};

#[cfg(test)]
mod tests;

/// The largest value, in bytes: the limit of the weakest backend planned, a little below its 100,000.
pub const MAX_VALUE_BYTES: usize = 96 * 1024;
/// The largest batch, in bytes of keys and values.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The largest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// Changes, the conditions under which they may happen, and whom they concern.
///
/// Operations apply in the order they were added. Conditions are checked against the state before the batch.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) operations: Vec<Operation>,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) topics: SmallVec<[Topic; 4]>,
    pub(crate) bytes: usize,
    pub(crate) has_additions: bool,
    refused: Option<CommitError>,
}

#[derive(Debug)]
pub(crate) struct Operation {
    keyspace: KeyspaceInfo,
    pub(crate) index: KeyspaceIndex,
    pub(crate) key: KeyBuf,
    pub(crate) change: Change,
}

#[derive(Debug)]
pub(crate) enum Change {
    Put(ValueBuf),
    Delete,
    Add(i64),
}

#[derive(Debug)]
pub(crate) struct Expectation {
    pub(crate) keyspace: KeyspaceInfo,
    pub(crate) index: KeyspaceIndex,
    pub(crate) key: KeyBuf,
    /// `None`: the row must be absent.
    pub(crate) value: Option<Vec<u8>>,
}

impl Batch {
    /// A batch that changes nothing (and still takes a position when committed).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.expectations.is_empty() && self.topics.is_empty()
    }

    /// The bytes of keys and values so far, to split work before [`MAX_BATCH_BYTES`].
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// Writes a row, replacing what was there.
    pub fn put<K: RowKey, V: Value>(&mut self, keyspace: &Keyspace<K, V>, key: &K, value: &V) -> &mut Self {
        let mut encoded = ValueBuf::new();
        value.encode(&mut encoded);
        self.push(keyspace.info(), key, Change::Put(encoded))
    }

    /// Removes a row, if it is there.
    pub fn delete<K: RowKey, V>(&mut self, keyspace: &Keyspace<K, V>, key: &K) -> &mut Self {
        self.push(keyspace.info(), key, Change::Delete)
    }

    /// Adds to a counter; a missing row counts as 0, and sums stop at the ends of the range.
    pub fn add<K: RowKey>(&mut self, keyspace: &Keyspace<K, i64>, key: &K, amount: i64) -> &mut Self {
        self.has_additions = true;
        self.push(keyspace.info(), key, Change::Add(amount))
    }

    /// The batch is committed only if the row does not exist.
    pub fn expect_absent<K: RowKey, V>(&mut self, keyspace: &Keyspace<K, V>, key: &K) -> &mut Self {
        self.push_expectation(keyspace.info(), key, None)
    }

    /// The batch is committed only if the row exists with exactly this value.
    pub fn expect_equals<K: RowKey, V: Value>(&mut self, keyspace: &Keyspace<K, V>, key: &K, value: &V) -> &mut Self {
        let mut encoded = ValueBuf::new();
        value.encode(&mut encoded);
        self.push_expectation(keyspace.info(), key, Some(encoded.into_bytes()))
    }

    /// Names whom the batch concerns; each topic is published once.
    pub fn touch(&mut self, topic: Topic) -> &mut Self {
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
        self
    }

    fn push<K: RowKey>(&mut self, keyspace: KeyspaceInfo, key: &K, change: Change) -> &mut Self {
        let mut encoded = KeyBuf::new();
        key.encode_row(&mut encoded);
        let value_bytes = match &change {
            Change::Put(value) => {
                if value.has_failed() {
                    self.refuse(CommitError::Unencodable { keyspace: keyspace.name });
                }
                value.as_slice().len()
            }
            Change::Delete => 0,
            Change::Add(_) => size_of::<i64>(),
        };
        self.check("value", keyspace, value_bytes, MAX_VALUE_BYTES);
        self.count(keyspace, &encoded, value_bytes);
        self.operations.push(Operation { keyspace, index: 0, key: encoded, change });
        self
    }

    fn push_expectation<K: RowKey>(&mut self, keyspace: KeyspaceInfo, key: &K, value: Option<Vec<u8>>) -> &mut Self {
        let mut encoded = KeyBuf::new();
        key.encode_row(&mut encoded);
        self.count(keyspace, &encoded, value.as_ref().map_or(0, Vec::len));
        self.expectations.push(Expectation { keyspace, index: 0, key: encoded, value });
        self
    }

    fn count(&mut self, keyspace: KeyspaceInfo, key: &KeyBuf, value_bytes: usize) {
        let key_bytes = key.as_slice().len();
        self.check("key", keyspace, key_bytes, MAX_KEY_BYTES);
        self.bytes += key_bytes + value_bytes;
        self.check("batch", keyspace, self.bytes, MAX_BATCH_BYTES);
    }

    fn check(&mut self, what: &'static str, keyspace: KeyspaceInfo, bytes: usize, limit: usize) {
        if bytes > limit {
            self.refuse(CommitError::TooLarge { what, keyspace: keyspace.name, bytes, limit });
        }
    }

    fn refuse(&mut self, error: CommitError) {
        self.refused.get_or_insert(error);
    }

    /// Reports what was wrong with the batch and finds its keyspaces, on the caller's thread.
    pub(crate) fn prepare(&mut self, directory: &Directory) -> Result<(), CommitError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        let find =
            |keyspace: KeyspaceInfo| directory.find(keyspace).map_err(|_| CommitError::UnknownKeyspace(keyspace.name));
        for operation in &mut self.operations {
            operation.index = find(operation.keyspace)?;
        }
        for expectation in &mut self.expectations {
            expectation.index = find(expectation.keyspace)?;
        }
        Ok(())
    }

    /// Writes the batch's position wherever a row left room for it.
    pub(crate) fn stamp(&mut self, pos: StreamPos) {
        for operation in &mut self.operations {
            operation.key.patch(pos);
            if let Change::Put(value) = &mut operation.change {
                value.patch(pos);
            }
        }
    }
}

impl Operation {
    pub(crate) fn keyspace_name(&self) -> &'static str {
        self.keyspace.name
    }
}
