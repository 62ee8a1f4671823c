//! Ordered key-value storage: typed keyspaces, atomic batches, snapshots and one log of positions.
//!
//! Invariants of this crate:
//!
//! - **One batch, one position.** Every committed [`Batch`] gets exactly one [`StreamPos`]. Positions start at 1,
//!   are dense, survive a restart and are published (`Store::visible`, commit observers) only after the batch is written.
//! - **All or nothing.** The rows of a batch, and the position itself, are in one atomic write. A batch whose
//!   expectation fails writes nothing and takes no position; it does not disturb the batches it was grouped with.
//! - **After a failed write nothing more is accepted.** What reached the disk is unknown then, so the store refuses
//!   further commits until it is opened again.
//! - **Keys sort like their values.** The byte order of an encoded key is the order of the typed key, and the
//!   encoding of a leading part of a tuple key is a byte prefix of exactly the keys that start with that part.
//! - **Both backends obey the same limits** ([`MAX_VALUE_BYTES`], [`MAX_BATCH_BYTES`], [`MAX_KEY_BYTES`]), which are
//!   those of the weakest backend planned, so that code tested on one runs on all.
//!
//! The crate knows nothing of Matrix, has no clock and no async runtime: commits are numbered by one thread of its
//! own and answered through a channel that any executor can wait on. Reads are synchronous and run on the caller.

mod backend;
mod batch;
mod block_on;
mod committer;
mod directory;
mod error;
mod fail_point;
mod figures;
mod key;
mod keyspace;
mod position;
mod read;
mod scan;
mod store;
mod value;

pub use backend::MemoryDisk;
pub use batch::{Batch, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
pub use committer::{CommitObserver, Committed};
pub use error::{BackupError, CommitError, Corrupt, OpenError, StorageError};
pub use fail_point::{FailAction, FailPoints, FailStep};
pub use figures::{GroupFigures, StoreFigures};
pub use key::{Key, KeyBuf, KeyPrefix, KeyReader, RowKey};
pub use keyspace::{Keyspace, KeyspaceInfo, Profile};
pub use position::{StreamPos, Topic};
pub use read::Read;
pub use scan::{Scan, ScanIter};
pub use store::{Backend, CommitWatch, Durability, Options, Snapshot, Store};
pub use value::{Stamped, Value, ValueBuf, decode_versioned, encode_versioned};

/// Used by the [`nid!`] macro, so that its callers need no dependency of their own.
#[doc(hidden)]
pub use serde as __serde;
