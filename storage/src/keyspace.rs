//! Keyspaces: typed names for the tables of the store.

use std::marker::PhantomData;

/// How the rows of a keyspace are used; the backend tunes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Small rows read one by one in random order, often asked for when absent.
    Points,
    /// Rows written in key order and read by scans: timelines, change logs.
    Log,
    /// Large rows, rarely read.
    Blobs,
}

/// The untyped description of a keyspace, listed when a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct KeyspaceInfo {
    /// Unique over all crates; part of the stored format.
    pub name: &'static str,
    /// The tuning.
    pub profile: Profile,
    pub(crate) hash: u64,
}

/// A table with keys `K` and values `V`, declared as a constant by the crate that owns it.
pub struct Keyspace<K, V> {
    info: KeyspaceInfo,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Keyspace<K, V> {
    /// Declares a keyspace.
    #[must_use]
    pub const fn new(name: &'static str, profile: Profile) -> Self {
        Keyspace { info: KeyspaceInfo { name, profile, hash: hash_name(name) }, types: PhantomData }
    }

    /// The entry for the `KEYSPACES` list of the owning crate.
    #[must_use]
    pub const fn info(&self) -> KeyspaceInfo {
        self.info
    }

    /// The name given to [`Keyspace::new`].
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.info.name
    }
}

impl<K, V> std::fmt::Debug for Keyspace<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keyspace").field(&self.info.name).finish()
    }
}

/// FNV-1a, computed at compile time so that finding a keyspace at run time never hashes text.
const fn hash_name(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        hash ^= bytes[at] as u64;
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}
