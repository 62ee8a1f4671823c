//! Connecting the parts of a server: the store, the domains and the edges. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use client_api::ClientApiParts;
use federation::{
    ClientParts, Destinations, DestinationsParts, Federation, FederationClient, FederationConfig, FederationParts,
    HttpsParts, HttpsTransport, KeyRing, KeyRingParts, OwnKeys, RemoteMediaClient, Transport,
};
use media::{Media, MediaSetup};
use rooms::{Rooms, RoomsConfig, RoomsParts};
use runtime::{Clock, Tasks};
use spec::ids::ServerName;
use storage::{Durability, KeyspaceInfo, Options, Store};
use sync::{Sync, SyncParts};
use users::{RegistrationMode, Users, UsersConfig};

use crate::backup::is_unfinished;
use crate::config::{Config, DurabilityMode, Registration};
use crate::server::{Environment, StartError};
use crate::signing::read_signing_keys;

/// How often it is looked for users who have gone away.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(10);
/// How often expired rows and unused files are looked for.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(600);
/// The database in `data_dir`.
pub(crate) const STORE_DIR: &str = "store";
/// The media in `data_dir`.
pub(crate) const MEDIA_DIR: &str = "media";

/// The parts that [`crate::Server`] needs to know.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) users: Users,
    pub(crate) media: Media,
    pub(crate) federation: FederationClient,
    pub(crate) router: Router,
}

/// Every keyspace of every crate.
#[must_use]
pub fn all_keyspaces() -> Vec<KeyspaceInfo> {
    let mut keyspaces = [rooms::KEYSPACES, users::KEYSPACES, media::KEYSPACES, client_api::KEYSPACES].concat();
    keyspaces.extend(federation::keyspaces());
    keyspaces
}

/// Opens the store and builds everything on top of it.
pub(crate) fn assemble_parts(config: &Config, environment: &Environment, tasks: &Tasks) -> Result<Parts, StartError> {
    let Environment { clock, random, .. } = environment;
    if is_unfinished(&config.data_dir) {
        return Err(StartError::UnfinishedBackup { data_dir: config.data_dir.clone() });
    }
    let server_name = ServerName::parse(&config.server_name).map_err(|error| StartError::Part(error.to_string()))?;
    let signing_keys = read_signing_keys(&config.data_dir, random)?;
    let signing_key = signing_keys.current.clone();
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
    let outside = assemble_outside(config, environment, tasks, &store, &server_name, signing_keys)?;
    let media = Media::open(MediaSetup {
        store: store.clone(),
        server_name: server_name.clone(),
        dir: config.data_dir.join(MEDIA_DIR),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        config: config.media.clone(),
        remote: Arc::new(RemoteMediaClient::new(outside.client.clone())),
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
    let Outside { client, keys, destinations, config: federation_config } = outside;
    let outside_client = client.clone();
    let federation = Federation::new(FederationParts {
        store: store.clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        media: media.clone(),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        metrics: environment.metrics.clone(),
        server_name,
        signing_key,
        config: federation_config,
        client,
        keys,
        destinations,
    });
    federation.start();
    let router = client_api::router(ClientApiParts {
        remote_rooms: Arc::new(federation.clone()),
        remote_users: Arc::new(federation.clone()),
        rooms,
        users: users.clone(),
        media: media.clone(),
        sync,
        clock: clock.clone(),
        tasks: tasks.clone(),
        config: config.client.clone(),
        rate_limits: config.rate_limits.clone(),
    });
    Ok(Parts { store, users, media, federation: outside_client, router: router.merge(federation.router()) })
}

/// What reaches other servers, before there are rooms to speak of.
struct Outside {
    client: FederationClient,
    keys: KeyRing,
    destinations: Destinations,
    config: Arc<FederationConfig>,
}

fn assemble_outside(
    config: &Config,
    environment: &Environment,
    tasks: &Tasks,
    store: &Store,
    server_name: &ServerName,
    signing_keys: OwnKeys,
) -> Result<Outside, StartError> {
    let Environment { clock, random, .. } = environment;
    let federation = Arc::new(config.federation.clone());
    let transport: Arc<dyn Transport> = match &environment.transport {
        Some(transport) => transport.0.clone(),
        None => {
            let transport = HttpsTransport::new(HttpsParts {
                trusted_ca_file: config.trusted_ca_file.clone(),
                allow_private_addresses: config.allow_private_addresses,
                connect_timeout: federation.connect_timeout.duration(),
                clock: clock.clone(),
                random: random.clone(),
            });
            Arc::new(transport.map_err(|error| StartError::Part(error.to_string()))?)
        }
    };
    let destinations = Destinations::open(DestinationsParts {
        store: store.clone(),
        clock: clock.clone(),
        random: random.clone(),
        config: federation.clone(),
    })
    .map_err(|error| StartError::Part(error.to_string()))?;
    let client = FederationClient::new(ClientParts {
        server_name: server_name.clone(),
        signing_key: signing_keys.current.clone(),
        clock: clock.clone(),
        random: random.clone(),
        destinations: destinations.clone(),
        config: federation.clone(),
        transport,
    });
    let keys = KeyRing::new(KeyRingParts {
        store: store.clone(),
        client: client.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        server_name: server_name.clone(),
        own: signing_keys,
        config: federation.clone(),
    });
    Ok(Outside { client, keys, destinations, config: federation })
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
