//! Where registrations come from: the files of a folder, and those that the administrator adds at run time.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{Batch, CommitError, Keyspace, Profile, Read, StorageError, StreamPos, stored};
use tokio::sync::watch;

use super::registration::MAX_DOCUMENT_BYTES;
use super::{AppService, AppServiceSource, AppServices, RegistrationError};
use crate::Users;

/// Registrations that the administrator added, by id.
pub(crate) const APPSERVICES: Keyspace<String, StoredRegistration> = Keyspace::new("appservices", Profile::Points);

/// The most services.
const MAX_SERVICES: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRegistration {
    document: String,
}
stored!(StoredRegistration, 1);

runtime::config_section! {
    /// Application services: bridges and other programs that act for many users. See
    /// docs/appservices.md.
    pub struct AppServicesSettings {
        /// A folder of registration files (`*.yaml`, `*.yml`). It is read at the start and on SIGHUP;
        /// `conduit appservice add` needs none.
        pub folder: Option<PathBuf> = None, reloadable, example("\"/etc/conduit/appservices\"");
    }
}

/// Registrations cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AppServiceError {
    // The operator's fault.
    /// The folder or a file in it cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no registration.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: RegistrationError,
    },
    /// What was given is no registration.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// Two services cannot be told apart.
    #[error("the application services {first} and {second} have the same {what}")]
    Conflict {
        /// Which key.
        what: &'static str,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// There is no such service.
    #[error("there is no application service with the id {0:?}")]
    Unknown(String),
    /// The registration is a file, which only the operator removes.
    #[error("the application service comes from {0}: remove that file, then reload")]
    FromFile(String),
    /// More than a thousand.
    #[error("there can be at most {MAX_SERVICES} application services")]
    TooMany,

    // Ours.
    /// Reading failed.
    #[error("reading failed: {0}")]
    Storage(#[from] StorageError),
    /// Writing failed.
    #[error("writing failed: {0}")]
    Commit(#[from] CommitError),
}

/// The services in force, and what they are put together from.
pub(crate) struct AppServiceState {
    current: watch::Sender<Arc<AppServices>>,
    /// Those of the folder, as they were read last. Locked while the set is replaced.
    from_files: Mutex<Vec<Arc<AppService>>>,
    /// Held while one is added: two at once could each be fine, and not go together.
    adding: tokio::sync::Mutex<()>,
}

impl Default for AppServiceState {
    fn default() -> Self {
        AppServiceState {
            current: watch::Sender::new(Arc::default()),
            from_files: Mutex::default(),
            adding: tokio::sync::Mutex::default(),
        }
    }
}

impl Users {
    /// The application services in force.
    pub fn appservices(&self) -> Arc<AppServices> {
        self.inner.appservices.current.borrow().clone()
    }

    /// Tells whenever the application services in force change.
    pub fn watch_appservices(&self) -> watch::Receiver<Arc<AppServices>> {
        self.inner.appservices.current.subscribe()
    }

    /// Reads the registrations of the folder, which may be missing, and those of the database, and puts them in force.
    /// Returns how many there are. Blocks for the disk.
    ///
    /// # Errors
    /// [`AppServiceError`]: what was in force stays so.
    pub fn load_appservices(&self, folder: Option<&Path>) -> Result<usize, AppServiceError> {
        let read = match folder {
            Some(folder) => self.read_folder(folder)?,
            None => Vec::new(),
        };
        let mut from_files = self.inner.appservices.from_files.lock();
        let services = self.put_together(&read)?;
        let count = services.services.len();
        *from_files = read;
        self.inner.appservices.current.send_replace(Arc::new(services));
        Ok(count)
    }

    /// Adds a service for good. Cancel-safe: it is added, or it is not; in force a moment later.
    ///
    /// # Errors
    /// [`AppServiceError`]: `Registration`, `Conflict`, `TooMany`.
    pub async fn add_appservice(&self, document: &str) -> Result<Arc<AppService>, AppServiceError> {
        let service = self.parse_service(document, AppServiceSource::Stored)?;
        let _adding = self.inner.appservices.adding.lock().await;
        // Looked at before anything is written, and again when it is put in force.
        let mut together = self.put_together(&self.inner.appservices.from_files.lock())?.services;
        together.push(Arc::clone(&service));
        check_count(&together)?;
        AppServices::new(together, StreamPos::ZERO)?;
        let mut batch = Batch::new();
        batch.expect_absent(&APPSERVICES, &service.id().to_owned());
        batch.put(&APPSERVICES, &service.id().to_owned(), &StoredRegistration { document: document.to_owned() });
        match self.store().commit(batch).await {
            Ok(_) => {}
            Err(CommitError::Expectation { .. }) => {
                let name = format!("{} (the database)", service.id());
                return Err(AppServiceError::Conflict { what: "id", first: name.clone(), second: name });
            }
            Err(error) => return Err(error.into()),
        }
        if let Err(error) = self.put_in_force() {
            // The folder was read anew meanwhile. With this row the next start would fail.
            let mut batch = Batch::new();
            batch.delete(&APPSERVICES, &service.id().to_owned());
            self.store().commit(batch).await?;
            return Err(error);
        }
        Ok(service)
    }

    /// Removes a service that was added by [`Users::add_appservice`]. Its users and rooms stay. Cancel-safe.
    ///
    /// # Errors
    /// `Unknown`, `FromFile`.
    pub async fn remove_appservice(&self, id: &str) -> Result<(), AppServiceError> {
        if !self.store().contains(&APPSERVICES, &id.to_owned())? {
            let known = self.appservices().get(id).map(|service| service.source().to_string());
            return Err(known.map_or_else(|| AppServiceError::Unknown(id.to_owned()), AppServiceError::FromFile));
        }
        let mut batch = Batch::new();
        batch.delete(&APPSERVICES, &id.to_owned());
        self.store().commit(batch).await?;
        self.put_in_force()
    }

    fn put_in_force(&self) -> Result<(), AppServiceError> {
        let from_files = self.inner.appservices.from_files.lock();
        let services = self.put_together(&from_files)?;
        self.inner.appservices.current.send_replace(Arc::new(services));
        Ok(())
    }

    fn put_together(&self, from_files: &[Arc<AppService>]) -> Result<AppServices, AppServiceError> {
        let mut services = from_files.to_vec();
        for row in self.store().scan(&APPSERVICES, &()).iter() {
            let (_, row) = row?;
            services.push(self.parse_service(&row.document, AppServiceSource::Stored)?);
        }
        check_count(&services)?;
        AppServices::new(services, self.store().visible())
    }

    fn parse_service(&self, document: &str, source: AppServiceSource) -> Result<Arc<AppService>, RegistrationError> {
        AppService::parse(document, self.rooms().server_name(), source).map(Arc::new)
    }

    fn read_folder(&self, folder: &Path) -> Result<Vec<Arc<AppService>>, AppServiceError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| AppServiceError::Unreadable { path, source }
        };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), "the folder of application services does not exist");
                return Ok(Vec::new());
            }
            Err(error) => return Err(unreadable(folder)(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut services = Vec::with_capacity(paths.len());
        for path in paths {
            let document = read_document(&path).map_err(unreadable(&path))?;
            let service = self.parse_service(&document, AppServiceSource::File(path.clone()));
            services.push(service.map_err(|source| AppServiceError::File { path, source })?);
        }
        Ok(services)
    }
}

fn check_count(services: &[Arc<AppService>]) -> Result<(), AppServiceError> {
    if services.len() > MAX_SERVICES { Err(AppServiceError::TooMany) } else { Ok(()) }
}

/// A file, as far as a registration can be long; one byte more, so that a longer one is noticed.
fn read_document(path: &Path) -> io::Result<String> {
    let mut document = String::new();
    fs::File::open(path)?.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_string(&mut document)?;
    Ok(document)
}
