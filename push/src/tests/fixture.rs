//! A server with push, and gateways that record what they are sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use outbound::{Reach, Sending, Web, WebError};
use parking_lot::Mutex;
use rooms::{CreateRoom, Draft, Membership, MembershipChange, Preset, Rooms, RoomsConfig, RoomsParts};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, MemoryDisk, Options, Read, Store};
use users::{AccountKind, AdminRights, DeviceLogin, NewAccount, Pusher, Session, Users, UsersConfig};

use crate::{Push, PushConfig, PushParts, rows};

pub fn user(name: &str) -> UserId {
    UserId::parse(format!("@{name}:us")).unwrap()
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// How a gateway behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    Down,
    /// It never answers.
    Silent,
    Answers(u16),
    /// It answers that it does not know the key.
    Rejects,
    /// It takes what it is sent, and its answer never ends.
    Stalls,
}

#[derive(Default)]
struct State {
    taken: Vec<Value>,
    gateways: BTreeMap<String, Gateway>,
    tries: BTreeMap<String, usize>,
    under_way: usize,
    most_under_way: usize,
}

/// All push gateways.
#[derive(Default)]
pub struct Gateways(Mutex<State>);

impl Gateways {
    pub fn set(&self, host: &str, gateway: Gateway) {
        self.0.lock().gateways.insert(host.to_owned(), gateway);
    }

    pub fn repair(&self, host: &str) {
        self.0.lock().gateways.remove(host);
    }

    /// The notifications that were taken, in order.
    pub fn taken(&self) -> Vec<Value> {
        self.0.lock().taken.clone()
    }

    /// How often it was tried while it did not work.
    pub fn tries(&self, host: &str) -> usize {
        self.0.lock().tries.get(host).copied().unwrap_or(0)
    }

    /// The most requests that were under way at a time.
    pub fn most_under_way(&self) -> usize {
        self.0.lock().most_under_way
    }

    /// The events of the notifications that were taken for a key.
    pub fn events_for(&self, pushkey: &str) -> Vec<String> {
        let state = self.0.lock();
        let for_key = state.taken.iter().filter(|taken| taken["devices"][0]["pushkey"] == pushkey);
        for_key.filter_map(|taken| taken["event_id"].as_str().map(str::to_owned)).collect()
    }

    /// The last count that was told to a key.
    pub fn badge_of(&self, pushkey: &str) -> Option<u64> {
        let state = self.0.lock();
        let mut for_key = state.taken.iter().filter(|taken| taken["devices"][0]["pushkey"] == pushkey);
        for_key.next_back().and_then(|taken| taken["counts"]["unread"].as_u64())
    }

    fn take(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, WebError> {
        assert_eq!(request.uri().path(), "/_matrix/push/v1/notify");
        assert_eq!(request.headers()["content-type"], "application/json");
        let host = request.uri().host().unwrap().to_owned();
        let notification = serde_json::from_slice::<Value>(request.body()).unwrap()["notification"].take();
        let mut state = self.0.lock();
        let gateway = state.gateways.get(&host).copied();
        if gateway.is_some() {
            *state.tries.entry(host).or_default() += 1;
        }
        let answer = match gateway {
            Some(Gateway::Down | Gateway::Silent) => return Err(WebError::unreachable("down")),
            Some(Gateway::Answers(status)) => (status, json!({"error": "no"})),
            Some(Gateway::Stalls) => {
                state.taken.push(notification);
                (200, json!({}))
            }
            Some(Gateway::Rejects) => (200, json!({"rejected": [notification["devices"][0]["pushkey"]]})),
            None => {
                state.taken.push(notification);
                (200, json!({"rejected": []}))
            }
        };
        Ok(Response::builder().status(answer.0).body(Bytes::from(answer.1.to_string())).unwrap())
    }
}

/// Counts a request for as long as it is under way.
struct UnderWay<'a>(&'a Gateways);

impl<'a> UnderWay<'a> {
    fn begin(gateways: &'a Gateways) -> Self {
        let mut state = gateways.0.lock();
        state.under_way += 1;
        state.most_under_way = state.most_under_way.max(state.under_way);
        UnderWay(gateways)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.lock().under_way -= 1;
    }
}

impl Web for Gateways {
    fn send(&self, request: Request<Bytes>, reach: Reach) -> Sending<'_> {
        assert_eq!(reach, Reach::Guarded);
        Box::pin(async move {
            let _under_way = UnderWay::begin(self);
            let answer = self.take(&request);
            let gateway = self.0.lock().gateways.get(request.uri().host().unwrap()).copied();
            if gateway == Some(Gateway::Silent) {
                std::future::pending::<()>().await;
            }
            if gateway == Some(Gateway::Stalls) {
                return Ok(answer?.map(|_| BoxBody::new(StreamBody::new(futures_util::stream::pending()))));
            }
            Ok(answer?.map(|body| Full::new(body).map_err(|never| match never {}).boxed()))
        })
    }
}

pub struct Fixture {
    pub push: Push,
    pub rooms: Rooms,
    pub users: Users,
    pub clock: Clock,
    pub gateways: Arc<Gateways>,
    pub store: Store,
    config: PushConfig,
    tasks: Tasks,
    disk: MemoryDisk,
}

impl Fixture {
    pub async fn new() -> Fixture {
        Fixture::with_config(PushConfig::default()).await
    }

    pub async fn with_config(config: PushConfig) -> Fixture {
        let clock = Clock::fake(1_700_000_000_000);
        let here = Fixture::open(MemoryDisk::new(), clock, Arc::default(), config);
        here.push.start();
        here
    }

    fn open(disk: MemoryDisk, clock: Clock, gateways: Arc<Gateways>, config: PushConfig) -> Fixture {
        let keyspaces = [crate::KEYSPACES, rooms::KEYSPACES, users::KEYSPACES].concat();
        assert!(disk.wait_until_free());
        let store = Store::open(Options::new(Backend::MemoryDisk(disk.clone()), keyspaces)).unwrap();
        let metrics = Metrics::new();
        let (tasks, random) = (Tasks::new(&metrics), Random::seeded(clock.now_ms()));
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            server_name: ServerName::parse("us").unwrap(),
            signing_key: Arc::new(SigningKey::from_seed([7; 32], "1").unwrap()),
            config: RoomsConfig::default(),
            policy_servers: None,
        })
        .unwrap();
        let users =
            Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), UsersConfig::default()).unwrap();
        let push = Push::new(PushParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            web: gateways.clone(),
            config: config.clone(),
            clock: clock.clone(),
            random,
            tasks: tasks.clone(),
            metrics,
        });
        Fixture { push, rooms, users, clock, gateways, store, config, tasks, disk }
    }

    /// Ends, and starts on the same disk; in good order or not.
    pub async fn restart(self, in_order: bool) -> Fixture {
        let config = self.config.clone();
        self.restart_with(in_order, config).await
    }

    pub async fn restart_with(self, in_order: bool, config: PushConfig) -> Fixture {
        if in_order {
            assert!(self.tasks.drain(Duration::from_secs(60)).await);
        }
        self.store.close().unwrap();
        assert!(self.tasks.drain(Duration::from_secs(60)).await);
        let (disk, clock, gateways) = (self.disk.clone(), self.clock.clone(), self.gateways.clone());
        // The disk is free once the last handle is gone.
        drop(self);
        let here = Fixture::open(disk, clock, gateways, config);
        here.push.start();
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
        panic!("it never came to be; taken: {:#?}", self.gateways.taken());
    }

    /// As [`Fixture::until`], while time passes.
    pub async fn until_later(&self, step: Duration, mut is_so: impl FnMut() -> bool) {
        let clock = &self.clock;
        let mut round = 0;
        self.until(|| {
            round += 1;
            if round % 4 == 0 {
                clock.advance(step);
            }
            is_so()
        })
        .await;
    }

    /// Nothing waits, in memory or on the disk.
    pub fn is_at_rest(&self) -> bool {
        self.push.table.lock().is_empty() && self.store.scan(&rows::QUEUE, &()).is_empty().unwrap()
    }

    /// A logged-in user.
    pub async fn session(&self, name: &str) -> Arc<Session> {
        let account = NewAccount {
            localpart: name,
            password: None,
            kind: AccountKind::User,
            admin: AdminRights::Denied,
            registration_token: None,
        };
        let account = self.users.create_account(account).await.unwrap();
        let login = DeviceLogin { device_id: Some("PHONE"), ..DeviceLogin::default() };
        let session = self.users.start_session(account.user, login).await.unwrap();
        self.users.authenticate(&session.tokens.access_token).await.unwrap()
    }

    /// Sets a pusher at `https://{host}`.
    pub async fn set_pusher(&self, session: &Session, pushkey: &str, host: &str, data: Value) {
        let mut data = object(data);
        data.insert("url".into(), format!("https://{host}/_matrix/push/v1/notify").into());
        let pusher = json!({"app_id": "org.app", "pushkey": pushkey, "kind": "http", "data": data});
        self.users.set_pusher(session, serde_json::from_value::<Pusher>(pusher).unwrap(), false).await.unwrap();
    }

    /// A room of `creator` that these users have joined.
    pub async fn room(&self, creator: &str, members: &[&str]) -> RoomId {
        let request = CreateRoom {
            creator_profile: object(json!({"displayname": creator.to_uppercase()})),
            name: Some("The Room".into()),
            ..CreateRoom::new(user(creator), RoomVersion::V10, Preset::PublicChat)
        };
        let room = self.rooms.create_room(request).await.unwrap();
        for member in members {
            self.change(&room, member, member, Membership::Join).await;
        }
        room
    }

    pub async fn change(&self, room: &RoomId, sender: &str, target: &str, membership: Membership) {
        let (sender, target) = (user(sender), user(target));
        let change = MembershipChange { sender, target, membership, content: Map::new() };
        self.rooms.change_membership(room, change).await.unwrap();
    }

    pub async fn append(&self, room: &RoomId, draft: Draft) -> String {
        let nid = self.rooms.known_room(room).unwrap();
        self.rooms.append(nid, vec![draft], None).await.unwrap().remove(0).as_str().to_owned()
    }

    pub async fn say(&self, room: &RoomId, sender: &str, text: &str) -> String {
        let content = object(json!({"msgtype": "m.text", "body": text}));
        self.append(room, Draft::message(user(sender), "m.room.message", content)).await
    }

    pub async fn read(&self, room: &RoomId, reader: &Session, event: &str) {
        let nid = self.rooms.known_room(room).unwrap();
        let event = EventId::parse(event).unwrap();
        let receipts = [(rooms::ReceiptKind::Read, None, &event)];
        self.rooms.set_receipts(nid, reader.user, &receipts).await.unwrap();
    }
}
