//! A server without scruples.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use runtime::{Clock, Random};
use serde_json::{Map, Value, json};
use spec::canonical;
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use spec::xmatrix::XMatrix;

use super::network::SimNetwork;
use super::server::SimServer;

/// The largest request that is read.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// How long its keys are valid, in milliseconds.
const VALID_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// A server that signs what it likes, and says what it likes to whom it likes. It answers for its keys, and for the
/// events that it was told to serve.
pub struct Enemy {
    /// Its name.
    pub name: ServerName,
    /// Its key.
    pub key: Arc<SigningKey>,
    /// Its user.
    pub user: UserId,
    network: SimNetwork,
    clock: Clock,
    stock: Arc<Mutex<Stock>>,
    transactions: Mutex<u64>,
}

/// What it serves to those who ask.
#[derive(Default)]
struct Stock {
    events: BTreeMap<String, Value>,
    /// What it answers to `get_missing_events` and `backfill`.
    missing: Vec<Value>,
    /// What it answers to `state_ids`: state and auth chain.
    state_ids: Option<(Vec<String>, Vec<String>)>,
    /// What it was asked.
    asked: Vec<String>,
}

/// An event in the making.
#[derive(Clone, Debug)]
pub struct Forged(Map<String, Value>);

impl Forged {
    /// Changes a property.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Forged {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// As an unsigned object.
    #[must_use]
    pub fn into_object(self) -> Map<String, Value> {
        self.0
    }
}

impl Enemy {
    /// An enemy with a name, attached to the network.
    ///
    /// # Panics
    /// If the name is none.
    #[must_use]
    pub fn new(name: &str, seed: u64, network: &SimNetwork, clock: &Clock) -> Enemy {
        let mut bytes = [0; 32];
        Random::seeded(seed).fill(&mut bytes);
        let key = Arc::new(SigningKey::from_seed(bytes, "evil").expect("a key"));
        let name = ServerName::parse(name).expect("a server name");
        let user = UserId::new("mallory", &name).expect("a user");
        let stock: Arc<Mutex<Stock>> = Arc::default();
        let (served, own_key, own_name, time) = (stock.clone(), key.clone(), name.clone(), clock.clone());
        let answer = move |request: Request<Body>| {
            let (stock, key, name, clock) = (served.clone(), own_key.clone(), own_name.clone(), time.clone());
            async move { answer_request(request, &stock, &key, &name, clock.now_ms()).await }
        };
        network.attach(&name, Router::new().fallback(answer));
        let (network, clock) = (network.clone(), clock.clone());
        Enemy { name, key, user, network, clock, stock, transactions: Mutex::new(0) }
    }

    /// Asks a server, signing as itself.
    pub async fn ask(&self, asked: &ServerName, method: Method, uri: &str, body: Option<Value>) -> (StatusCode, Value) {
        let content = body.as_ref().and_then(Value::as_object);
        let signed = XMatrix::sign(&self.key, &self.name, asked, method.as_str(), uri, content);
        self.ask_as(asked, method, uri, body, &signed.to_header()).await
    }

    /// Asks a server with any `Authorization` header.
    ///
    /// # Panics
    /// If the request is none.
    pub async fn ask_as(
        &self,
        asked: &ServerName,
        method: Method,
        uri: &str,
        body: Option<Value>,
        authorization: &str,
    ) -> (StatusCode, Value) {
        let body = body.map(|body| Bytes::from(canonical::write(&body))).unwrap_or_default();
        let request = Request::builder().method(method).uri(uri).header(header::AUTHORIZATION, authorization);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body).expect("a request");
        match self.network.carry(&self.name, asked, request).await {
            Ok(answer) => (answer.status(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null)),
            Err(_) => (StatusCode::BAD_GATEWAY, Value::Null),
        }
    }

    /// Sends events in a transaction.
    pub async fn send(&self, to: &ServerName, pdus: Vec<Value>) -> (StatusCode, Value) {
        let number = {
            let mut transactions = self.transactions.lock();
            *transactions += 1;
            *transactions
        };
        let body = json!({"origin": self.name, "origin_server_ts": self.clock.now_ms(), "pdus": pdus, "edus": []});
        let uri = format!("/_matrix/federation/v1/send/evil{number}");
        self.ask(to, Method::PUT, &uri, Some(body)).await
    }

    /// Joins a room properly. Returns the join event.
    ///
    /// # Panics
    /// If it may not.
    pub async fn join(&self, via: &ServerName, room: &RoomId, version: RoomVersion) -> Arc<Pdu> {
        let (room_path, user_path) = (encode(room.as_str()), encode(self.user.as_str()));
        let uri = format!("/_matrix/federation/v1/make_join/{room_path}/{user_path}?ver={}", version.as_str());
        let (status, answer) = self.ask(via, Method::GET, &uri, None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let Value::Object(mut event) = answer["event"].clone() else { panic!("no template: {answer}") };
        event.insert("origin_server_ts".into(), self.clock.now_ms().into());
        let join = Arc::new(Pdu::sign(event, &self.name, &self.key, version.rules()).expect("a join"));
        let uri = format!("/_matrix/federation/v2/send_join/{room_path}/{}", encode(join.event_id.as_str()));
        let (status, answer) = self.ask(via, Method::PUT, &uri, Some(wire(&join))).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        join
    }

    /// An event of its user that fits the room as `server` sees it: it follows the extremities and cites what
    /// authorises it.
    ///
    /// # Panics
    /// If the server does not know the room.
    #[must_use]
    pub fn event(&self, server: &SimServer, room: &RoomId, kind: &str, key: Option<&str>, content: Value) -> Forged {
        let rooms = server.rooms();
        let nid = rooms.known_room(room).expect("a known room");
        let head = rooms.head(nid).expect("a head");
        let mut wanted = vec![("m.room.power_levels", ""), ("m.room.member", self.user.as_str())];
        if kind == "m.room.member" {
            wanted.push(("m.room.join_rules", ""));
            wanted.extend(key.filter(|key| *key != self.user.as_str()).map(|key| ("m.room.member", key)));
        }
        if !head.rules().room_id_is_create_hash {
            wanted.push(("m.room.create", ""));
        }
        let cited = wanted.into_iter().filter_map(|(kind, key)| {
            let event = rooms.state_event(nid, head.state(), kind, key).expect("the state can be read")?;
            Some(event.event_id().to_owned())
        });
        let auth_events: Vec<String> = cited.collect();
        let ends: Vec<&str> = head.extremities().collect();
        let deepest = rooms.event_at(nid, head.last_seq()).map_or(1, |event| event.depth());
        let mut object = Map::new();
        object.insert("type".into(), kind.into());
        object.insert("room_id".into(), room.as_str().into());
        object.insert("sender".into(), self.user.as_str().into());
        object.insert("content".into(), content);
        object.insert("prev_events".into(), json!(ends));
        object.insert("auth_events".into(), json!(auth_events));
        object.insert("depth".into(), (deepest + 1).into());
        object.insert("origin_server_ts".into(), self.clock.now_ms().into());
        if let Some(key) = key {
            object.insert("state_key".into(), key.into());
        }
        Forged(object)
    }

    /// Hashes and signs an event, whatever it says.
    ///
    /// # Panics
    /// If it is not even an event.
    #[must_use]
    pub fn sign(&self, forged: Forged, version: RoomVersion) -> Arc<Pdu> {
        Arc::new(Pdu::sign(forged.0, &self.name, &self.key, version.rules()).expect("an event"))
    }

    /// Gives these events to whoever asks for them by id.
    pub fn serve(&self, events: &[Arc<Pdu>]) {
        let mut stock = self.stock.lock();
        for event in events {
            stock.events.insert(event.event_id.as_str().to_owned(), wire(event));
        }
    }

    /// Answers this to whoever asks for missing events or for history.
    pub fn serve_missing(&self, events: Vec<Value>) {
        self.stock.lock().missing = events;
    }

    /// Answers this to whoever asks for the state before an event.
    pub fn serve_state(&self, state: &[EventId], auth_chain: &[EventId]) {
        let texts = |ids: &[EventId]| ids.iter().map(|id| id.as_str().to_owned()).collect();
        self.stock.lock().state_ids = Some((texts(state), texts(auth_chain)));
    }

    /// The endpoints that it was asked since this was last looked at.
    #[must_use]
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.stock.lock().asked)
    }
}

/// An event as it is sent.
#[must_use]
pub fn wire(event: &Pdu) -> Value {
    serde_json::from_slice(&event.json).unwrap_or(Value::Null)
}

impl From<&Forged> for Value {
    fn from(forged: &Forged) -> Value {
        Value::Object(forged.0.clone())
    }
}

fn encode(segment: &str) -> String {
    crate::encode_path_segment(segment)
}

async fn answer_request(
    request: Request<Body>,
    stock: &Mutex<Stock>,
    key: &SigningKey,
    name: &ServerName,
    now_ms: u64,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let endpoint = path.split('/').nth(4).unwrap_or_default().to_owned();
    // Whatever it is sent, it reads to the end.
    let _ = http_body_util::Limited::new(request.into_body(), MAX_BODY).collect().await;
    let mut stock = stock.lock();
    stock.asked.push(endpoint.clone());
    let answer = match endpoint.as_str() {
        "server" => Some(key_document(key, name, now_ms)),
        "send" => Some(json!({"pdus": {}})),
        "event" => {
            let id = path.rsplit('/').next().unwrap_or_default().replace("%24", "$");
            let found = stock.events.get(&id);
            found.map(|event| json!({"origin": name, "origin_server_ts": now_ms, "pdus": [event]}))
        }
        "get_missing_events" => Some(json!({"events": stock.missing})),
        "backfill" => Some(json!({"origin": name, "origin_server_ts": now_ms, "pdus": stock.missing})),
        "state_ids" => {
            stock.state_ids.as_ref().map(|(state, chain)| json!({"pdu_ids": state, "auth_chain_ids": chain}))
        }
        _ => None,
    };
    let (status, answer) = match answer {
        Some(answer) => (StatusCode::OK, answer),
        None => (StatusCode::NOT_FOUND, json!({"errcode": "M_NOT_FOUND", "error": "no"})),
    };
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    response.body(Body::from(answer.to_string())).unwrap_or_default()
}

fn key_document(key: &SigningKey, name: &ServerName, now_ms: u64) -> Value {
    let mut document = Map::new();
    document.insert("server_name".into(), name.as_str().into());
    document.insert("valid_until_ts".into(), (now_ms + VALID_MS).into());
    document.insert("verify_keys".into(), json!({ key.key_id(): { "key": key.public_base64() } }));
    document.insert("old_verify_keys".into(), json!({}));
    // A name is always written the same way.
    let _ = key.sign_json(&mut document, name.as_str());
    document.into()
}
