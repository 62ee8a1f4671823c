//! The store: opening, committing, snapshots, closing.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{
    BackupError, Batch, CommitError, FailPoints, GroupFigures, KeyBuf, KeyPrefix, Keyspace, KeyspaceInfo, MemoryDisk,
    OpenError, RowKey, StorageError, StoreFigures, StreamPos,
    backend::{ByteRange, Engine, Frozen, Memory, Rocks, RocksOptions},
    block_on::block_on,
    committer::{CommitObserver, Committer, Message, Reply, Shared, read_position},
    directory::{Directory, KeyspaceIndex},
    key::end_of_prefix,
    read::Reader,
};

/// Batches that may wait for the committer before `commit` itself waits.
const QUEUE_LENGTH: usize = 512;

/// Which database holds the rows.
#[derive(Clone, Debug)]
pub enum Backend {
    /// RocksDB in this folder, which is created if it is missing.
    Rocks {
        /// The folder; nothing else may be in it.
        path: PathBuf,
    },
    /// Memory; gone when the store is dropped.
    Memory,
    /// Memory that outlives the store, to restart one in tests.
    MemoryDisk(MemoryDisk),
}

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk: it survives a power failure. Batches that wait together share one disk sync.
    Always,
    /// When the operating system has it: it survives a crash of the process; a power failure loses at most this much.
    Interval(Duration),
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which database.
    pub backend: Backend,
    /// When a commit counts as done. The memory backend ignores it.
    pub durability: Durability,
    /// Every keyspace that will be used: the `KEYSPACES` lists of all crates.
    pub keyspaces: Vec<KeyspaceInfo>,
    /// Size of the block cache, in bytes.
    pub cache_bytes: usize,
    /// Size of all write buffers together, in bytes.
    pub write_buffer_bytes: usize,
    /// For crash tests.
    pub fail_points: Option<FailPoints>,
}

impl Options {
    /// The defaults: durable commits, 32 MiB of cache, 32 MiB of write buffers.
    #[must_use]
    pub fn new(backend: Backend, keyspaces: Vec<KeyspaceInfo>) -> Self {
        Options {
            backend,
            durability: Durability::Always,
            keyspaces,
            cache_bytes: 32 * 1024 * 1024,
            write_buffer_bytes: 32 * 1024 * 1024,
            fail_points: None,
        }
    }
}

/// A handle to an open store; clones share it. When the last one is dropped the store is closed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    directory: Arc<Directory>,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// Sees whether commits of a store are under way, without keeping it open: for simulations, whose time stands still
/// meanwhile.
#[derive(Clone, Debug)]
pub struct CommitWatch(Weak<()>);

impl CommitWatch {
    /// Whether every commit that was begun is answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.strong_count() <= 1
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("visible", &self.visible()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store and starts its committer. Blocks while the database recovers.
    ///
    /// # Errors
    /// [`OpenError`], with a text for the operator.
    pub fn open(options: Options) -> Result<Store, OpenError> {
        let directory = Arc::new(Directory::new(&options.keyspaces)?);
        let (path, engine) = open_engine(&options, &directory)?;
        let visible = read_position(engine.view())
            .map_err(|error| OpenError::Damaged { path: path.clone(), detail: error.to_string() })?;
        let shared = Arc::new(Shared::new(visible));
        let (queue, incoming) = mpsc::channel(QUEUE_LENGTH);
        let committer = Committer::new(engine.clone(), shared.clone(), incoming, &options)?;
        let committer = thread::Builder::new()
            .name("storage-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(OpenError::Thread)?;
        Ok(Store {
            inner: Arc::new(Inner { engine, directory, shared, queue, committer: Mutex::new(Some(committer)) }),
        })
    }

    /// Commits a batch and returns its position.
    ///
    /// Cancel-safe: a future that is dropped leaves either all of the batch or nothing of it; once the batch is in the
    /// queue (at the first poll, unless the queue is full) it is committed all the same. Works on any executor.
    ///
    /// # Errors
    /// [`CommitError`]; only `Failed` can mean that something was written.
    pub async fn commit(&self, mut batch: Batch) -> Result<StreamPos, CommitError> {
        batch.prepare(&self.inner.directory)?;
        let (sender, answer) = oneshot::channel();
        let reply = Reply { sender, under_way: self.inner.shared.under_way.clone() };
        self.inner.queue.send(Message::Commit { batch, reply }).await.map_err(|_| self.closed_reason())?;
        answer.await.unwrap_or_else(|_| Err(CommitError::Failed(Arc::new(StorageError::Stopped))))
    }

    /// [`Store::commit`] for callers without an executor: the command line, start-up, tests. Blocks the thread.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_blocking(&self, batch: Batch) -> Result<StreamPos, CommitError> {
        block_on(self.commit(batch))
    }

    /// Sees whether commits are under way.
    #[must_use]
    pub fn watch_commits(&self) -> CommitWatch {
        CommitWatch(Arc::downgrade(&self.inner.shared.under_way))
    }

    fn closed_reason(&self) -> CommitError {
        self.inner.shared.failure().map_or(CommitError::Closed, CommitError::Failed)
    }

    /// The position of the last batch that is written; 0 before the first.
    #[must_use]
    pub fn visible(&self) -> StreamPos {
        StreamPos(self.inner.shared.visible.load(Ordering::Acquire))
    }

    /// Freezes the present state for consistent reads. It holds at least all that [`Store::visible`] said before.
    ///
    /// Hold it briefly (seconds): the database cannot discard old rows meanwhile.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { frozen: self.inner.engine.snapshot(), directory: self.inner.directory.clone() }
    }

    /// Calls `observer` after every write and before its positions are visible, on the committer thread, in order of
    /// positions: the place to bring caches up to what was written. It must be quick, must not register observers and
    /// must not commit to this store with `commit_blocking`, which would wait for itself.
    pub fn on_commit(&self, observer: CommitObserver) {
        self.inner.shared.observe_written(observer);
    }

    /// As [`Store::on_commit`], once the positions are visible and before the committers are told: the place to wake
    /// those who wait for them.
    pub fn on_visible(&self, observer: CommitObserver) {
        self.inner.shared.observe_visible(observer);
    }

    /// Why nothing more is accepted until the next start; `None` if all is well.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<StorageError>> {
        self.inner.shared.failure()
    }

    /// What the database tells of itself. Takes about a millisecond.
    #[must_use]
    pub fn figures(&self) -> StoreFigures {
        self.inner.engine.figures()
    }

    /// Calls `measure` after each group of commits, on the committer thread, with what it cost. The first one stays.
    pub fn measure_groups(&self, measure: Arc<dyn Fn(GroupFigures) + Send + Sync>) {
        self.inner.shared.measure_groups(measure);
    }

    /// Makes all that was committed survive a power failure, whatever the durability. Blocks.
    ///
    /// # Errors
    /// [`StorageError`] if the disk fails.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.inner.engine.sync()
    }

    /// About how many bytes of the disk the rows take whose keys begin with `prefix`, after compression. What was
    /// written in the last minutes may be missing. Cheap: reads no rows.
    ///
    /// # Errors
    /// [`StorageError`] if the disk fails or the keyspace was not declared.
    pub fn approximate_bytes<K: RowKey, V, P: KeyPrefix<K>>(
        &self,
        keyspace: &Keyspace<K, V>,
        prefix: &P,
    ) -> Result<u64, StorageError> {
        let (index, range) = self.range_of(keyspace, prefix)?;
        self.inner.engine.approximate_bytes(index, &range)
    }

    /// Gives the space of deleted rows back to the disk whose keys begin with `prefix`, without waiting until the
    /// database does it by itself. Blocks while it rewrites what lies there: seconds for a gigabyte. Reads and commits
    /// go on.
    ///
    /// # Errors
    /// [`StorageError`] if the disk fails or the keyspace was not declared.
    pub fn compact<K: RowKey, V, P: KeyPrefix<K>>(
        &self,
        keyspace: &Keyspace<K, V>,
        prefix: &P,
    ) -> Result<(), StorageError> {
        let (index, range) = self.range_of(keyspace, prefix)?;
        self.inner.engine.compact(index, &range)
    }

    fn range_of<K: RowKey, V, P: KeyPrefix<K>>(
        &self,
        keyspace: &Keyspace<K, V>,
        prefix: &P,
    ) -> Result<(KeyspaceIndex, ByteRange), StorageError> {
        let mut encoded = KeyBuf::new();
        prefix.encode_prefix(&mut encoded);
        let lower = encoded.as_slice().to_vec();
        let upper = end_of_prefix(&lower);
        Ok((self.inner.directory.find(keyspace.info())?, ByteRange { lower, upper }))
    }

    /// Copies the database, as it is at one moment, into a new folder, while the store is in use. Blocks; files are
    /// linked rather than copied where the file system can, so use the same one and copy from there.
    ///
    /// # Errors
    /// [`BackupError`] if the target exists and is not an empty folder, or the disk fails.
    pub fn backup(&self, target: &Path) -> Result<(), BackupError> {
        self.inner.engine.backup(target)
    }

    /// Commits what is queued, syncs, and stops the committer; blocks until that is done. Reads go on working, further
    /// commits fail with [`CommitError::Closed`]. The database itself is released with the last handle and snapshot.
    ///
    /// # Errors
    /// The failure that ended the store before, or that of the last sync.
    pub fn close(&self) -> Result<(), StorageError> {
        self.inner.stop();
        match self.inner.shared.failure() {
            Some(error) => Err((*error).clone()),
            None => Ok(()),
        }
    }

    pub(crate) fn live_reader(&self) -> Reader<'_> {
        Reader { directory: &self.inner.directory, view: self.inner.engine.view() }
    }
}

impl Inner {
    fn stop(&self) {
        let Some(committer) = self.committer.lock().take() else { return };
        // Fails only if the committer has already ended.
        let _ = block_on(self.queue.send(Message::Close));
        // An observer may hold the last handle, which is then dropped on the committer thread itself.
        if committer.thread().id() != thread::current().id() && committer.join().is_err() {
            tracing::error!("the storage committer panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

fn open_engine(options: &Options, directory: &Directory) -> Result<(PathBuf, Engine), OpenError> {
    let memory =
        |disk: &MemoryDisk| Ok((PathBuf::from("(memory)"), Engine::Memory(Arc::new(Memory::open(disk, directory)?))));
    match &options.backend {
        Backend::Memory => memory(&MemoryDisk::new()),
        Backend::MemoryDisk(disk) => memory(disk),
        Backend::Rocks { path } => {
            let rocks = RocksOptions {
                path,
                keyspaces: &options.keyspaces,
                cache_bytes: options.cache_bytes,
                write_buffer_bytes: options.write_buffer_bytes,
                sync_writes: options.durability == Durability::Always,
            };
            Ok((path.clone(), Engine::Rocks(Arc::new(Rocks::open(&rocks, directory)?))))
        }
    }
}

/// One state of the store, for consistent reads. Owned, `Send` and `Sync`.
pub struct Snapshot {
    frozen: Frozen,
    directory: Arc<Directory>,
}

impl Snapshot {
    /// The position of the last batch that this state holds.
    ///
    /// # Errors
    /// [`StorageError`] if the disk fails.
    pub fn position(&self) -> Result<StreamPos, StorageError> {
        read_position(self.frozen.view()).map(StreamPos)
    }

    pub(crate) fn frozen_reader(&self) -> Reader<'_> {
        Reader { directory: &self.directory, view: self.frozen.view() }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}
