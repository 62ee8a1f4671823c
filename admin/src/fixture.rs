//! What unit tests start from: administration on a memory store, and nothing around it.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use calls::{CallAnswer, CallError, CallEvents, Calls, CallsConfig, CallsParts, OpenIdProof, RemoteCalls, RemoteSeat};
use media::{Media, MediaConfig, MediaSetup, MediaWriter, Mxc, RemoteDescription, RemoteMedia, RemoteMediaError};
use rooms::{Rooms, RoomsConfig, RoomsParts};
use runtime::{Clock, Metrics, Random, Tasks};
use spec::ids::{ServerName, UserId};
use spec::signing::SigningKey;
use storage::{Backend, MemoryDisk, Options, Store};
use users::{Users, UsersConfig};

use crate::admin::{Admin, AdminParts};
use crate::config::AdminConfig;
use crate::ports::Ports;

pub(crate) struct Fixture {
    pub(crate) admin: Admin,
    pub(crate) clock: Clock,
    disk: MemoryDisk,
    store: Store,
    tasks: Tasks,
    folder: tempfile::TempDir,
}

/// Nobody else is there.
struct Nobody;

impl RemoteCalls for Nobody {
    fn openid_user<'a>(&'a self, server: &'a ServerName, _: &'a OpenIdProof) -> CallAnswer<'a, UserId> {
        Box::pin(ready(Err(CallError::RemoteUnavailable(server.to_string()))))
    }

    fn token<'a>(&'a self, server: &'a ServerName, _: &'a RemoteSeat) -> CallAnswer<'a, String> {
        Box::pin(ready(Err(CallError::RemoteUnavailable(server.to_string()))))
    }
}

impl RemoteMedia for Nobody {
    fn fetch<'a>(
        &'a self,
        _: &'a Mxc,
        _: Duration,
        _: &'a mut MediaWriter,
    ) -> Pin<Box<dyn Future<Output = Result<RemoteDescription, RemoteMediaError>> + Send + 'a>> {
        Box::pin(ready(Err(RemoteMediaError::NotFound)))
    }
}

impl Fixture {
    /// Must be called in a tokio runtime.
    pub(crate) fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        Fixture::open(MemoryDisk::new(), Clock::fake(1_700_000_000_000), folder)
    }

    fn open(disk: MemoryDisk, clock: Clock, folder: tempfile::TempDir) -> Fixture {
        let mut keyspaces = [rooms::KEYSPACES, users::KEYSPACES, media::KEYSPACES, calls::KEYSPACES].concat();
        keyspaces.extend(crate::keyspaces());
        assert!(disk.wait_until_free());
        let store = Store::open(Options::new(Backend::MemoryDisk(disk.clone()), keyspaces)).unwrap();
        let metrics = Metrics::new();
        let (tasks, random) = (Tasks::new(&metrics), Random::seeded(clock.now_ms()));
        let server_name = ServerName::parse("us").unwrap();
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            server_name: server_name.clone(),
            signing_key: Arc::new(SigningKey::from_seed([7; 32], "1").unwrap()),
            config: RoomsConfig::default(),
            policy_servers: None,
        })
        .unwrap();
        let config = UsersConfig::default();
        let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), config).unwrap();
        let media = Media::open(MediaSetup {
            store: store.clone(),
            server_name,
            dir: folder.path().join("media"),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            config: MediaConfig::default(),
            remote: Arc::new(Nobody),
        })
        .unwrap();
        let calls = Calls::new(CallsParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            config: CallsConfig::default(),
            addresses: None,
            media: None,
            turn: None,
            remote: Arc::new(Nobody),
            recorder: None,
            events: CallEvents::default(),
        });
        let admin = Admin::open(AdminParts {
            rooms,
            users,
            media,
            calls,
            search: None,
            store: store.clone(),
            clock: clock.clone(),
            random,
            tasks: tasks.clone(),
            metrics,
            ports: Ports::default(),
            config: AdminConfig::default(),
        })
        .unwrap();
        Fixture { admin, clock, disk, store, tasks, folder }
    }

    /// Ends in good order, and opens the same disk again. Nothing is started.
    pub(crate) async fn restart(self) -> Fixture {
        let Fixture { admin, clock, disk, store, tasks, folder } = self;
        assert!(tasks.drain(Duration::from_secs(20)).await);
        drop(admin);
        store.close().unwrap();
        drop(store);
        Fixture::open(disk, clock, folder)
    }
}
