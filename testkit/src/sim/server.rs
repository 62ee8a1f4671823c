//! One server of a simulation.

use std::sync::Arc;
use std::time::Duration;

use federation::{
    ClientParts, Destinations, DestinationsParts, Federation, FederationClient, FederationConfig, FederationParts,
    KeyRing, KeyRingParts, OwnKeys, RemoteMediaClient,
};
use media::{Media, MediaConfig, MediaSetup};
use rooms::{RemoteRooms, Rooms, RoomsConfig, RoomsParts};
use runtime::config::Span;
use runtime::{Metrics, Random, Tasks};
use spec::ids::{ServerName, UserId};
use spec::signing::SigningKey;
use storage::{Backend, MemoryDisk, OpenError, Options, Store};
use tempfile::TempDir;
use users::{AccountKind, AdminRights, NewAccount, Users, UsersConfig};

use super::network::SimNetwork;
use super::time::SimRuntime;

/// How long a server may take to stop, in real time.
const GRACE: Duration = Duration::from_secs(10);

/// The domains of a running server and its edge.
struct Running {
    store: Store,
    rooms: Rooms,
    users: Users,
    federation: Federation,
    tasks: Tasks,
}

/// A server without listeners: what is needed to be part of a federation. Its data outlive a restart.
pub struct SimServer {
    name: ServerName,
    key: Arc<SigningKey>,
    seed: u64,
    starts: u64,
    config: FederationConfig,
    disk: MemoryDisk,
    media_dir: TempDir,
    running: Option<Running>,
}

/// A user's hands on a server: what an action needs. Must not outlive the server's run.
#[derive(Clone)]
pub struct Member {
    /// Who acts.
    pub user: UserId,
    /// Their server's rooms.
    pub rooms: Rooms,
    /// Their server's way to others.
    pub remote: Federation,
}

impl SimServer {
    /// Starts a server and attaches it to the network. Its key and its randomness come from `seed`. It believes what the
    /// `trusted` say of others' keys. With `partial_joins` it enters rooms before it knows their members.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(
        name: &str,
        seed: u64,
        trusted: &[&str],
        partial_joins: bool,
        runtime: &SimRuntime,
        network: &SimNetwork,
    ) -> SimServer {
        let name = ServerName::parse(name).expect("a server name");
        let mut key = [0; 32];
        Random::seeded(seed).fill(&mut key);
        let key = Arc::new(SigningKey::from_seed(key, "sim").expect("a key"));
        let media_dir = tempfile::Builder::new().prefix("conduit-sim").tempdir().expect("a temporary folder");
        let trusted: Vec<String> =
            trusted.iter().filter(|trusted| **trusted != name.as_str()).map(|name| (*name).to_owned()).collect();
        let config = FederationConfig { partial_joins, ..federation_config(trusted) };
        let (starts, disk) = (0, MemoryDisk::new());
        let mut server = SimServer { name, key, seed, starts, config, disk, media_dir, running: None };
        server.run(runtime, network);
        server
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// Its rooms.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn rooms(&self) -> &Rooms {
        &self.running().rooms
    }

    /// Its accounts.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.running().users
    }

    /// Its edge.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn federation(&self) -> &Federation {
        &self.running().federation
    }

    /// Its store.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.running().store
    }

    /// Its tasks: what is started by them ends before a restart.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.running().tasks
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    /// What a user of it acts with.
    #[must_use]
    pub fn member(&self, user: &UserId) -> Member {
        Member { user: user.clone(), rooms: self.rooms().clone(), remote: self.federation().clone() }
    }

    /// Makes an account.
    ///
    /// # Panics
    /// If that fails.
    pub fn add_user(&self, localpart: &str, runtime: &SimRuntime) -> UserId {
        let (users, localpart) = (self.users().clone(), localpart.to_owned());
        let created = runtime.run(Duration::from_secs(10), async move {
            let new = NewAccount {
                localpart: &localpart,
                password: None,
                kind: AccountKind::User,
                admin: AdminRights::Denied,
                registration_token: None,
            };
            users.create_account(new).await.map(|account| account.user_id)
        });
        created.unwrap_or_else(|error| panic!("no account: {error}"))
    }

    /// Stops the server properly, as an operator would, and starts it again on the same data.
    ///
    /// # Panics
    /// If it does not stop or start.
    pub fn restart(&mut self, runtime: &SimRuntime, network: &SimNetwork) {
        self.stop(runtime, network);
        self.run(runtime, network);
    }

    /// Stops the server.
    ///
    /// # Panics
    /// If it does not stop.
    pub fn stop(&mut self, runtime: &SimRuntime, network: &SimNetwork) {
        network.detach(&self.name);
        let Some(Running { store, rooms, users, federation, tasks }) = self.running.take() else { return };
        let drained = runtime.run(Duration::from_secs(600), async move { tasks.drain(GRACE).await });
        assert!(drained, "the tasks of {} end", self.name);
        drop((federation, users, rooms));
        store.close().expect("the store closes");
    }

    fn run(&mut self, runtime: &SimRuntime, network: &SimNetwork) {
        self.starts += 1;
        let store = self.open_store(runtime);
        runtime.watch(&store);
        let _entered = runtime.handle().enter();
        // A restarted server has other random numbers.
        let random = Random::seeded(self.seed.wrapping_mul(1000).wrapping_add(self.starts));
        let (clock, metrics) = (runtime.clock().clone(), Metrics::new());
        let tasks = Tasks::new(&metrics);
        let config = Arc::new(self.config.clone());
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            server_name: self.name.clone(),
            signing_key: self.key.clone(),
            config: RoomsConfig::default(),
            policy_servers: None,
        });
        let rooms = rooms.expect("the rooms open");
        let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), UsersConfig::default());
        let users = users.expect("the accounts open");
        let parts = DestinationsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            config: config.clone(),
        };
        let destinations = Destinations::open(parts).expect("the destinations open");
        let client = FederationClient::new(ClientParts {
            server_name: self.name.clone(),
            signing_key: self.key.clone(),
            clock: clock.clone(),
            random: random.clone(),
            destinations: destinations.clone(),
            config: config.clone(),
            transport: network.transport(&self.name),
        });
        let keys = KeyRing::new(KeyRingParts {
            store: store.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            server_name: self.name.clone(),
            own: OwnKeys { current: self.key.clone(), old: Vec::new() },
            config: config.clone(),
            client: client.clone(),
        });
        let media = Media::open(MediaSetup {
            store: store.clone(),
            server_name: self.name.clone(),
            dir: self.media_dir.path().to_owned(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            config: MediaConfig::default(),
            remote: Arc::new(RemoteMediaClient::new(client.clone())),
        });
        let federation = Federation::new(FederationParts {
            appservices: Arc::new(users::NoAppServices),
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            media: media.expect("the media open"),
            calls: None,
            clock,
            random,
            tasks: tasks.clone(),
            metrics,
            server_name: self.name.clone(),
            signing_key: self.key.clone(),
            config,
            client,
            keys,
            destinations,
        });
        federation.start();
        network.attach(&self.name, federation.router());
        self.running = Some(Running { store, rooms, users, federation, tasks });
    }

    fn open_store(&self, runtime: &SimRuntime) -> Store {
        let mut keyspaces = [rooms::KEYSPACES, users::KEYSPACES, media::KEYSPACES].concat();
        keyspaces.extend(federation::keyspaces());
        let options = Options::new(Backend::MemoryDisk(self.disk.clone()), keyspaces);
        // After a stop the last handles of the old store may live a moment longer.
        for _ in 0..1000 {
            match Store::open(options.clone()) {
                Err(OpenError::Locked { .. }) => runtime.pass(Duration::from_millis(100)),
                opened => return opened.unwrap_or_else(|error| panic!("the store does not open: {error}")),
            }
        }
        panic!("somebody still holds the store of {}", self.name);
    }
}

impl Member {
    /// Whether the user's server is in the room and does not know all members yet.
    #[must_use]
    pub fn is_partial(&self, room: &spec::ids::RoomId) -> bool {
        let head = self.rooms.known_room(room).and_then(|nid| self.rooms.head(nid));
        self.is_resident(room) && head.is_ok_and(|head| head.is_partial())
    }

    /// Whether the user's server is in the room.
    #[must_use]
    pub fn is_resident(&self, room: &spec::ids::RoomId) -> bool {
        let nid = self.rooms.room_nid(room).ok().flatten();
        nid.is_some_and(|nid| self.rooms.is_resident(nid).unwrap_or(false))
    }

    /// The port to other servers.
    #[must_use]
    pub fn port(&self) -> &dyn RemoteRooms {
        &self.remote
    }
}

/// Short waits, so that a simulated minute is long; nothing that is told regularly.
fn federation_config(trusted_key_servers: Vec<String>) -> FederationConfig {
    FederationConfig {
        trusted_key_servers,
        request_timeout: Span::seconds(4),
        join_timeout: Span::seconds(20),
        backoff: Span::seconds(1),
        max_backoff: Span::seconds(4),
        max_gap_events: 1000,
        presence: false,
        typing: false,
        ..FederationConfig::default()
    }
}
