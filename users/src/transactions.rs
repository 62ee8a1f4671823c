//! Transaction IDs: a request that is repeated must not happen twice.
//!
//! Spec: Client-Server API §"Transaction identifiers"; Server-Server API §"EDUs" (`message_id`). Events have their own
//! transaction table in `rooms`; this one serves to-device messages.

use sha2::{Digest, Sha256};
use storage::{Batch, Keyspace, Profile};

use crate::DeviceNid;

/// Hash of scope, endpoint and ID → when it was first seen.
pub(crate) const TRANSACTIONS: Keyspace<[u8; 32], u64> = Keyspace::new("user_transactions", Profile::Points);
/// The same by hour since 1970, to forget them.
pub(crate) const TRANSACTIONS_BY_HOUR: Keyspace<(u64, [u8; 32]), ()> =
    Keyspace::new("user_transactions_by_hour", Profile::Log);

/// How long a transaction ID is remembered.
pub(crate) const LIFETIME_HOURS: u64 = 24;
pub(crate) const HOUR_MS: u64 = 3_600_000;

/// Within what a transaction ID is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionScope<'a> {
    /// One of our devices.
    Device(DeviceNid),
    /// Another server.
    Server(&'a str),
}

/// Makes `batch` fail if the transaction was seen before, and remembers it.
pub(crate) fn record_transaction(
    batch: &mut Batch,
    scope: TransactionScope<'_>,
    endpoint: &str,
    id: &str,
    now_ms: u64,
) {
    let hash = hash_transaction(scope, endpoint, id);
    batch.expect_absent(&TRANSACTIONS, &hash);
    batch.put(&TRANSACTIONS, &hash, &now_ms);
    batch.put(&TRANSACTIONS_BY_HOUR, &(now_ms / HOUR_MS, hash), &());
}

pub(crate) fn hash_transaction(scope: TransactionScope<'_>, endpoint: &str, id: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    match scope {
        TransactionScope::Device(device) => {
            hash.update([0]);
            hash.update(device.0.to_be_bytes());
        }
        TransactionScope::Server(server) => {
            hash.update([1]);
            hash.update(server.as_bytes());
            hash.update([0]);
        }
    }
    hash.update(endpoint.as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    hash.finalize().into()
}
