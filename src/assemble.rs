//! Connecting the parts of a server: the store, the domains and the edges. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use admin::{Admin, AdminParts};
use appservices::{Dispatcher, DispatcherParts};
use axum::Router;
use calls::Calls;
use client_api::ClientApiParts;
use federation::{
    ClientParts, Destinations, DestinationsParts, Federation, FederationClient, FederationConfig, FederationParts,
    HttpsTransport, KeyRing, KeyRingParts, OwnKeys, PolicyClient, RemoteMediaClient, Transport,
};
use media::{Media, MediaSetup, Previews};
use outbound::{WebClient, WebParts};
use push::{Push, PushParts};
use rooms::{Rooms, RoomsConfig, RoomsParts};
use runtime::config::Live;
use runtime::{Clock, Tasks};
use search::{Search, SearchParts};
use spec::ids::ServerName;
use storage::{Durability, KeyspaceInfo, Options, Store};
use sync::{Sync, SyncParts};
use users::{RegistrationMode, Users, UsersConfig};

use crate::administration::{FederatedServers, ThisProgram};
use crate::backup::is_unfinished;
use crate::calls::{CallDomains, Carriers, assemble_calls};
use crate::config::{Config, DurabilityMode, Registration};
use crate::media::{AccountRoles, expire_media};
use crate::metrics::{Measured, count_rooms, publish_metrics};
use crate::reload::{ReloadParts, Reloader};
use crate::server::{Environment, StartError};
use crate::signing::read_signing_keys;
use crate::tls::Certificate;

/// How often it is looked for users who have gone away.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(10);
/// How often expired rows and unused files are looked for.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(600);
/// The database in `data_dir`.
pub(crate) const STORE_DIR: &str = "store";
/// The search index in `data_dir`.
const SEARCH_DIR: &str = "search";
/// The media in `data_dir`.
pub(crate) const MEDIA_DIR: &str = "media";

/// The parts that [`crate::Server`] needs to know.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) reloader: Reloader,
    pub(crate) admin: Admin,
    pub(crate) router: Router,
}

/// Every keyspace of every crate.
#[must_use]
pub fn all_keyspaces() -> Vec<KeyspaceInfo> {
    let mut keyspaces = [rooms::KEYSPACES, users::KEYSPACES, media::KEYSPACES].concat();
    keyspaces.extend(federation::keyspaces());
    keyspaces.extend(admin::keyspaces());
    keyspaces.extend(appservices::KEYSPACES);
    keyspaces.extend(calls::KEYSPACES);
    keyspaces.extend(push::KEYSPACES);
    keyspaces.extend(search::KEYSPACES);
    keyspaces
}

/// Opens the store and builds everything on top of it.
pub(crate) fn assemble_parts(
    config: &Config,
    environment: &Environment,
    tasks: &Tasks,
    carriers: Carriers,
    certificate: Option<Arc<Certificate>>,
) -> Result<Parts, StartError> {
    let Environment { clock, random, .. } = environment;
    if is_unfinished(&config.data_dir) {
        return Err(StartError::UnfinishedBackup { data_dir: config.data_dir.clone() });
    }
    let server_name = ServerName::parse(&config.server_name).map_err(|error| StartError::Part(error.to_string()))?;
    let signing_keys = read_signing_keys(&config.data_dir, random)?;
    let signing_key = signing_keys.current.clone();
    let store = open_store(config, environment)?;
    let web = build_web(config, environment)?;
    let web_for_services = Arc::new(web.clone());
    let web_for_push = Arc::new(web.clone());
    let outside = assemble_outside(config, environment, tasks, &store, &server_name, signing_keys, &web)?;
    let rooms = Rooms::new(RoomsParts {
        store: store.clone(),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        server_name: server_name.clone(),
        signing_key: signing_key.clone(),
        config: rooms_config(config)?,
        policy_servers: Some(Arc::new(PolicyClient::new(outside.client.clone()))),
    })
    .map_err(|error| StartError::Part(error.to_string()))?;
    let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), users_config(config))
        .map_err(|error| StartError::Part(error.to_string()))?;
    users
        .load_appservices(config.appservices.folder.as_deref())
        .map_err(|error| StartError::Part(error.to_string()))?;
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
    let previews = Previews::new(media.clone(), Arc::new(web));
    let sync = Sync::new(SyncParts {
        store: store.clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        config: config.sync.clone(),
    });
    let measured = Measured { store: &store, rooms: &rooms, users: &users, media: &media, sync: &sync, clock };
    publish_metrics(&environment.metrics, &measured);
    media.set_roles(Arc::new(AccountRoles(users.clone())));
    let search = open_search(config, environment, tasks, &rooms, &users)?;
    let domains = CallDomains { store: &store, rooms: &rooms, users: &users, media: &media, client: &outside.client };
    let signalling = carriers.router();
    let calls = assemble_calls(config, environment, tasks, carriers, domains);
    spawn_until_shutdown(
        tasks,
        "maintenance",
        maintain(rooms.clone(), users.clone(), media.clone(), previews.clone(), calls.clone(), clock.clone()),
    );
    spawn_until_shutdown(tasks, "retention", retain(rooms.clone(), config.retention.clone(), clock.clone()));
    spawn_until_shutdown(tasks, "room count", count_rooms(rooms.clone(), tasks.clone(), clock.clone()));
    spawn_until_shutdown(tasks, "delayed events", send_delayed(rooms.clone(), users.clone()));
    spawn_until_shutdown(tasks, "presence expiry", expire_presence(users.clone(), clock.clone()));
    let dispatcher = Dispatcher::new(DispatcherParts {
        store: store.clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        web: web_for_services,
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        metrics: environment.metrics.clone(),
    });
    dispatcher.start();
    let Outside { client, keys, destinations, config: federation_config } = outside;
    let rate_limits = Live::new(config.rate_limits.clone());
    let spam = Live::new(config.spam.clone());
    let reloader = Reloader::new(
        ReloadParts {
            certificate,
            users: users.clone(),
            media: media.clone(),
            federation: client.clone(),
            rate_limits: rate_limits.clone(),
            spam: spam.clone(),
        },
        config,
    );
    let federation = Federation::new(FederationParts {
        store: store.clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        media: media.clone(),
        calls: Some(calls.clone()),
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
        appservices: Arc::new(dispatcher.clone()),
    });
    federation.start();
    let push = Push::new(PushParts {
        store: store.clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        web: web_for_push,
        config: config.push.clone(),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        metrics: environment.metrics.clone(),
    });
    push.start();
    let admin = Admin::open(AdminParts {
        rooms: rooms.clone(),
        users: users.clone(),
        media: media.clone(),
        calls: calls.clone(),
        search: search.clone(),
        store: store.clone(),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        metrics: environment.metrics.clone(),
        ports: admin::ports::Ports {
            remote_rooms: Some(Arc::new(federation.clone())),
            other_servers: Some(Arc::new(FederatedServers(federation.clone()))),
            program: Some(Arc::new(ThisProgram::new(config, &store, &media, tasks))),
            configuration: Some(Arc::new(reloader.clone())),
            room_data: vec![federation.room_data(), Arc::new(users.clone()), Arc::new(calls.clone())],
        },
        config: config.admin.clone(),
    })
    .map_err(|error| StartError::Part(error.to_string()))?;
    admin.start();
    let router = client_api::router(ClientApiParts {
        appservices: Arc::new(dispatcher),
        remote_rooms: Arc::new(federation.clone()),
        remote_users: Arc::new(federation.clone()),
        rooms,
        users: users.clone(),
        media: media.clone(),
        previews,
        sync,
        calls,
        search: search.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        config: config.client.clone(),
        rate_limits,
        spam,
    });
    Ok(Parts {
        store,
        reloader,
        router: router.merge(federation.router()).merge(signalling).merge(admin::router(admin.clone())),
        admin,
    })
}

/// The client for every address that others name.
fn build_web(config: &Config, environment: &Environment) -> Result<WebClient, StartError> {
    let web = WebClient::new(WebParts {
        trusted_ca_file: config.trusted_ca_file.clone(),
        allow_private_addresses: config.allow_private_addresses,
        connect_timeout: config.federation.connect_timeout.duration(),
        clock: environment.clock.clone(),
    });
    web.map_err(|error| StartError::Part(error.to_string()))
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
    web: &WebClient,
) -> Result<Outside, StartError> {
    let Environment { clock, random, .. } = environment;
    let federation = Arc::new(config.federation.clone());
    let transport: Arc<dyn Transport> = match &environment.transport {
        Some(transport) => transport.0.clone(),
        None => Arc::new(HttpsTransport::new(web.clone(), random.clone())),
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

fn open_search(
    config: &Config,
    environment: &Environment,
    tasks: &Tasks,
    rooms: &Rooms,
    users: &Users,
) -> Result<Option<Search>, StartError> {
    if !config.search.enabled {
        return Ok(None);
    }
    let search = Search::open(SearchParts {
        store: rooms.store().clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        folder: config.data_dir.join(SEARCH_DIR),
        clock: environment.clock.clone(),
        random: environment.random.clone(),
        tasks: tasks.clone(),
        metrics: environment.metrics.clone(),
        config: config.search.clone(),
    });
    search.map(Some).map_err(|error| StartError::Part(error.to_string()))
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
    let (delayed_events, retention) = (config.delayed_events.clone(), config.retention.clone());
    Ok(RoomsConfig { default_room_version, delayed_events, retention, ..RoomsConfig::default() })
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
        roles: config.roles.clone(),
        server_notices: config.server_notices.clone(),
        admin_localpart: Some(config.admin.localpart.clone()),
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
async fn maintain(rooms: Rooms, users: Users, media: Media, previews: Previews, calls: Calls, clock: Clock) {
    loop {
        clock.sleep(MAINTENANCE_INTERVAL).await;
        if let Err(error) = rooms.forget_transactions().await {
            tracing::error!(%error, "old transaction ids were not taken out");
        }
        if let Err(error) = rooms.forget_sticky().await {
            tracing::error!(%error, "events that are sticky no more were not taken out");
        }
        if let Err(error) = rooms.forget_departures().await {
            tracing::error!(%error, "who was in rooms that were deleted long ago was not forgotten");
        }
        if let Err(error) = users.delete_expired().await {
            tracing::error!(%error, "expired rows of users were not taken out");
        }
        if let Err(error) = media.sweep().await {
            tracing::error!(%error, "unused media were not taken out");
        }
        match expire_media(&media, &rooms, &users).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "old media were deleted"),
            Err(error) => tracing::error!(%error, "old media could not be deleted"),
        }
        if let Err(error) = previews.sweep().await {
            tracing::error!(%error, "stale previews of URLs were not taken out");
        }
        if let Err(error) = calls.sweep().await {
            tracing::error!(%error, "what is over of calls was not taken out");
        }
    }
}

/// Deletes messages that have expired, now and then.
async fn retain(rooms: Rooms, config: rooms::RetentionConfig, clock: Clock) {
    if !config.enabled {
        return;
    }
    loop {
        match rooms.purge_expired().await {
            Ok(done) if done.deleted > 0 => tracing::info!(events = done.deleted, "expired messages were deleted"),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "expired messages could not be deleted"),
        }
        clock.sleep(config.interval.duration().max(MAINTENANCE_INTERVAL)).await;
    }
}

/// Sends what clients have scheduled, for those whose accounts may still send.
async fn send_delayed(rooms: Rooms, users: Users) {
    let may_send = |user| {
        let allowed = users.may_send(user);
        allowed.inspect_err(|error| tracing::error!(%error, "an account could not be read")).unwrap_or(false)
    };
    rooms.run_delayed_events(may_send).await;
}

async fn expire_presence(users: Users, clock: Clock) {
    loop {
        clock.sleep(PRESENCE_INTERVAL).await;
        users.expire_presence();
    }
}
