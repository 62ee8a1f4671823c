//! A server's rooms, accounts and search, whose data outlive it.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rooms::{CreateRoom, Draft, Membership, MembershipChange, Preset, RoomNid, Rooms, RoomsConfig, RoomsParts};
use runtime::config::Span;
use runtime::{Clock, Metrics, Random, Tasks};
use search::{Found, Order, Search, SearchConfig, SearchKey, SearchParts, SearchQuery};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, MemoryDisk, Options, Store};
use tempfile::TempDir;
use users::{AccountKind, AdminRights, NewAccount, Users, UsersConfig};

/// What a server leaves when it stops.
pub struct Remains {
    pub disk: MemoryDisk,
    pub folder: TempDir,
}

impl Remains {
    pub fn new() -> Remains {
        Remains { disk: MemoryDisk::new(), folder: tempfile::tempdir().unwrap() }
    }

    pub fn index(&self) -> std::path::PathBuf {
        self.folder.path().join("search")
    }
}

/// Runs a server on what another left.
pub fn run<F: Future<Output = ()>>(remains: &Remains, seed: u64, test: impl FnOnce(Server) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::start(remains.disk.clone(), &remains.index(), seed);
        let (tasks, store) = (server.tasks.clone(), server.store.clone());
        test(server).await;
        assert!(tasks.drain(Duration::from_secs(60)).await);
        store.close().unwrap();
    });
}

pub struct Server {
    pub store: Store,
    pub rooms: Rooms,
    pub users: Users,
    pub search: Search,
    pub clock: Clock,
    pub tasks: Tasks,
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

impl Server {
    fn start(disk: MemoryDisk, folder: &Path, seed: u64) -> Server {
        let keyspaces = [rooms::KEYSPACES, users::KEYSPACES, search::KEYSPACES].concat();
        assert!(disk.wait_until_free());
        let store = Store::open(Options::new(Backend::MemoryDisk(disk), keyspaces)).unwrap();
        let clock = Clock::fake(1_700_000_000_000 + seed * 1_000_000);
        let tasks = Tasks::new(&Metrics::new());
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: Random::seeded(seed),
            tasks: tasks.clone(),
            server_name: ServerName::parse("hs.test").unwrap(),
            signing_key: Arc::new(SigningKey::from_seed([1; 32], "1").unwrap()),
            config: RoomsConfig::default(),
            policy_servers: None,
        })
        .unwrap();
        let random = Random::seeded(seed + 100);
        let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random, UsersConfig::default()).unwrap();
        let search = Search::open(SearchParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            folder: folder.to_owned(),
            clock: clock.clone(),
            random: Random::seeded(seed + 200),
            tasks: tasks.clone(),
            metrics: Metrics::new(),
            config: SearchConfig { commit_interval: Span::seconds(0), ..SearchConfig::default() },
        })
        .unwrap();
        Server { store, rooms, users, search, clock, tasks }
    }

    pub async fn account(&self, localpart: &str) -> UserId {
        let kind = AccountKind::User;
        let admin = AdminRights::Denied;
        let new = NewAccount { localpart, password: None, kind, admin, registration_token: None };
        self.users.create_account(new).await.unwrap().user_id
    }

    pub async fn create(&self, creator: &UserId, more: impl FnOnce(&mut CreateRoom)) -> RoomId {
        let mut request = CreateRoom::new(creator.clone(), RoomVersion::V11, Preset::PublicChat);
        more(&mut request);
        self.rooms.create_room(request).await.unwrap()
    }

    pub fn nid(&self, room: &RoomId) -> RoomNid {
        self.rooms.room_nid(room).unwrap().unwrap()
    }

    pub async fn append(&self, room: &RoomId, draft: Draft) -> EventId {
        self.clock.advance(Duration::from_millis(10));
        self.rooms.append(self.nid(room), vec![draft], None).await.unwrap()[0].clone()
    }

    pub async fn say(&self, who: &UserId, room: &RoomId, body: &str) -> EventId {
        let content = object(json!({"msgtype": "m.text", "body": body}));
        self.append(room, Draft::message(who.clone(), "m.room.message", content)).await
    }

    pub async fn edit(&self, who: &UserId, room: &RoomId, event: &EventId, body: &str) -> EventId {
        let content = object(json!({
            "msgtype": "m.text", "body": format!("* {body}"), "m.new_content": {"msgtype": "m.text", "body": body},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event.as_str()},
        }));
        self.append(room, Draft::message(who.clone(), "m.room.message", content)).await
    }

    pub async fn redact(&self, who: &UserId, room: &RoomId, event: &EventId) {
        self.append(room, Draft::redaction(who.clone(), event.clone(), Map::new())).await;
    }

    pub async fn change(&self, room: &RoomId, who: &UserId, membership: Membership) {
        let change = MembershipChange { sender: who.clone(), target: who.clone(), membership, content: Map::new() };
        self.rooms.change_membership(room, change).await.unwrap();
    }

    pub fn query(&self, who: &UserId, term: &str) -> SearchQuery {
        SearchQuery {
            viewer: self.rooms.user_nid(who).unwrap().unwrap(),
            term: term.to_owned(),
            keys: BTreeSet::from([SearchKey::Body, SearchKey::Name, SearchKey::Topic]),
            rooms: None,
            not_rooms: BTreeSet::new(),
            senders: None,
            not_senders: BTreeSet::new(),
            wanted: Box::new(|_| true),
            order: Order::Recent,
            limit: 100,
            from: None,
        }
    }

    /// What is found once the index has caught up.
    pub async fn find(&self, query: SearchQuery) -> Found {
        self.search.catch_up().await.unwrap();
        self.search.find(query).await.unwrap()
    }

    /// The event ids that are found, newest first.
    pub async fn ids(&self, who: &UserId, term: &str) -> Vec<String> {
        self.find(self.query(who, term)).await.hits.iter().map(|hit| hit.event.event_id().to_owned()).collect()
    }
}

pub fn strings(ids: &[&EventId]) -> Vec<String> {
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}
