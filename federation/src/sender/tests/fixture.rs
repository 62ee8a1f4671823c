//! A server with a sender, and others that record what they are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use rooms::{
    CheckedPdu, CreateRoom, Draft, Membership, MembershipChange, Preset, Received, RoomNid, Rooms, RoomsConfig,
    RoomsParts, Verdict,
};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, MemoryDisk, Options, Store};
use users::{
    AccountKind, AdminRights, DeviceLogin, DeviceTarget, KeyUpload, NewAccount, ToDeviceMessages, Users, UsersConfig,
};

use super::super::{Sender, SenderParts};
use crate::client::{ClientParts, FederationClient};
use crate::config::FederationConfig;
use crate::destinations::{Destinations, DestinationsParts};
use crate::transport::{Sending, Transport, TransportError};

pub fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

pub fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// A transaction that arrived somewhere.
#[derive(Clone, Debug)]
pub struct Sent {
    pub to: String,
    pub id: String,
    pub body: Value,
}

impl Sent {
    pub fn pdus(&self) -> &[Value] {
        self.body["pdus"].as_array().map_or(&[], Vec::as_slice)
    }
}

#[derive(Default)]
struct State {
    sent: Vec<Sent>,
    refused: Vec<Sent>,
    down: BTreeSet<String>,
    answers: BTreeMap<String, StatusCode>,
    refused_texts: BTreeMap<String, String>,
    tries: BTreeMap<String, usize>,
}

/// All other servers.
#[derive(Default)]
pub struct Net(Mutex<State>);

impl Net {
    pub fn sent(&self) -> Vec<Sent> {
        self.0.lock().sent.clone()
    }

    /// What was answered with an error.
    pub fn refused(&self) -> Vec<Sent> {
        self.0.lock().refused.clone()
    }

    pub fn break_down(&self, server: &str) {
        self.0.lock().down.insert(server.to_owned());
    }

    pub fn answer(&self, server: &str, status: StatusCode) {
        self.0.lock().answers.insert(server.to_owned(), status);
    }

    /// Answers 400 to every transaction that holds this text.
    pub fn refuse_text(&self, server: &str, text: &str) {
        self.0.lock().refused_texts.insert(server.to_owned(), text.to_owned());
    }

    pub fn repair(&self, server: &str) {
        let mut state = self.0.lock();
        state.down.remove(server);
        state.answers.remove(server);
    }

    /// How often it was tried while it did not work.
    pub fn tries(&self, server: &str) -> usize {
        self.0.lock().tries.get(server).copied().unwrap_or(0)
    }

    fn take(&self, to: &str, request: &Request<Bytes>) -> Result<StatusCode, TransportError> {
        let mut state = self.0.lock();
        if state.down.contains(to) {
            *state.tries.entry(to.to_owned()).or_default() += 1;
            return Err(TransportError::Unreachable("down".to_owned()));
        }
        assert_eq!(request.method(), http::Method::PUT);
        assert!(request.headers().contains_key(http::header::AUTHORIZATION));
        let id = request.uri().path().strip_prefix("/_matrix/federation/v1/send/").unwrap().to_owned();
        let sent = Sent { to: to.to_owned(), id, body: serde_json::from_slice(request.body()).unwrap() };
        let text = state.refused_texts.get(to);
        let is_refused = text.is_some_and(|text| sent.body.to_string().contains(text));
        let status = state.answers.get(to).copied().or(is_refused.then_some(StatusCode::BAD_REQUEST));
        match status {
            Some(status) => {
                *state.tries.entry(to.to_owned()).or_default() += 1;
                state.refused.push(sent);
                Ok(status)
            }
            None => {
                state.sent.push(sent);
                Ok(StatusCode::OK)
            }
        }
    }
}

impl Transport for Net {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        Box::pin(async move {
            let status = self.take(destination.as_str(), &request)?;
            let body = Full::new(Bytes::from_static(b"{\"pdus\":{\"$a\":{},\"$b\":{\"error\":\"no\"}}}"));
            Ok(Response::builder().status(status).body(body.map_err(|never| match never {}).boxed()).unwrap())
        })
    }

    fn get_url(&self, url: Uri) -> Sending<'_> {
        panic!("the sender asks for {url}");
    }
}

pub struct Fixture {
    pub sender: Sender,
    pub rooms: Rooms,
    pub users: Users,
    pub destinations: Destinations,
    pub clock: Clock,
    pub net: Arc<Net>,
    store: Store,
    tasks: Tasks,
    disk: MemoryDisk,
}

impl Fixture {
    pub async fn new() -> Fixture {
        let here = Fixture::stopped().await;
        here.sender.start();
        here
    }

    /// Nobody follows what is committed.
    pub async fn stopped() -> Fixture {
        let clock = Clock::fake(1_700_000_000_000);
        let here = Fixture::open(MemoryDisk::new(), clock, Arc::new(Net::default()), 1);
        let account = NewAccount {
            localpart: "alice",
            password: None,
            kind: AccountKind::User,
            admin: AdminRights::Denied,
            registration_token: None,
        };
        here.users.create_account(account).await.unwrap();
        here
    }

    fn open(disk: MemoryDisk, clock: Clock, net: Arc<Net>, seed: u64) -> Fixture {
        let keyspaces = [crate::keyspaces(), rooms::KEYSPACES.to_vec(), users::KEYSPACES.to_vec()].concat();
        assert!(disk.wait_until_free());
        let store = Store::open(Options::new(Backend::MemoryDisk(disk.clone()), keyspaces)).unwrap();
        let metrics = Metrics::new();
        let tasks = Tasks::new(&metrics);
        let random = Random::seeded(seed);
        let signing_key = Arc::new(SigningKey::from_seed([7; 32], "1").unwrap());
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            server_name: name("us"),
            signing_key: signing_key.clone(),
            config: RoomsConfig::default(),
            policy_servers: None,
        })
        .unwrap();
        let users =
            Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), UsersConfig::default()).unwrap();
        let config = FederationConfig { denied_servers: vec!["denied".to_owned()], ..FederationConfig::default() };
        let config = Arc::new(config);
        let destinations = Destinations::open(DestinationsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            config: config.clone(),
        })
        .unwrap();
        let client = FederationClient::new(ClientParts {
            server_name: name("us"),
            signing_key,
            clock: clock.clone(),
            random: random.clone(),
            destinations: destinations.clone(),
            config: config.clone(),
            transport: net.clone(),
        });
        let sender = Sender::from_parts(SenderParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            client,
            destinations: destinations.clone(),
            config,
            clock: clock.clone(),
            random,
            tasks: tasks.clone(),
            metrics,
        });
        Fixture { sender, rooms, users, destinations, clock, net, store, tasks, disk }
    }

    /// Ends, and starts on the same disk; in good order or not.
    pub async fn restart(self, in_order: bool) -> Fixture {
        if in_order {
            assert!(self.tasks.drain(Duration::from_secs(60)).await);
        }
        self.store.close().unwrap();
        assert!(self.tasks.drain(Duration::from_secs(60)).await);
        let (disk, clock, net) = (self.disk.clone(), self.clock.clone(), self.net.clone());
        // The disk is free once the last handle is gone.
        drop(self);
        let seed = clock.now_ms() + 17;
        let here = Fixture::open(disk, clock, net, seed);
        here.sender.start();
        here
    }

    pub async fn stop(self) {
        assert!(self.tasks.drain(Duration::from_secs(60)).await, "a task does not end");
    }

    /// Waits until something is so, at this time of the clock.
    pub async fn until(&self, mut is_so: impl FnMut() -> bool) {
        for _ in 0..12_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never came to be; sent: {:#?}", self.net.sent());
    }

    /// As [`Fixture::until`], while time passes.
    pub async fn until_later(&self, mut is_so: impl FnMut() -> bool) {
        let clock = &self.clock;
        let mut round = 0;
        self.until(|| {
            round += 1;
            if round % 4 == 0 {
                clock.advance(Duration::from_secs(10));
            }
            is_so()
        })
        .await;
    }

    /// The ids of the events that arrived at a server, in order. Room version 3 and later do not send ids.
    pub fn events_at(&self, server: &str) -> Vec<String> {
        let rules = RoomVersion::V10.rules();
        let sent = self.net.sent();
        let at_server = sent.iter().filter(|transaction| transaction.to == server);
        at_server
            .flat_map(Sent::pdus)
            .map(|pdu| Pdu::from_object(object(pdu.clone()), rules).unwrap().event_id.as_str().to_owned())
            .collect()
    }

    /// The contents of the EDUs of a type that arrived at a server.
    pub fn edus_at(&self, server: &str, kind: &str) -> Vec<Value> {
        let sent = self.net.sent();
        let edus = sent.iter().filter(|sent| sent.to == server).filter_map(|sent| sent.body["edus"].as_array());
        edus.flatten().filter(|edu| edu["edu_type"] == kind).map(|edu| edu["content"].clone()).collect()
    }

    /// A room of @alice:us that these users have joined.
    pub async fn room_with(&self, members: &[&str]) -> RoomId {
        let alice = user("@alice:us");
        let request = CreateRoom::new(alice.clone(), RoomVersion::V10, Preset::PublicChat);
        let room = self.rooms.create_room(request).await.unwrap();
        for member in members {
            self.remote_member(&room, member, "join", false).await;
        }
        room
    }

    pub async fn append(&self, room: &RoomId, draft: Draft) -> String {
        let nid = self.rooms.known_room(room).unwrap();
        self.rooms.append(nid, vec![draft], None).await.unwrap().remove(0).as_str().to_owned()
    }

    pub async fn say(&self, room: &RoomId, text: &str) -> String {
        let content = object(json!({ "msgtype": "m.text", "body": text }));
        self.append(room, Draft::message(user("@alice:us"), "m.room.message", content)).await
    }

    /// @alice:us changes a membership. Answers with the event.
    pub async fn change(&self, room: &RoomId, target: &str, membership: Membership) -> String {
        let change =
            MembershipChange { sender: user("@alice:us"), target: user(target), membership, content: Map::new() };
        self.rooms.change_membership(room, change).await.unwrap();
        self.last_event(room)
    }

    fn last_event(&self, room: &RoomId) -> String {
        let nid = self.rooms.known_room(room).unwrap();
        let last = self.rooms.head(nid).unwrap().last_seq();
        self.rooms.event_at(nid, last).unwrap().event_id().to_owned()
    }

    /// An invitation by @alice:us, as it is stored once the other server has signed it.
    pub async fn invite(&self, room: &RoomId, target: &str) -> String {
        let content = object(json!({ "membership": "invite" }));
        let draft = Draft::state(user("@alice:us"), "m.room.member", target, content);
        let nid = self.rooms.known_room(room).unwrap();
        let pdu = self.rooms.prepare_signed(nid, draft).unwrap();
        self.take_in(nid, CheckedPdu::of_ours(pdu), false).await
    }

    pub async fn remote_member(&self, room: &RoomId, member: &str, membership: &str, relay: bool) -> String {
        let content = object(json!({ "membership": membership }));
        self.remote(room, Draft::state(user(member), "m.room.member", member, content), relay).await
    }

    pub async fn remote_message(&self, room: &RoomId, sender: &str, relay: bool) -> String {
        let content = object(json!({ "msgtype": "m.text", "body": "from elsewhere" }));
        self.remote(room, Draft::message(user(sender), "m.room.message", content), relay).await
    }

    /// An event of another server's user, made and signed there.
    async fn remote(&self, room: &RoomId, draft: Draft, relay: bool) -> String {
        let nid = self.rooms.known_room(room).unwrap();
        let server = name(draft.sender.server_name());
        let key = SigningKey::from_seed([9; 32], "1").unwrap();
        let object = self.rooms.prepare(nid, draft).unwrap();
        let pdu = Pdu::sign(object, &server, &key, self.rooms.head(nid).unwrap().rules()).unwrap();
        self.take_in(nid, CheckedPdu::of_ours(Arc::new(pdu)), relay).await
    }

    async fn take_in(&self, room: RoomNid, pdu: CheckedPdu, relay: bool) -> String {
        let id = pdu.pdu().event_id.as_str().to_owned();
        let received = Received { relay, ..pdu.into() };
        let verdicts = self.rooms.receive_all(room, vec![received]).await.unwrap();
        assert_eq!(*verdicts[0].as_ref().unwrap(), Verdict::Accepted);
        id
    }

    pub async fn send_to_device(&self, to: &str, message_id: &str, content: Value) {
        let content = serde_json::value::to_raw_value(&content).unwrap();
        let messages = ToDeviceMessages::from([(user(to), [(DeviceTarget::One("D".into()), content)].into())]);
        self.sender.queue_to_device(&user("@alice:us"), "m.test", message_id, messages).await.unwrap();
    }

    /// @alice:us logs in on a device, which uploads its keys.
    pub async fn upload_device_keys(&self, device: &str) {
        let alice = self.rooms.user_nid(&user("@alice:us")).unwrap().unwrap();
        let login = DeviceLogin { device_id: Some(device), ..DeviceLogin::default() };
        let session = self.users.start_session(alice, login).await.unwrap();
        let session = self.users.authenticate(&session.tokens.access_token).await.unwrap();
        let keys = json!({
            "user_id": "@alice:us", "device_id": device, "algorithms": ["m.megolm.v1.aes-sha2"],
            "keys": { format!("ed25519:{device}"): "key" }, "signatures": {},
        });
        let upload = KeyUpload { device_keys: Some(object(keys)), ..KeyUpload::default() };
        self.users.upload_keys(&session, &upload).await.unwrap();
    }
}
