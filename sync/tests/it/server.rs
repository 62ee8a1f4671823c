//! A server's rooms, accounts and sync on the memory backend.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rooms::{CreateRoom, Draft, Membership, MembershipChange, Preset, RoomNid, Rooms, RoomsConfig, RoomsParts};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName};
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, Options, Store};
use sync::{Filter, SlidingRequest, Sync, SyncConfig, SyncError, SyncParts, SyncToken, V3Request};
use users::{AccountKind, AdminRights, DeviceLogin, NewAccount, PresenceState, Session, Users, UsersConfig};

pub struct Server {
    pub rooms: Rooms,
    pub users: Users,
    pub sync: Sync,
    pub clock: Clock,
    pub tasks: Tasks,
}

pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Server) -> F) {
    run_with(SyncConfig::default(), test);
}

pub fn run_with<F: Future<Output = ()>>(config: SyncConfig, test: impl FnOnce(Server) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { test(Server::start(Backend::Memory, config)).await });
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

impl Server {
    pub fn start(backend: Backend, config: SyncConfig) -> Server {
        Server::named("hs.test", backend, config)
    }

    pub fn named(name: &str, backend: Backend, config: SyncConfig) -> Server {
        Server::with(name, backend, config, RoomsConfig::default())
    }

    pub fn with(name: &str, backend: Backend, config: SyncConfig, of_rooms: RoomsConfig) -> Server {
        let mut keyspaces = rooms::KEYSPACES.to_vec();
        keyspaces.extend_from_slice(users::KEYSPACES);
        let store = Store::open(Options::new(backend, keyspaces)).unwrap();
        let clock = Clock::fake(1_700_000_000_000);
        let tasks = Tasks::new(&Metrics::new());
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: Random::seeded(3),
            tasks: tasks.clone(),
            server_name: ServerName::parse(name).unwrap(),
            signing_key: Arc::new(SigningKey::from_seed([1; 32], "1").unwrap()),
            config: of_rooms,
            policy_servers: None,
        })
        .unwrap();
        let (random, users) = (Random::seeded(7), UsersConfig::default());
        let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random, users).unwrap();
        let parts = SyncParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            config,
        };
        let sync = Sync::new(parts);
        Server { rooms, users, sync, clock, tasks }
    }

    pub async fn login(&self, localpart: &str, device: &str) -> Arc<Session> {
        let user_id = self.users.parse_local_user(localpart).unwrap();
        let user = match self.users.account_by_id(&user_id).unwrap() {
            Some(account) => account.user,
            None => {
                let kind = AccountKind::User;
                let admin = AdminRights::Denied;
                let new = NewAccount { localpart, password: None, kind, admin, registration_token: None };
                self.users.create_account(new).await.unwrap().user
            }
        };
        let login = DeviceLogin { device_id: Some(device), ..DeviceLogin::default() };
        let session = self.users.start_session(user, login).await.unwrap();
        self.users.authenticate(&session.tokens.access_token).await.unwrap()
    }

    pub async fn create(&self, creator: &Session, more: impl FnOnce(&mut CreateRoom)) -> RoomId {
        let mut request = CreateRoom::new(creator.user_id.clone(), RoomVersion::V11, Preset::PublicChat);
        more(&mut request);
        self.rooms.create_room(request).await.unwrap()
    }

    pub fn nid(&self, room: &RoomId) -> RoomNid {
        self.rooms.room_nid(room).unwrap().unwrap()
    }

    pub async fn append(&self, room: &RoomId, draft: Draft) -> EventId {
        self.rooms.append(self.nid(room), vec![draft], None).await.unwrap()[0].clone()
    }

    pub async fn say(&self, who: &Session, room: &RoomId, body: &str) -> EventId {
        let content = object(json!({"msgtype": "m.text", "body": body}));
        self.append(room, Draft::message(who.user_id.clone(), "m.room.message", content)).await
    }

    pub async fn set(&self, who: &Session, room: &RoomId, kind: &str, key: &str, content: Value) -> EventId {
        self.append(room, Draft::state(who.user_id.clone(), kind, key, object(content))).await
    }

    pub async fn change(&self, room: &RoomId, by: &Session, of: &Session, to: Membership) {
        let (sender, target) = (by.user_id.clone(), of.user_id.clone());
        let change = MembershipChange { sender, target, membership: to, content: Map::new() };
        self.rooms.change_membership(room, change).await.unwrap();
    }

    pub async fn join(&self, room: &RoomId, who: &Session) {
        self.change(room, who, who, Membership::Join).await;
    }

    pub async fn leave(&self, room: &RoomId, who: &Session) {
        self.change(room, who, who, Membership::Leave).await;
    }

    /// A sync that does not wait.
    pub async fn v3(&self, who: &Session, since: Option<&str>) -> Value {
        self.v3_with(who, request(since)).await.unwrap()
    }

    pub async fn v3_with(&self, who: &Session, request: V3Request) -> Result<Value, SyncError> {
        let answer = self.sync.v3(who, &request).await?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    pub async fn sliding(&self, who: &Session, request: Value) -> Result<Value, SyncError> {
        let request = SlidingRequest::parse(request.to_string().as_bytes())?;
        let answer = self.sync.sliding(who, &request, PresenceState::Offline).await?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }
}

pub fn request(since: Option<&str>) -> V3Request {
    V3Request {
        since: since.map(|since| SyncToken::parse(since).unwrap()),
        filter: Arc::default(),
        full_state: false,
        set_presence: PresenceState::Offline,
        timeout: Duration::ZERO,
        state_after: None,
    }
}

pub fn filtered(since: Option<&str>, filter: Value) -> V3Request {
    let filter = Filter::parse(filter.to_string().as_bytes()).unwrap();
    V3Request { filter: Arc::new(filter), ..request(since) }
}

pub fn token(answer: &Value) -> &str {
    answer["next_batch"].as_str().unwrap()
}

/// What an answer says of a room in one of the sections of `rooms`.
pub fn room<'a>(answer: &'a Value, section: &str, room: &RoomId) -> &'a Value {
    &answer["rooms"][section][room.as_str()]
}

/// The bodies of the messages among events, the types of the others.
pub fn outline(events: &Value) -> Vec<String> {
    let text = |event: &Value| match event["content"]["body"].as_str() {
        Some(body) => body.to_owned(),
        None => event["type"].as_str().unwrap().to_owned(),
    };
    events.as_array().map(|events| events.iter().map(text).collect()).unwrap_or_default()
}
