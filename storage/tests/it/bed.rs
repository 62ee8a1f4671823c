//! A place where a store can be opened again and again.

use std::time::Duration;

use storage::{
    Backend, Batch, Durability, FailPoints, Keyspace, KeyspaceInfo, MemoryDisk, Options, Profile, Stamped, Store,
    StreamPos,
};

pub const NAMES: Keyspace<String, u64> = Keyspace::new("names", Profile::Points);
pub const COUNTS: Keyspace<(u64, String), i64> = Keyspace::new("counts", Profile::Points);
pub const LOG: Keyspace<(u64, StreamPos), Stamped<String>> = Keyspace::new("log", Profile::Log);
pub const GRID: Keyspace<(u8, u8, u8), u32> = Keyspace::new("grid", Profile::Log);
pub const SINGLE: Keyspace<(), Vec<u8>> = Keyspace::new("single", Profile::Blobs);
pub const KEYSPACES: &[KeyspaceInfo] = &[NAMES.info(), COUNTS.info(), LOG.info(), GRID.info(), SINGLE.info()];

pub enum Bed {
    Memory(MemoryDisk),
    Rocks(tempfile::TempDir),
}

impl Bed {
    pub fn memory() -> Self {
        Bed::Memory(MemoryDisk::new())
    }

    pub fn rocks() -> Self {
        Bed::Rocks(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn options(&self) -> Options {
        let backend = match self {
            Bed::Memory(disk) => Backend::MemoryDisk(disk.clone()),
            Bed::Rocks(folder) => Backend::Rocks { path: folder.path().join("db") },
        };
        let mut options = Options::new(backend, KEYSPACES.to_vec());
        // Fewer disk syncs make the suite fast; tests of `Always` ask for it.
        options.durability = Durability::Interval(Duration::from_millis(50));
        options
    }

    pub fn open(&self) -> Store {
        Store::open(self.options()).expect("the store opens")
    }

    pub fn open_with(&self, fail_points: FailPoints) -> Store {
        let mut options = self.options();
        options.fail_points = Some(fail_points);
        Store::open(options).expect("the store opens")
    }
}

pub fn named(name: &str, value: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(&NAMES, &name.to_owned(), &value);
    batch
}
