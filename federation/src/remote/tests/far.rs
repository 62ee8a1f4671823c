//! What the tests of this module start from: this server, `here.test`, and others that answer from rooms made by hand.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use spec::auth;
use spec::hash::redacted_bytes;
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::MemoryDisk;
use tokio::sync::watch;

use crate::inbound::fixture::assemble;
use crate::transport::Sending;
use crate::{Federation, FederationConfig, Transport, TransportError};

const NOW_MS: u64 = 1_700_000_000_000;

pub fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

pub fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// Every server of these tests signs with the key that follows from its name.
fn key_of(server: &str) -> SigningKey {
    let seed = server.bytes().fold(7u8, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte));
    SigningKey::from_seed([seed; 32], "k").unwrap()
}

/// A room of another server.
pub struct FarRoom {
    pub version: RoomVersion,
    pub id: RoomId,
    pub events: Vec<Arc<Pdu>>,
    pub state: BTreeMap<(String, String), Arc<Pdu>>,
    /// Whether its servers leave members out when they may.
    pub omits_members: bool,
}

impl FarRoom {
    /// A room of `@host:a.test`, named "far".
    pub fn new(version: RoomVersion, join_rule: &str) -> FarRoom {
        let id = RoomId::parse("!room:a.test").unwrap();
        let mut room = FarRoom { version, id, events: Vec::new(), state: BTreeMap::new(), omits_members: false };
        let host = "@host:a.test";
        let mut create = json!({"room_version": version.as_str()});
        if !version.rules().use_room_create_sender {
            create["creator"] = host.into();
        }
        room.add(host, "m.room.create", Some(""), create);
        room.add(host, "m.room.member", Some(host), json!({"membership": "join"}));
        let mut levels = json!({"users": {host: 100}, "invite": 50});
        if version.rules().explicitly_privilege_room_creators {
            levels["users"] = json!({});
        }
        room.add(host, "m.room.power_levels", Some(""), levels);
        let mut rules = json!({"join_rule": join_rule});
        if join_rule == "restricted" {
            rules["allow"] = json!([{"type": "m.room_membership", "room_id": "!club:a.test"}]);
        }
        room.add(host, "m.room.join_rules", Some(""), rules);
        room.add(host, "m.room.name", Some(""), json!({"name": "far"}));
        room
    }

    /// Adds an event, signed by the server of its sender.
    pub fn add(&mut self, sender: &str, kind: &str, state_key: Option<&str>, content: Value) -> Arc<Pdu> {
        let (auth, prev) = (self.auth_events(sender, kind, state_key, &content), self.prev_events());
        let mut event = json!({
            "type": kind, "sender": sender, "content": content, "auth_events": auth, "prev_events": prev,
            "depth": self.events.len() + 1, "origin_server_ts": 1_600_000_000_000_u64 + self.events.len() as u64,
        });
        if kind != "m.room.create" || !self.version.rules().room_id_is_create_hash {
            event["room_id"] = self.id.as_str().into();
        }
        if let Some(state_key) = state_key {
            event["state_key"] = state_key.into();
        }
        let server = name(user(sender).server_name());
        if self.version.rules().pair_references {
            event["event_id"] = format!("${}:{server}", self.events.len()).into();
            event["origin"] = server.as_str().into();
        }
        let pdu = Pdu::sign(object(event), &server, &key_of(server.as_str()), self.version.rules()).unwrap();
        let pdu = Arc::new(pdu);
        self.id = pdu.room_id.clone();
        self.events.push(pdu.clone());
        if let Some(state_key) = state_key {
            self.state.insert((kind.to_owned(), state_key.to_owned()), pdu.clone());
        }
        pdu
    }

    fn reference(&self, ids: impl Iterator<Item = EventId>) -> Value {
        let pairs = self.version.rules().pair_references;
        ids.map(|id| if pairs { json!([id, {"sha256": "aGFzaA"}]) } else { json!(id) }).collect()
    }

    fn auth_events(&self, sender: &str, kind: &str, state_key: Option<&str>, content: &Value) -> Value {
        let content = to_raw_value(content).unwrap();
        let types = auth::auth_types(self.version.rules(), kind, &user(sender), state_key, &content);
        let found = types.into_iter().filter_map(|(kind, key)| self.state.get(&(kind.into(), key.into())));
        self.reference(found.map(|event| event.event_id.clone()))
    }

    fn prev_events(&self) -> Value {
        self.reference(self.events.last().into_iter().map(|event| event.event_id.clone()))
    }

    /// What a server in the room answers to `make_join` and its like.
    pub fn template(&self, membership: &str, target: &str) -> Value {
        self.template_of(json!({"membership": membership}), target)
    }

    /// A template with further content.
    pub fn template_of(&self, content: Value, target: &str) -> Value {
        let auth = self.auth_events(target, "m.room.member", Some(target), &content);
        json!({"room_version": self.version.as_str(), "event": {
            "type": "m.room.member", "room_id": self.id, "sender": target, "state_key": target, "content": content,
            "auth_events": auth, "prev_events": self.prev_events(), "depth": self.events.len() + 1,
            "origin_server_ts": 1, "origin": "a.test",
        }})
    }

    pub fn state_json(&self) -> Vec<Value> {
        self.state.values().map(|event| wire(event)).collect()
    }

    /// The state before the event of a question, or the current one if that is none of the room's.
    fn state_before(&self, asked: &Asked) -> Vec<Arc<Pdu>> {
        let id = asked.query.iter().find(|(key, _)| key == "event_id").map(|(_, id)| id.as_str());
        let Some(end) = self.events.iter().position(|event| Some(event.event_id.as_str()) == id) else {
            return self.state.values().cloned().collect();
        };
        let of_state = self.events[..end].iter().filter(|event| event.state_key.is_some());
        let state: BTreeMap<_, _> = of_state.map(|event| ((&event.kind, &event.state_key), event.clone())).collect();
        state.into_values().collect()
    }

    /// An event and all that it goes back to.
    fn auth_chain(&self, events: &[Arc<Pdu>]) -> Vec<Arc<Pdu>> {
        let mut wanted: Vec<EventId> = events.iter().flat_map(|event| event.auth_events.clone()).collect();
        let mut chain: BTreeMap<EventId, Arc<Pdu>> = BTreeMap::new();
        while let Some(id) = wanted.pop() {
            let Some(event) = self.events.iter().find(|event| event.event_id == id) else { continue };
            if chain.insert(id, event.clone()).is_none() {
                wanted.extend(event.auth_events.clone());
            }
        }
        chain.into_values().collect()
    }

    /// The answer to a join without members, as it is from a server that can leave them out.
    fn partial_answer(&self, server: &str, asked: &Asked) -> Value {
        let join = sign(server, asked.body.clone(), self.version);
        let state: Vec<Arc<Pdu>> =
            self.state.values().filter(|event| &*event.kind != "m.room.member").cloned().collect();
        let cited: Vec<EventId> = serde_json::from_value(join["auth_events"].clone()).unwrap();
        let of_join = self.events.iter().filter(|event| cited.contains(&event.event_id)).cloned().collect::<Vec<_>>();
        let mut chain = self.auth_chain(&state.iter().chain(&of_join).cloned().collect::<Vec<_>>());
        chain.extend(of_join);
        json!({
            "origin": server, "members_omitted": true, "servers_in_room": [server],
            "state": state.iter().map(|event| wire(event)).collect::<Vec<_>>(),
            "auth_chain": chain.iter().map(|event| wire(event)).collect::<Vec<_>>(), "event": join,
        })
    }

    /// What a server in the room answers.
    pub fn answer(&self, server: &str, asked: &Asked) -> Value {
        let text = |at: usize| asked.path.get(at).cloned().unwrap_or_default();
        match text(1).as_str() {
            "make_join" => self.template("join", &text(3)),
            "make_knock" => self.template("knock", &text(3)),
            "make_leave" => self.template("leave", &text(3)),
            "send_join" if self.omits_members && asked.query.contains(&("omit_members".into(), "true".into())) => {
                self.partial_answer(server, asked)
            }
            "send_join" => json!({
                "origin": server, "members_omitted": false, "state": self.state_json(),
                "auth_chain": self.state_json(), "event": sign(server, asked.body.clone(), self.version),
            }),
            "send_knock" => json!({"knock_room_state": self.state_json()}),
            "send_leave" => json!({}),
            "invite" => json!({"event": sign(server, asked.body["event"].clone(), self.version)}),
            "backfill" => {
                let limit = asked.query.iter().find(|(key, _)| key == "limit").unwrap().1.parse().unwrap();
                let known = |id: &EventId| self.events.iter().position(|event| event.event_id == *id);
                let from = asked.query.iter().filter(|(key, _)| key == "v");
                let newest = from.filter_map(|(_, id)| known(&EventId::parse(id).unwrap())).max().unwrap();
                let events = self.events[..=newest].iter().rev().take(limit).map(|event| wire(event));
                json!({"origin": server, "origin_server_ts": 1, "pdus": events.collect::<Vec<_>>()})
            }
            "state_ids" | "state" => {
                let state = self.state_before(asked);
                let chain = self.auth_chain(&state);
                if text(1) == "state_ids" {
                    let ids =
                        |events: &[Arc<Pdu>]| events.iter().map(|event| event.event_id.clone()).collect::<Vec<_>>();
                    json!({"pdu_ids": ids(&state), "auth_chain_ids": ids(&chain)})
                } else {
                    let events = |events: &[Arc<Pdu>]| events.iter().map(|event| wire(event)).collect::<Vec<_>>();
                    json!({"pdus": events(&state), "auth_chain": events(&chain)})
                }
            }
            "get_missing_events" => json!({"events": []}),
            "send" => json!({"pdus": {}}),
            "timestamp_to_event" => {
                let first = self.events.iter().find(|event| &*event.kind == "m.room.message").unwrap();
                json!({"event_id": first.event_id, "origin_server_ts": first.origin_server_ts})
            }
            "event" => match self.events.iter().find(|event| event.event_id.as_str() == text(2)) {
                Some(event) => json!({"origin": server, "origin_server_ts": 1, "pdus": [wire(event)]}),
                None => json!({"pdus": []}),
            },
            other => panic!("{server} is asked for {other}"),
        }
    }
}

/// An event as it is sent.
pub fn wire(event: &Pdu) -> Value {
    serde_json::from_slice(&event.json).unwrap()
}

/// Adds a server's signature to an event.
pub fn sign(server: &str, mut event: Value, version: RoomVersion) -> Value {
    let key = key_of(server);
    let signature = key.sign(&redacted_bytes(event.as_object().unwrap(), version.rules()));
    event["signatures"][server] = json!({ key.key_id(): signature });
    event
}

/// A request, taken apart: the path after `/_matrix/federation`.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: Vec<String>,
    pub query: Vec<(String, String)>,
    pub body: Value,
}

type Answers = Box<dyn Fn(&Asked) -> (StatusCode, Value) + Send + Sync>;

/// All other servers.
#[derive(Default)]
pub struct World {
    servers: Mutex<HashMap<String, Answers>>,
    asked: Mutex<Vec<(String, Asked)>>,
    /// The endpoints whose answers are held back.
    held: watch::Sender<BTreeSet<String>>,
}

pub fn refusal(errcode: &str) -> Value {
    json!({"errcode": errcode, "error": "no"})
}

impl World {
    pub fn answer(&self, server: &str, answers: impl Fn(&Asked) -> (StatusCode, Value) + Send + Sync + 'static) {
        self.servers.lock().insert(server.to_owned(), Box::new(answers));
    }

    /// Holds answers of an endpoint back, of all servers.
    pub fn hold(&self, endpoint: &str) {
        self.held.send_modify(|held| _ = held.insert(endpoint.to_owned()));
    }

    /// Lets all answers go.
    pub fn release(&self) {
        self.held.send_modify(BTreeSet::clear);
    }

    /// A server in the room, whose answers `change` may spoil.
    pub fn reside(
        &self,
        server: &'static str,
        room: &Arc<Mutex<FarRoom>>,
        change: impl Fn(&str, &mut Value) + Send + Sync + 'static,
    ) {
        let room = room.clone();
        self.answer(server, move |asked| {
            let mut answer = room.lock().answer(server, asked);
            change(&asked.path[1], &mut answer);
            (StatusCode::OK, answer)
        });
    }

    /// Who was asked for what since the last time; `send_join` and its like with their version.
    pub fn take_asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock());
        asked.into_iter().map(|(server, asked)| format!("{server} {}/{}", asked.path[0], asked.path[1])).collect()
    }

    pub fn last_asked(&self) -> Asked {
        self.asked.lock().last().unwrap().1.clone()
    }
}

fn keys(server: &str) -> Value {
    let key = key_of(server);
    let mut keys = object(json!({
        "server_name": server, "valid_until_ts": NOW_MS + 86_400_000, "old_verify_keys": {},
        "verify_keys": { key.key_id(): { "key": key.public_base64() } },
    }));
    key.sign_json(&mut keys, server).unwrap();
    keys.into()
}

impl Transport for World {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        let unreachable = || Err(TransportError::Unreachable("no such server".into()));
        let servers = self.servers.lock();
        let Some(answers) = servers.get(destination.as_str()) else {
            return Box::pin(std::future::ready(unreachable()));
        };
        let mut endpoint = None;
        let (status, answer) = if request.uri().path() == "/_matrix/key/v2/server" {
            (StatusCode::OK, keys(destination.as_str()))
        } else {
            let decode = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
            let path = request.uri().path().strip_prefix("/_matrix/federation/").unwrap();
            let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            let asked = Asked {
                path: path.split('/').map(decode).collect(),
                query: pairs.map(|(key, value)| (decode(key), decode(value))).collect(),
                body: serde_json::from_slice(request.body()).unwrap_or(Value::Null),
            };
            self.asked.lock().push((destination.as_str().to_owned(), asked.clone()));
            endpoint = asked.path.get(1).cloned();
            answers(&asked)
        };
        let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| match never {}).boxed();
        let mut held = self.held.subscribe();
        Box::pin(async move {
            if let Some(endpoint) = endpoint {
                held.wait_for(|held| !held.contains(&endpoint)).await.unwrap();
            }
            Ok(Response::builder().status(status).body(body).unwrap())
        })
    }

    fn get_url(&self, _: http::Uri) -> Sending<'_> {
        Box::pin(std::future::ready(Err(TransportError::Unreachable("no such address".into()))))
    }
}

/// This server.
pub struct Here {
    pub federation: Federation,
    pub world: Arc<World>,
    disk: MemoryDisk,
    _media: tempfile::TempDir,
}

impl Here {
    pub fn new() -> Here {
        Here::with_config(FederationConfig::default())
    }

    pub fn with_config(config: FederationConfig) -> Here {
        Here::on(MemoryDisk::default(), Arc::default(), config)
    }

    /// On a disk that may hold something already.
    fn on(disk: MemoryDisk, world: Arc<World>, config: FederationConfig) -> Here {
        let (federation, dir) = assemble(disk.clone(), config, key_of("here.test"), world.clone());
        Here { federation, world, disk, _media: dir }
    }

    /// Ends the server and starts it again on its disk.
    pub async fn restart(self) -> Here {
        let Here { federation, world, disk, _media } = self;
        assert!(federation.tasks.drain(Duration::from_secs(60)).await, "a task does not end");
        federation.store.close().unwrap();
        drop(federation);
        let here = Here::on(disk, world, FederationConfig::default());
        here.federation.start();
        here
    }

    /// Waits until it is so, with time passing somewhat faster than it does.
    pub async fn until(&self, is_so: impl FnMut() -> bool) {
        self.until_later(Duration::from_millis(50), is_so).await;
    }

    /// As [`Here::until`], with so much time passing every few milliseconds.
    pub async fn until_later(&self, step: Duration, mut is_so: impl FnMut() -> bool) {
        for _ in 0..30_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.federation.clock.advance(step);
        }
        panic!("it never was so");
    }
}
