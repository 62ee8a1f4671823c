//! A server's rooms on the memory backend.

use std::future::Future;
use std::sync::Arc;

use rooms::{
    CreateRoom, Draft, Membership, MembershipChange, PolicyServers, Preset, RoomError, RoomView, Rooms, RoomsConfig,
    RoomsParts, UserNid,
};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, Options, Store};

#[derive(Clone)]
pub struct Server {
    pub rooms: Rooms,
    pub store: Store,
    pub clock: Clock,
}

pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Server) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { test(Server::start()).await });
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub fn text(body: &str) -> Map<String, Value> {
    object(json!({"msgtype": "m.text", "body": body}))
}

impl Server {
    pub fn start() -> Server {
        Server::named("hs.test", 7)
    }

    /// The key that [`Server::named`] signs with.
    pub fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed([seed; 32], "1").unwrap()
    }

    pub fn named(name: &str, key: u8) -> Server {
        let options = Options::new(Backend::Memory, rooms::KEYSPACES.to_vec());
        Server::open(Store::open(options).unwrap(), name, key, u64::from(key))
    }

    /// A restart on the same disk takes another seed, as a real one gets other random numbers.
    pub fn start_on(store: Store, seed: u64) -> Server {
        Server::open(store, "hs.test", 7, seed)
    }

    fn open(store: Store, name: &str, key: u8, seed: u64) -> Server {
        Server::with_policy(store, name, key, seed, None)
    }

    /// A server with other settings on a store that is in use no more.
    pub fn with_config(store: Store, config: RoomsConfig) -> Server {
        Server::build(store, ("hs.test", 7, 7), None, config)
    }

    pub fn with_policy(
        store: Store,
        name: &str,
        key: u8,
        seed: u64,
        policy_servers: Option<Arc<dyn PolicyServers>>,
    ) -> Server {
        Server::build(store, (name, key, seed), policy_servers, RoomsConfig::default())
    }

    fn build(
        store: Store,
        (name, key, seed): (&str, u8, u64),
        policy_servers: Option<Arc<dyn PolicyServers>>,
        config: RoomsConfig,
    ) -> Server {
        let clock = Clock::fake(1_700_000_000_000 + seed * 1_000_000);
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: Random::seeded(seed),
            tasks: Tasks::new(&Metrics::new()),
            server_name: ServerName::parse(name).unwrap(),
            signing_key: Arc::new(Server::key(key)),
            config,
            policy_servers,
        })
        .unwrap();
        Server { rooms, store, clock }
    }

    pub async fn user(&self, name: &str) -> (UserId, UserNid) {
        let user = UserId::parse(format!("@{name}:{}", self.rooms.server_name())).unwrap();
        let nid = self.rooms.intern_user(&user).await.unwrap();
        (user, nid)
    }

    pub async fn create(&self, creator: &UserId, version: RoomVersion, preset: Preset) -> RoomId {
        self.rooms.create_room(request(creator, version, preset)).await.unwrap()
    }

    pub async fn change(&self, room: &RoomId, by: &UserId, of: &UserId, to: Membership) -> Result<(), RoomError> {
        let change = MembershipChange { sender: by.clone(), target: of.clone(), membership: to, content: Map::new() };
        self.rooms.change_membership(room, change).await
    }

    pub async fn append(&self, room: &RoomId, draft: Draft) -> Result<EventId, RoomError> {
        let nid = self.rooms.known_room(room).unwrap();
        self.rooms.append(nid, vec![draft], None).await.map(|ids| ids[0].clone())
    }

    pub async fn say(&self, room: &RoomId, by: &UserId, body: &str) -> EventId {
        self.append(room, Draft::message(by.clone(), "m.room.message", text(body))).await.unwrap()
    }

    pub fn view(&self, room: &RoomId, user: UserNid) -> RoomView {
        self.rooms.as_user(room, user).unwrap()
    }

    pub fn assert_sound(&self) {
        let findings = rooms::fsck::check(&self.store, &mut |_| {}).unwrap();
        assert!(findings.problems.is_empty(), "{:#?}", findings.problems);
    }
}

pub fn request(creator: &UserId, version: RoomVersion, preset: Preset) -> CreateRoom {
    CreateRoom { name: Some("A room".into()), ..CreateRoom::new(creator.clone(), version, preset) }
}
