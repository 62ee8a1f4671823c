//! The handle.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex as SyncMutex, RwLock};
use runtime::{Clock, Random, Tasks};
use spec::ids::ServerName;
use storage::Store;
use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::config::MediaConfig;
use crate::disk::{Disk, Hash, MediaWriter};
use crate::error::MediaError;
use crate::flights::Flights;
use crate::meters::Meters;
use crate::mxc::Mxc;
use crate::quota::UploaderRoles;
use crate::remote::RemoteMedia;
use crate::rows::{MediaKey, ThumbnailKey};

/// What [`Media`] is built from.
pub struct MediaSetup {
    /// Where rows are; opened with [`crate::KEYSPACES`].
    pub store: Store,
    /// This server.
    pub server_name: ServerName,
    /// The folder for files; no other process may use it.
    pub dir: PathBuf,
    /// The clock.
    pub clock: Clock,
    /// Makes media ids.
    pub random: Random,
    /// Runs image work.
    pub tasks: Tasks,
    /// The limits.
    pub config: MediaConfig,
    /// Fetches media of other servers.
    pub remote: Arc<dyn RemoteMedia>,
}

/// The content repository; cloning is cheap and clones share everything.
#[derive(Clone)]
pub struct Media(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) server_name: ServerName,
    pub(crate) disk: Arc<Disk>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) tasks: Tasks,
    pub(crate) remote: Arc<dyn RemoteMedia>,
    pub(crate) remote_flights: Flights<Mxc>,
    pub(crate) thumbnail_flights: Flights<ThumbnailKey>,
    pub(crate) meters: Meters,
    config: RwLock<Arc<MediaConfig>>,
    /// Held from placing a file to committing the row that counts it, and while the last use is removed.
    file_locks: [Mutex<()>; STRIPES],
    /// How many backups need every file to stay.
    pub(crate) file_holds: AtomicUsize,
    /// Media whose time of access is being written.
    pub(crate) noting: SyncMutex<HashSet<MediaKey>>,
    /// Who has which role, once that is known.
    pub(crate) roles: OnceLock<Arc<dyn UploaderRoles>>,
    /// Held while an upload is measured against what its user may have, and stored.
    quota_locks: [Mutex<()>; STRIPES],
    /// Likewise for what the server may have.
    pub(crate) server_quota_lock: Mutex<()>,
    /// Held while a user's reservations are counted and one is added.
    reservation_locks: [Mutex<()>; STRIPES],
    /// Wakes those who wait for a reserved id.
    arrivals: [Notify; STRIPES],
}

/// How many locks a set has: unrelated work rarely meets on one.
const STRIPES: usize = 64;

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("media::Inner")
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Media")
    }
}

/// The member of a set that belongs to a key. Both callers' keys are spread well enough by summing bytes.
fn stripe<'s, T>(set: &'s [T; STRIPES], key: &[u8]) -> &'s T {
    let sum = key.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    &set[sum % STRIPES]
}

impl Media {
    /// Opens the media folder, making it if it does not exist, and removes the leftovers of unfinished uploads. The first
    /// time after an update it counts what is there. Blocks.
    ///
    /// # Errors
    /// `Disk`: the folder cannot be used (operator). `Storage`, `Commit`.
    pub fn open(setup: MediaSetup) -> Result<Self, MediaError> {
        let disk = Disk::open(&setup.dir).map_err(MediaError::disk("open the media folder"))?;
        let media = Self(Arc::new(Inner {
            store: setup.store,
            server_name: setup.server_name,
            disk: Arc::new(disk),
            clock: setup.clock,
            random: setup.random,
            tasks: setup.tasks,
            remote: setup.remote,
            remote_flights: Flights::new(),
            thumbnail_flights: Flights::new(),
            meters: Meters::default(),
            config: RwLock::new(Arc::new(setup.config)),
            file_locks: std::array::from_fn(|_| Mutex::new(())),
            file_holds: AtomicUsize::new(0),
            noting: SyncMutex::default(),
            roles: OnceLock::new(),
            quota_locks: std::array::from_fn(|_| Mutex::new(())),
            server_quota_lock: Mutex::new(()),
            reservation_locks: std::array::from_fn(|_| Mutex::new(())),
            arrivals: std::array::from_fn(|_| Notify::new()),
        }));
        media.0.count_once()?;
        media.0.count_days_once()?;
        Ok(media)
    }

    /// The limits in force, such as `m.upload.size`.
    pub fn config(&self) -> Arc<MediaConfig> {
        self.0.config()
    }

    /// Takes over changed limits; what is running keeps the old ones.
    pub fn reload(&self, config: MediaConfig) {
        *self.0.config.write() = Arc::new(config);
    }

    /// Whether the media is this server's own.
    pub fn is_local(&self, mxc: &Mxc) -> bool {
        *mxc.server() == self.0.server_name
    }
}

impl Inner {
    pub(crate) fn config(&self) -> Arc<MediaConfig> {
        Arc::clone(&self.config.read())
    }

    pub(crate) fn new_writer(&self, limit: u64) -> MediaWriter {
        MediaWriter::new(Arc::clone(&self.disk), &self.random.token(24), limit)
    }

    pub(crate) fn new_mxc(&self) -> Mxc {
        Mxc::with_server(self.server_name.clone(), &self.random.token(24))
            .expect("24 letters and digits are a valid media id")
    }

    pub(crate) async fn lock_file(&self, hash: &Hash) -> MutexGuard<'_, ()> {
        stripe(&self.file_locks, hash).lock().await
    }

    pub(crate) async fn lock_quota(&self, user_id: &str) -> MutexGuard<'_, ()> {
        stripe(&self.quota_locks, user_id.as_bytes()).lock().await
    }

    pub(crate) async fn lock_reservations(&self, user_id: &str) -> MutexGuard<'_, ()> {
        stripe(&self.reservation_locks, user_id.as_bytes()).lock().await
    }

    pub(crate) fn arrival(&self, mxc: &Mxc) -> &Notify {
        stripe(&self.arrivals, mxc.media_id().as_bytes())
    }
}

#[cfg(test)]
pub(crate) mod tests;
