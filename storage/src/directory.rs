//! Finds the number of a keyspace in one store.

use crate::{KeyspaceInfo, OpenError, StorageError};

/// The number of a keyspace in this store. 0 is the store's own.
pub(crate) type KeyspaceIndex = u16;

/// RocksDB insists on a column family of this name: it holds the store's own rows.
pub(crate) const RESERVED_NAME: &str = "default";
pub(crate) const RESERVED: KeyspaceIndex = 0;

/// An open-addressing table from the compile-time hash of a name to its number.
#[derive(Debug)]
pub(crate) struct Directory {
    slots: Box<[Option<(u64, KeyspaceIndex)>]>,
    names: Box<[&'static str]>,
}

impl Directory {
    pub(crate) fn new(keyspaces: &[KeyspaceInfo]) -> Result<Self, OpenError> {
        let mut slots = vec![None; (keyspaces.len() * 4).next_power_of_two().max(16)];
        let mut names = vec![RESERVED_NAME];
        for keyspace in keyspaces {
            if names.contains(&keyspace.name) {
                return Err(OpenError::KeyspaceName(keyspace.name));
            }
            let index = u16::try_from(names.len()).map_err(|_| OpenError::KeyspaceName(keyspace.name))?;
            names.push(keyspace.name);
            let mut at = keyspace.hash as usize & (slots.len() - 1);
            // Names are distinct here, so an equal hash is a collision, which lookups could not tell apart.
            while let Some((hash, _)) = slots[at] {
                if hash == keyspace.hash {
                    return Err(OpenError::KeyspaceName(keyspace.name));
                }
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at] = Some((keyspace.hash, index));
        }
        Ok(Directory { slots: slots.into(), names: names.into() })
    }

    pub(crate) fn find(&self, keyspace: KeyspaceInfo) -> Result<KeyspaceIndex, StorageError> {
        let mask = self.slots.len() - 1;
        let mut at = keyspace.hash as usize & mask;
        // The table is at most a quarter full, so the walk always meets an empty slot.
        while let Some((hash, index)) = self.slots[at] {
            if hash == keyspace.hash {
                return Ok(index);
            }
            at = (at + 1) & mask;
        }
        Err(StorageError::UnknownKeyspace(keyspace.name))
    }

    /// All names by number, the reserved one first.
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }
}
