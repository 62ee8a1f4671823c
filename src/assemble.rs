//! Connecting the parts of a server: the store, the domains and the edges. Decides nothing.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use client_api::ClientApiParts;
use federation::FederationParts;
use media::{Media, MediaSetup};
use rooms::{Rooms, RoomsConfig, RoomsParts};
use runtime::{Clock, Tasks};
use spec::ids::ServerName;
use spec::signing::SigningKey;
use storage::{Durability, KeyspaceInfo, Options, Store};
use sync::{Sync, SyncParts};
use users::{RegistrationMode, Users, UsersConfig};

use crate::backup::is_unfinished;
use crate::config::{Config, DurabilityMode, Registration};
use crate::server::{Environment, StartError};

/// How often it is looked for users who have gone away.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(10);
/// How often expired rows and unused files are looked for.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(600);
/// The signing key in `data_dir`.
pub(crate) const KEY_FILE: &str = "signing.key";
/// The database in `data_dir`.
pub(crate) const STORE_DIR: &str = "store";
/// The media in `data_dir`.
pub(crate) const MEDIA_DIR: &str = "media";

/// The parts that [`crate::Server`] needs to know.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) users: Users,
    pub(crate) media: Media,
    pub(crate) router: Router,
}

/// Every keyspace of every crate.
#[must_use]
pub fn all_keyspaces() -> Vec<KeyspaceInfo> {
    [rooms::KEYSPACES, users::KEYSPACES, media::KEYSPACES, client_api::KEYSPACES].concat()
}

/// Opens the store and builds everything on top of it.
pub(crate) fn assemble_parts(config: &Config, environment: &Environment, tasks: &Tasks) -> Result<Parts, StartError> {
    let Environment { clock, random, .. } = environment;
    if is_unfinished(&config.data_dir) {
        return Err(StartError::UnfinishedBackup { data_dir: config.data_dir.clone() });
    }
    let server_name = ServerName::parse(&config.server_name).map_err(|error| StartError::Part(error.to_string()))?;
    let signing_key = Arc::new(read_signing_key(&config.data_dir, environment)?);
    let store = open_store(config, environment)?;
    let rooms = Rooms::new(RoomsParts {
        store: store.clone(),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        server_name: server_name.clone(),
        signing_key: signing_key.clone(),
        config: rooms_config(config)?,
    })
    .map_err(|error| StartError::Part(error.to_string()))?;
    let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), users_config(config))
        .map_err(|error| StartError::Part(error.to_string()))?;
    let media = Media::open(MediaSetup {
        store: store.clone(),
        server_name: server_name.clone(),
        dir: config.data_dir.join(MEDIA_DIR),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        config: config.media.clone(),
        remote: Arc::new(federation::NoRemoteMedia),
    })
    .map_err(|error| StartError::Part(error.to_string()))?;
    let sync = Sync::new(SyncParts {
        store: store.clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        config: config.sync.clone(),
    });
    spawn_until_shutdown(tasks, "maintenance", maintain(rooms.clone(), users.clone(), media.clone(), clock.clone()));
    spawn_until_shutdown(tasks, "presence expiry", expire_presence(users.clone(), clock.clone()));
    let federation = federation::router(FederationParts { server_name, signing_key, clock: clock.clone() });
    let router = client_api::router(ClientApiParts {
        rooms,
        users: users.clone(),
        media: media.clone(),
        sync,
        clock: clock.clone(),
        tasks: tasks.clone(),
        config: config.client.clone(),
        rate_limits: config.rate_limits.clone(),
    });
    Ok(Parts { store, users, media, router: router.merge(federation) })
}

fn open_store(config: &Config, environment: &Environment) -> Result<Store, StartError> {
    let mut options = Options::new(environment.backend.clone(), all_keyspaces());
    options.durability = match config.durability {
        DurabilityMode::Always => Durability::Always,
        DurabilityMode::Interval => Durability::Interval(config.durability_interval.duration()),
    };
    options.cache_bytes = usize::try_from(config.cache_bytes.bytes()).unwrap_or(usize::MAX);
    Ok(Store::open(options)?)
}

fn rooms_config(config: &Config) -> Result<RoomsConfig, StartError> {
    let version = config.default_room_version.parse();
    let default_room_version = version.map_err(|_| StartError::Part("default_room_version is unknown".to_owned()))?;
    Ok(RoomsConfig { default_room_version, ..RoomsConfig::default() })
}

fn users_config(config: &Config) -> UsersConfig {
    UsersConfig {
        registration: match config.registration {
            Registration::Closed => RegistrationMode::Closed,
            Registration::Token => RegistrationMode::Token,
            Registration::Open => RegistrationMode::Open,
        },
        registration_token: config.registration_token.clone(),
        registration_shared_secret: config.registration_shared_secret.clone(),
        settings: config.users.clone(),
    }
}

/// Reads the key that signs this server's events, or makes it on the first start. Whoever has it can
/// speak in the server's name, so the file is for the server's own user only.
fn read_signing_key(data_dir: &Path, environment: &Environment) -> Result<SigningKey, StartError> {
    let path = data_dir.join(KEY_FILE);
    let failed = |source| StartError::DataDir { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => parse_signing_key(&text)
            .ok_or_else(|| StartError::Part(format!("{} does not hold a signing key", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            environment.random.fill(&mut seed);
            let key = SigningKey::from_seed(seed, &environment.random.token(6))
                .map_err(|error| StartError::Part(error.to_string()))?;
            write_signing_key(&path, &key).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The line that other homeservers use too: algorithm, version, seed.
fn parse_signing_key(text: &str) -> Option<SigningKey> {
    let mut words = text.split_whitespace();
    let ("ed25519", version, seed) = (words.next()?, words.next()?, words.next()?) else { return None };
    let seed = base64::Engine::decode(&spec::hash::BASE64, seed).ok()?;
    SigningKey::from_seed(seed.try_into().ok()?, version).ok()
}

/// Written whole and made durable before it is used: a key that got lost cannot be made again.
fn write_signing_key(path: &Path, key: &SigningKey) -> io::Result<()> {
    let temporary = path.with_extension("key.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let seed = base64::Engine::encode(&spec::hash::BASE64, key.seed());
    writeln!(file, "ed25519 {} {seed}", key.version())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// Runs a loop that may be dropped at any of its awaits.
fn spawn_until_shutdown(tasks: &Tasks, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let shutdown = tasks.shutdown_token();
    tasks.spawn(name, async move {
        shutdown.run_until_cancelled(work).await;
    });
}

/// Takes out, now and then, what has expired.
async fn maintain(rooms: Rooms, users: Users, media: Media, clock: Clock) {
    loop {
        clock.sleep(MAINTENANCE_INTERVAL).await;
        if let Err(error) = rooms.forget_transactions().await {
            tracing::error!(%error, "old transaction ids were not taken out");
        }
        if let Err(error) = users.delete_expired().await {
            tracing::error!(%error, "expired rows of users were not taken out");
        }
        if let Err(error) = media.sweep().await {
            tracing::error!(%error, "unused media were not taken out");
        }
    }
}

async fn expire_presence(users: Users, clock: Clock) {
    loop {
        clock.sleep(PRESENCE_INTERVAL).await;
        users.expire_presence();
    }
}
