//! Opening a RocksDB database, and telling the operator why it could not be.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rust_rocksdb::{
    BoundColumnFamily, Cache, ColumnFamilyDescriptor, Error, ErrorKind, IteratorMode, Options, WriteOptions,
};

use super::{
    Db, Rocks,
    tuning::{database_options, keyspace_options},
};
use crate::{
    KeyspaceInfo, OpenError, Profile,
    directory::{Directory, RESERVED_NAME},
};

/// The format of keys, values and reserved rows; a change needs a migration.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";

/// How to open a RocksDB database.
pub(crate) struct RocksOptions<'a> {
    pub(crate) path: &'a Path,
    pub(crate) keyspaces: &'a [KeyspaceInfo],
    pub(crate) cache_bytes: usize,
    pub(crate) write_buffer_bytes: usize,
    /// Whether each write waits until it is on the disk.
    pub(crate) sync_writes: bool,
}

impl Rocks {
    pub(crate) fn open(options: &RocksOptions<'_>, directory: &Directory) -> Result<Self, OpenError> {
        let path = options.path;
        std::fs::create_dir_all(path).map_err(|error| explain_io(path, &error))?;
        let existing = path.join("CURRENT").exists();
        let database = database_options(options.write_buffer_bytes);
        let db = open_families(&database, options, existing)?;
        check_format(&db, path)?;

        let mut families = Vec::with_capacity(directory.names().len());
        for name in directory.names() {
            let family = db.cf_handle(name).ok_or_else(|| OpenError::Backend {
                path: path.to_owned(),
                detail: format!("column family {name} was not created"),
            })?;
            // SAFETY: only the lifetime changes. The handle belongs to `db`, which moves into the same struct after
            // it (field order: handles are dropped first) and never drops a column family while open; the handle is
            // a pointer into memory of RocksDB, which moving `db` does not move.
            #[expect(unsafe_code, reason = "a handle kept next to its database saves a locked lookup per read")]
            let family =
                unsafe { std::mem::transmute::<Arc<BoundColumnFamily<'_>>, Arc<BoundColumnFamily<'static>>>(family) };
            families.push(family);
        }
        let mut write_options = WriteOptions::default();
        write_options.set_sync(options.sync_writes);
        Ok(Rocks { families, write_options, db })
    }
}

/// Opens all declared keyspaces, and those that only the database knows: RocksDB insists on all of them.
fn open_families(database: &Options, options: &RocksOptions<'_>, existing: bool) -> Result<Db, OpenError> {
    let path = options.path;
    let cache = Cache::new_hyper_clock_cache(options.cache_bytes, 0);
    let mut unknown = Vec::new();
    if existing {
        unknown = Db::list_cf(database, path).map_err(|error| explain(path, &error))?;
        let listed = unknown.len();
        unknown.retain(|name| name != RESERVED_NAME && options.keyspaces.iter().all(|known| known.name != *name));
        if unknown.len() + 1 == listed {
            // None of our keyspaces: look before creating them in what may be another software's database.
            let reserved = Db::open_cf_for_read_only(database, path, [RESERVED_NAME], false);
            read_format(&reserved.map_err(|error| explain(path, &error))?, path)?;
        }
    }
    let declared = options.keyspaces.iter().map(|keyspace| (keyspace.name.to_owned(), keyspace.profile));
    let families = declared
        .chain(unknown.into_iter().map(|name| (name, Profile::Points)))
        .chain([(RESERVED_NAME.to_owned(), Profile::Points)])
        .map(|(name, profile)| ColumnFamilyDescriptor::new(name, keyspace_options(profile, &cache)));
    Db::open_cf_descriptors(database, path, families).map_err(|error| explain(path, &error))
}

/// Whether the database states our format; an empty one may still get it.
fn read_format(db: &Db, path: &Path) -> Result<bool, OpenError> {
    match db.get(FORMAT_KEY).map_err(|error| explain(path, &error))? {
        Some(bytes) => match <[u8; 4]>::try_from(bytes).map(u32::from_be_bytes) {
            Ok(FORMAT) => Ok(true),
            Ok(found) => Err(OpenError::WrongFormat { path: path.to_owned(), found, supported: FORMAT }),
            Err(_) => Err(OpenError::Foreign { path: path.to_owned() }),
        },
        // A start that was interrupted before the format was written left an empty database: it may be used.
        None if db.iterator(IteratorMode::Start).next().is_some() => Err(OpenError::Foreign { path: path.to_owned() }),
        None => Ok(false),
    }
}

fn check_format(db: &Db, path: &Path) -> Result<(), OpenError> {
    if read_format(db, path)? {
        return Ok(());
    }
    let mut durable = WriteOptions::default();
    durable.set_sync(true);
    db.put_opt(FORMAT_KEY, FORMAT.to_be_bytes(), &durable).map_err(|error| explain(path, &error))
}

/// RocksDB says most of what matters in text only.
fn explain(path: &Path, error: &Error) -> OpenError {
    let detail = error.to_string();
    let path: PathBuf = path.to_owned();
    if detail.contains("LOCK:") && (detail.contains("temporarily unavailable") || detail.contains("lock hold")) {
        OpenError::Locked { path }
    } else if detail.contains("Permission denied") || detail.contains("Read-only file system") {
        OpenError::Denied { path, detail }
    } else if error.kind() == ErrorKind::Corruption {
        OpenError::Damaged { path, detail }
    } else {
        OpenError::Backend { path, detail }
    }
}

fn explain_io(path: &Path, error: &io::Error) -> OpenError {
    let (path, detail) = (path.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::Denied { path, detail },
        _ => OpenError::Backend { path, detail },
    }
}
