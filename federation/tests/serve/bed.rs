//! Servers in one process whose requests to each other are carried by function calls.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use calls::{CallAddresses, CallEvents, Calls, CallsConfig, CallsParts, Grant, LiveLeg, MediaServer};
use federation::{
    AnswerBody, Ask, CallsClient, ClientParts, Destinations, DestinationsParts, Federation, FederationClient,
    FederationConfig, FederationParts, KeyRing, KeyRingParts, OwnKeys, RemoteError, RemoteMediaClient, Transport,
    TransportError,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use media::{Media, MediaSetup};
use rooms::{
    CreateRoom, Draft, Membership, MembershipChange, Preset, RoomError, RoomNid, Rooms, RoomsConfig, RoomsParts,
    UserNid,
};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, Options, Store};
use tempfile::TempDir;
use tower::ServiceExt;
use users::{AccountKind, AdminRights, NewAccount, Users, UsersConfig};

/// The servers that can be reached.
#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<HashMap<String, Router>>>);

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, TransportError>> + Send + 'a>>;

impl Transport for Net {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        let router = self.0.lock().unwrap().get(destination.as_str()).cloned();
        Box::pin(async move {
            let unreachable = |reason: &str| TransportError::Unreachable(reason.to_owned());
            let router = router.ok_or_else(|| unreachable("no such server"))?;
            let answer = router.oneshot(request.map(Body::from)).await.unwrap();
            let (head, body) = answer.into_parts();
            let bytes = body.collect().await.map_err(|_| unreachable("broken off"))?.to_bytes();
            Ok(Response::from_parts(head, Full::new(bytes).map_err(|never| match never {}).boxed()))
        })
    }

    fn get_url(&self, url: Uri) -> Sending<'_> {
        Box::pin(std::future::ready(Err(TransportError::BadAddress(url.to_string()))))
    }
}

/// A server.
pub struct Server {
    pub name: ServerName,
    pub key: Arc<SigningKey>,
    pub rooms: Rooms,
    pub users: Users,
    pub media: Media,
    pub calls: Calls,
    pub client: FederationClient,
    pub router: Router,
    _dir: TempDir,
}

/// A media server whose tokens say what they are for.
struct Grants;

impl MediaServer for Grants {
    fn token(&self, grant: &Grant) -> String {
        json!({"sub": grant.identity, "publish": grant.can_publish, "create": grant.may_create}).to_string()
    }

    fn disconnect(&self, _: &str, _: &str) {}

    fn participants(&self, _: &str) -> Vec<LiveLeg> {
        Vec::new()
    }

    fn mute(&self, _: &str, _: &str, _: &str) {}
}

/// Runs a test with this server and another.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Server, Server) -> F) {
    run_with(FederationConfig::default(), test);
}

/// As [`run`], with other settings of this server.
pub fn run_with<F: Future<Output = ()>>(config: FederationConfig, test: impl FnOnce(Server, Server) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let net = Net::default();
        let here = Server::start(&net, "hs.test", 1, config);
        let there = Server::start(&net, "remote.test", 2, FederationConfig::default());
        test(here, there).await;
    });
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

impl Server {
    pub fn start(net: &Net, name: &str, seed: u8, mut config: FederationConfig) -> Server {
        config.trusted_key_servers = Vec::new();
        let config = Arc::new(config);
        let name = ServerName::parse(name).unwrap();
        let key = Arc::new(SigningKey::from_seed([seed; 32], &format!("k{seed}")).unwrap());
        let (clock, random, metrics) = (Clock::system(), Random::seeded(u64::from(seed)), Metrics::new());
        let tasks = Tasks::new(&metrics);
        let mut keyspaces = [rooms::KEYSPACES, users::KEYSPACES, media::KEYSPACES, calls::KEYSPACES].concat();
        keyspaces.extend(federation::keyspaces());
        let store = Store::open(Options::new(Backend::Memory, keyspaces)).unwrap();
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            server_name: name.clone(),
            signing_key: key.clone(),
            config: RoomsConfig::default(),
            policy_servers: None,
        })
        .unwrap();
        let users =
            Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), UsersConfig::default()).unwrap();
        let destinations = Destinations::open(DestinationsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            config: config.clone(),
        })
        .unwrap();
        let client = FederationClient::new(ClientParts {
            server_name: name.clone(),
            signing_key: key.clone(),
            clock: clock.clone(),
            random: random.clone(),
            destinations: destinations.clone(),
            config: config.clone(),
            transport: Arc::new(net.clone()),
        });
        let keys = KeyRing::new(KeyRingParts {
            store: store.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            server_name: name.clone(),
            own: OwnKeys { current: key.clone(), old: Vec::new() },
            config: config.clone(),
            client: client.clone(),
        });
        let dir = tempfile::tempdir().unwrap();
        let media = Media::open(MediaSetup {
            store: store.clone(),
            server_name: name.clone(),
            dir: dir.path().to_owned(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            config: media::MediaConfig::default(),
            remote: Arc::new(RemoteMediaClient::new(client.clone())),
        })
        .unwrap();
        let calls = Calls::new(CallsParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            config: CallsConfig::default(),
            addresses: CallAddresses::below(&format!("https://{name}")),
            media: Some(Arc::new(Grants)),
            turn: None,
            remote: Arc::new(CallsClient::new(client.clone())),
            events: CallEvents::default(),
            recorder: None,
        });
        let federation = Federation::new(FederationParts {
            appservices: Arc::new(users::NoAppServices),
            store,
            rooms: rooms.clone(),
            users: users.clone(),
            media: media.clone(),
            calls: Some(calls.clone()),
            clock,
            random,
            tasks,
            metrics,
            server_name: name.clone(),
            signing_key: key.clone(),
            config,
            client: client.clone(),
            keys,
            destinations,
        });
        let router = federation.router();
        net.0.lock().unwrap().insert(name.as_str().to_owned(), router.clone());
        Server { name, key, rooms, users, media, calls, client, router, _dir: dir }
    }

    /// An account of this server's.
    pub async fn user(&self, localpart: &str) -> (UserId, UserNid) {
        let account = self.users.create_account(NewAccount {
            localpart,
            password: None,
            kind: AccountKind::User,
            admin: AdminRights::Denied,
            registration_token: None,
        });
        let account = account.await.unwrap();
        (account.user_id, account.user)
    }

    pub async fn create(&self, creator: &UserId, version: RoomVersion, preset: Preset) -> RoomId {
        self.create_with(creator, version, preset, Vec::new()).await
    }

    /// A room with further state.
    pub async fn create_with(
        &self,
        creator: &UserId,
        version: RoomVersion,
        preset: Preset,
        initial_state: Vec<(&str, Value)>,
    ) -> RoomId {
        self.create_named(creator, version, preset, initial_state, Some("The room")).await
    }

    /// As [`Server::create_with`], with another name or none.
    pub async fn create_named(
        &self,
        creator: &UserId,
        version: RoomVersion,
        preset: Preset,
        initial_state: Vec<(&str, Value)>,
        name: Option<&str>,
    ) -> RoomId {
        let state = initial_state.into_iter().map(|(kind, content)| (kind.to_owned(), String::new(), object(content)));
        let room = CreateRoom {
            name: name.map(str::to_owned),
            initial_state: state.collect(),
            ..CreateRoom::new(creator.clone(), version, preset)
        };
        self.rooms.create_room(room).await.unwrap()
    }

    pub fn nid(&self, room: &RoomId) -> RoomNid {
        self.rooms.known_room(room).unwrap()
    }

    pub async fn change(&self, room: &RoomId, by: &UserId, of: &UserId, to: Membership) -> Result<(), RoomError> {
        let change = MembershipChange { sender: by.clone(), target: of.clone(), membership: to, content: Map::new() };
        self.rooms.change_membership(room, change).await
    }

    pub async fn send(&self, room: &RoomId, by: &UserId, text: &str) -> EventId {
        let content = object(json!({"msgtype": "m.text", "body": text}));
        self.append(room, Draft::message(by.clone(), "m.room.message", content)).await
    }

    pub async fn set(&self, room: &RoomId, by: &UserId, kind: &str, key: &str, content: Value) -> EventId {
        self.append(room, Draft::state(by.clone(), kind, key, object(content))).await
    }

    async fn append(&self, room: &RoomId, draft: Draft) -> EventId {
        self.rooms.append(self.nid(room), vec![draft], None).await.unwrap().remove(0)
    }

    pub fn membership(&self, room: &RoomId, user: &UserId) -> Option<Membership> {
        let user = self.rooms.user_nid(user).unwrap()?;
        let room = self.rooms.room_nid(room).unwrap()?;
        self.rooms.membership(room, user).unwrap().map(|row| row.membership)
    }

    /// The user of a name on this server, with or without an account.
    pub fn user_id(&self, localpart: &str) -> UserId {
        UserId::parse(format!("@{localpart}:{}", self.name)).unwrap()
    }

    /// Asks another server, signed by this one.
    pub async fn ask(&self, server: &Server, ask: Ask) -> Result<Value, RemoteError> {
        let bytes = self.client.ask(&server.name, ask).await?;
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    pub async fn get(&self, server: &Server, path: &str) -> Result<Value, RemoteError> {
        self.ask(server, Ask::get(format!("/_matrix/federation/v1/{path}"))).await
    }

    /// `PUT` under `/_matrix/federation/`.
    pub async fn put(&self, server: &Server, path: &str, body: &Value) -> Result<Value, RemoteError> {
        self.ask(server, Ask::put(format!("/_matrix/federation/{path}"), body)).await
    }

    /// Asks for a template and completes it. `change` is made before it is signed.
    pub async fn make(
        &self,
        server: &Server,
        kind: &str,
        room: &RoomId,
        user: &UserId,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(Map<String, Value>, EventId), RemoteError> {
        let template = self.get(server, &make_path(kind, room, user)).await?;
        let version: RoomVersion = template["room_version"].as_str().unwrap().parse().unwrap();
        let mut event = object(template["event"].clone());
        event.insert("origin".into(), self.name.as_str().into());
        if version.rules().pair_references {
            event.insert("event_id".into(), format!("$own:{}", self.name).into());
        }
        change(&mut event);
        let pdu = Pdu::sign(event, &self.name, &self.key, version.rules()).unwrap();
        Ok((pdu.to_object().unwrap(), pdu.event_id))
    }

    /// Joins a user of this server to a room of another, and tells what that answered.
    pub async fn join(&self, server: &Server, room: &RoomId, user: &UserId) -> Result<Value, RemoteError> {
        let (event, id) = self.make(server, "make_join", room, user, |_| ()).await?;
        self.put(server, &send_path("v2/send_join", room, &id), &Value::Object(event)).await
    }

    /// As [`Server::join`], taking an answer without members.
    pub async fn join_partially(&self, server: &Server, room: &RoomId, user: &UserId) -> Result<Value, RemoteError> {
        let (event, id) = self.make(server, "make_join", room, user, |_| ()).await?;
        let path = format!("{}?omit_members=true", send_path("v2/send_join", room, &id));
        self.put(server, &path, &Value::Object(event)).await
    }

    /// A request without a signature.
    pub async fn call(&self, method: Method, path: &str, body: Body) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

/// All versions are offered.
pub fn make_path(kind: &str, room: &RoomId, user: &UserId) -> String {
    let versions: Vec<String> = RoomVersion::ALL.iter().map(|version| format!("ver={version}")).collect();
    format!("{kind}/{}/{}?{}", escape(room.as_str()), escape(user.as_str()), versions.join("&"))
}

/// The path of the second half of a handshake.
pub fn send_path(kind: &str, room: &RoomId, event: &EventId) -> String {
    format!("{kind}/{}/{}", escape(room.as_str()), escape(event.as_str()))
}

pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Status and code of a refusal.
#[track_caller]
pub fn refusal<T: std::fmt::Debug>(result: Result<T, RemoteError>) -> (u16, String) {
    match result {
        Err(RemoteError::Refused { status, errcode, .. }) => (status.as_u16(), errcode),
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(result: Result<T, RemoteError>, status: u16, errcode: &str) {
    assert_eq!(refusal(result), (status, errcode.to_owned()));
}
