//! What the tests of this module start from: this server, `here.test`, on a memory store, and one other server,
//! `there.test`, which signs events and answers what it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use rooms::{CreateRoom, Preset, RoomNid, Rooms, RoomsConfig, RoomsParts};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use spec::xmatrix::XMatrix;
use storage::{Backend, MemoryDisk, Options, Store};
use tower::ServiceExt;
use users::{Users, UsersConfig};

use crate::destinations::DestinationsParts;
use crate::transport::Sending;
use crate::{
    ClientParts, Destinations, Federation, FederationClient, FederationConfig, FederationParts, KeyRing, KeyRingParts,
    OwnKeys, PolicyClient, RemoteMediaClient, Transport, TransportError,
};

pub(crate) const VERSION: RoomVersion = RoomVersion::V11;
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// What the other server answers: path without query, query, body → an answer, or silence.
pub(crate) type Answers = Box<dyn Fn(&str, &str, &Value) -> Option<Value> + Send + Sync>;

/// The other server.
pub(crate) struct Peer {
    pub name: ServerName,
    pub key: SigningKey,
    answers: Mutex<Answers>,
    /// Whether it takes requests and never answers, but for its keys.
    pub hangs: AtomicBool,
    /// How long its answers take on a clock, but for its keys.
    pub slow: Mutex<Option<(Clock, Duration)>>,
    /// The paths that it was asked, but for its keys.
    asked: Mutex<Vec<String>>,
    /// Which other servers were looked for.
    strangers: Mutex<BTreeSet<ServerName>>,
}

impl Peer {
    fn new() -> Peer {
        Peer {
            name: ServerName::parse("there.test").unwrap(),
            key: SigningKey::from_seed([2; 32], "t").unwrap(),
            answers: Mutex::new(Box::new(|_, _, _| None)),
            hangs: AtomicBool::new(false),
            slow: Mutex::default(),
            asked: Mutex::default(),
            strangers: Mutex::default(),
        }
    }

    pub fn answer(&self, answers: impl Fn(&str, &str, &Value) -> Option<Value> + Send + Sync + 'static) {
        *self.answers.lock() = Box::new(answers);
    }

    /// What it was asked since this was last looked at: the endpoints' names.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// The servers that were looked for and are not there, since this was last looked at.
    pub fn take_strangers(&self) -> BTreeSet<ServerName> {
        std::mem::take(&mut *self.strangers.lock())
    }

    fn keys(&self) -> Value {
        let mut keys = Map::new();
        keys.insert("server_name".into(), self.name.as_str().into());
        keys.insert("valid_until_ts".into(), (NOW_MS + 86_400_000).into());
        keys.insert("verify_keys".into(), json!({ self.key.key_id(): { "key": self.key.public_base64() } }));
        keys.insert("old_verify_keys".into(), json!({}));
        self.key.sign_json(&mut keys, self.name.as_str()).unwrap();
        keys.into()
    }

    /// Completes and signs an event of the other server.
    pub fn sign(&self, object: Value) -> Arc<Pdu> {
        let Value::Object(object) = object else { panic!("an event is an object") };
        Arc::new(Pdu::sign(object, &self.name, &self.key, VERSION.rules()).unwrap())
    }
}

impl Transport for Peer {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        if destination != self.name {
            self.strangers.lock().insert(destination);
            return Box::pin(std::future::ready(Err(TransportError::Unreachable("no such server".into()))));
        }
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
        let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let mut slow = None;
        let answer = if path == "/_matrix/key/v2/server" {
            Some(self.keys())
        } else {
            slow = self.slow.lock().clone();
            self.asked.lock().extend(path.split('/').nth(4).map(str::to_owned));
            if self.hangs.load(Ordering::Relaxed) {
                return Box::pin(std::future::pending());
            }
            (self.answers.lock())(&path, &query, &body)
        };
        let (status, answer) = match answer {
            Some(answer) => (StatusCode::OK, answer),
            None => (StatusCode::NOT_FOUND, json!({"errcode": "M_NOT_FOUND", "error": "nothing"})),
        };
        let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| match never {}).boxed();
        Box::pin(async move {
            if let Some((clock, time)) = slow {
                clock.sleep(time).await;
            }
            Ok(Response::builder().status(status).body(body).unwrap())
        })
    }

    fn get_url(&self, _: http::Uri) -> Sending<'_> {
        Box::pin(std::future::ready(Err(TransportError::Unreachable("no such address".into()))))
    }
}

/// This server.
pub(crate) struct Here {
    pub federation: Federation,
    pub peer: Arc<Peer>,
    pub disk: MemoryDisk,
    _media: tempfile::TempDir,
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// The parts of `here.test`, with nobody on it and no notary, and the folder of its media.
pub(crate) fn assemble(
    disk: MemoryDisk,
    config: FederationConfig,
    signing_key: SigningKey,
    transport: Arc<dyn Transport>,
) -> (Federation, tempfile::TempDir) {
    let signing_key = Arc::new(signing_key);
    let keyspaces = [rooms::KEYSPACES, users::KEYSPACES, media::KEYSPACES, &crate::keyspaces()].concat();
    assert!(disk.wait_until_free());
    let store = Store::open(Options::new(Backend::MemoryDisk(disk), keyspaces)).unwrap();
    let server_name = ServerName::parse("here.test").unwrap();
    let (clock, random, metrics) = (Clock::fake(NOW_MS), Random::seeded(1), Metrics::default());
    let tasks = Tasks::new(&metrics);
    let config = Arc::new(FederationConfig { trusted_key_servers: Vec::new(), ..config });
    let destinations = Destinations::open(DestinationsParts {
        store: store.clone(),
        clock: clock.clone(),
        random: random.clone(),
        config: config.clone(),
    })
    .unwrap();
    let client = FederationClient::new(ClientParts {
        server_name: server_name.clone(),
        signing_key: signing_key.clone(),
        clock: clock.clone(),
        random: random.clone(),
        destinations: destinations.clone(),
        config: config.clone(),
        transport,
    });
    let rooms = Rooms::new(RoomsParts {
        store: store.clone(),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        server_name: server_name.clone(),
        signing_key: signing_key.clone(),
        config: RoomsConfig::default(),
        policy_servers: Some(Arc::new(PolicyClient::new(client.clone()))),
    })
    .unwrap();
    let users = UsersConfig::default();
    let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), users).unwrap();
    let keys = KeyRing::new(KeyRingParts {
        store: store.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        server_name: server_name.clone(),
        own: OwnKeys { current: signing_key.clone(), old: Vec::new() },
        config: config.clone(),
        client: client.clone(),
    });
    let dir = tempfile::tempdir().unwrap();
    let media = media::Media::open(media::MediaSetup {
        store: store.clone(),
        server_name: server_name.clone(),
        dir: dir.path().to_owned(),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        config: media::MediaConfig::default(),
        remote: Arc::new(RemoteMediaClient::new(client.clone())),
    })
    .unwrap();
    let federation = Federation::new(FederationParts {
        appservices: Arc::new(users::NoAppServices),
        store,
        rooms,
        users,
        media,
        calls: None,
        clock,
        random,
        tasks,
        metrics,
        server_name,
        signing_key,
        config,
        client,
        keys,
        destinations,
    });
    (federation, dir)
}

impl Here {
    pub fn new() -> Here {
        Here::on(MemoryDisk::default(), FederationConfig::default())
    }

    pub fn with_config(config: FederationConfig) -> Here {
        Here::on(MemoryDisk::default(), config)
    }

    /// The server with another way to others than the one other server.
    pub fn over(transport: Arc<dyn Transport>) -> Here {
        Here::build(MemoryDisk::default(), FederationConfig::default(), Some(transport))
    }

    /// The server on a disk that may hold something already.
    pub fn on(disk: MemoryDisk, config: FederationConfig) -> Here {
        Here::build(disk, config, None)
    }

    fn build(disk: MemoryDisk, config: FederationConfig, transport: Option<Arc<dyn Transport>>) -> Here {
        let key = SigningKey::from_seed([1; 32], "h").unwrap();
        let peer = Arc::new(Peer::new());
        let transport = transport.unwrap_or_else(|| peer.clone());
        let (federation, dir) = assemble(disk.clone(), config, key, transport);
        Here { federation, peer, disk, _media: dir }
    }

    /// A public room of Alice, who is of this server.
    pub async fn room(&self) -> (RoomId, RoomNid) {
        let request = CreateRoom::new(user("@alice:here.test"), VERSION, Preset::PublicChat);
        let room = self.federation.rooms.create_room(request).await.unwrap();
        let nid = self.federation.rooms.known_room(&room).unwrap();
        (room, nid)
    }

    /// The forward extremities.
    pub fn ends(&self, room: RoomNid) -> Vec<EventId> {
        let head = self.federation.rooms.head(room).unwrap();
        head.extremities().map(|id| EventId::parse(id).unwrap()).collect()
    }

    /// An event of the other server that follows `prev`, with the auth events that its kind needs from the current
    /// state, and `more` of them.
    pub fn event(&self, room: RoomNid, mut object: Value, prev: &[EventId], more: &[EventId]) -> Arc<Pdu> {
        let head = self.federation.rooms.head(room).unwrap();
        let state = [head.create(), head.power_levels(), head.join_rules()];
        let is_member = object["type"] == "m.room.member";
        let mut auth: Vec<EventId> = Vec::new();
        for event in state.into_iter().flatten() {
            if &*event.kind != "m.room.join_rules" || is_member {
                auth.push(event.event_id.clone());
            }
        }
        auth.extend_from_slice(more);
        object["room_id"] = head.room_id().as_str().into();
        object["prev_events"] = json!(prev);
        object["auth_events"] = json!(auth);
        object["origin_server_ts"] = NOW_MS.into();
        object["depth"] = object.get("depth").cloned().unwrap_or(json!(100));
        self.peer.sign(object)
    }

    /// Bob's join, which follows what is stored.
    pub fn join_of_bob(&self, room: RoomNid) -> Arc<Pdu> {
        let bob = "@bob:there.test";
        let join = json!({"type": "m.room.member", "sender": bob, "state_key": bob, "content": {"membership": "join"}});
        self.event(room, join, &self.ends(room), &[])
    }

    /// A chain of messages of Bob's after `first`, of which each follows the one before.
    pub fn messages(&self, room: RoomNid, join: &Pdu, count: usize) -> Vec<Arc<Pdu>> {
        let mut prev = join.event_id.clone();
        let mut chain = Vec::new();
        for n in 0..count {
            let message = json!({
                "type": "m.room.message", "sender": "@bob:there.test", "depth": 101 + n,
                "content": {"msgtype": "m.text", "body": format!("message {n}")},
            });
            let message = self.event(room, message, &[prev], std::slice::from_ref(&join.event_id));
            prev = message.event_id.clone();
            chain.push(message);
        }
        chain
    }

    /// Sends a transaction through the router, signed as the other server signs; returns status and answer.
    pub async fn send(&self, txn_id: &str, body: Value) -> (StatusCode, Value) {
        let Value::Object(content) = &body else { panic!("a transaction is an object") };
        let uri = format!("/_matrix/federation/v1/send/{txn_id}");
        let own = &self.federation.server_name;
        let header = XMatrix::sign(&self.peer.key, &self.peer.name, own, "PUT", &uri, Some(content)).to_header();
        self.request("PUT", &uri, Some(header), Body::from(body.to_string())).await
    }

    /// Any request through the router.
    pub async fn request(&self, method: &str, uri: &str, header: Option<String>, body: Body) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(uri);
        let request = match header {
            Some(header) => request.header("Authorization", header),
            None => request,
        };
        let response = self.federation.router().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Sends events and waits until they are dealt with. Returns the outcomes.
    pub async fn deliver(&self, txn_id: &str, events: &[Arc<Pdu>]) -> BTreeMap<String, Value> {
        let (status, answer) = self.send(txn_id, self.transaction(events, json!([]))).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        self.settle().await;
        answer["pdus"].as_object().unwrap().clone().into_iter().collect()
    }

    pub fn transaction(&self, events: &[Arc<Pdu>], edus: Value) -> Value {
        let pdus: Vec<Value> = events.iter().map(|event| wire(event)).collect();
        json!({"origin": self.peer.name, "origin_server_ts": NOW_MS, "pdus": pdus, "edus": edus})
    }

    /// Lets time pass, a second at a time, until the work is done.
    pub async fn pass_time<T>(&self, work: impl Future<Output = T>) -> T {
        let passing = async {
            loop {
                tokio::time::sleep(Duration::from_millis(2)).await;
                // Slowly enough that a busy machine does its work within the limits of time that it is given.
                self.federation.clock.advance(Duration::from_millis(100));
            }
        };
        tokio::select! {
            result = work => result,
            () = passing => unreachable!(),
        }
    }

    /// Waits until no event waits any more.
    pub async fn settle(&self) {
        self.until(|| self.federation.staged_events() == 0).await;
    }

    /// Waits until something is so.
    pub async fn until(&self, mut is_so: impl FnMut() -> bool) {
        for _ in 0..6000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not come to be; {} events still wait", self.federation.staged_events());
    }

    /// Whether the event is in the room's timeline.
    pub fn has(&self, room: RoomNid, event: &Pdu) -> bool {
        self.federation.rooms.unknown_events(room, std::slice::from_ref(&event.event_id), false).unwrap().is_empty()
    }
}

/// An event as it is sent.
pub(crate) fn wire(event: &Pdu) -> Value {
    serde_json::from_slice(&event.json).unwrap()
}
