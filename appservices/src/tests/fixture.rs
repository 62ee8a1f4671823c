//! What the tests start from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use outbound::{Reach, Sending, Web, WebError};
use parking_lot::Mutex;
use rooms::{CreateRoom, Draft, Membership, MembershipChange, Preset, Rooms, RoomsConfig, RoomsParts, UserNid};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId, ServerName, UserId};
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, Options, Store};
use tokio::sync::Notify;
use users::{AccountKind, AdminRights, DeviceLogin, NewAccount, Session, Users, UsersConfig};

use crate::{Dispatcher, DispatcherParts};

/// A service that wants everything of its users.
pub(super) const BRIDGE: &str = r"
id: bridge
url: http://bridge.test/base/
as_token: as
hs_token: hs
sender_localpart: bridgebot
receive_ephemeral: true
org.matrix.msc3202: true
namespaces:
  users: [{exclusive: true, regex: '@_ghost_.*'}]
  aliases: [{exclusive: true, regex: '#_portal_.*'}]
";

/// A request as the service got it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub method: String,
    pub uri: String,
    pub token: String,
    pub bytes: Bytes,
}

impl Seen {
    pub fn body(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub fn events(&self) -> Vec<String> {
        let body = self.body();
        let text = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
        body["events"].as_array().unwrap().iter().filter_map(text).collect()
    }
}

#[derive(Default)]
struct WebState {
    seen: Vec<Seen>,
    is_down: bool,
    answers: VecDeque<(u16, Value)>,
}

/// Every service in one.
#[derive(Default)]
pub(super) struct FakeWeb {
    state: Mutex<WebState>,
    arrived: Notify,
}

impl Web for FakeWeb {
    fn send(&self, request: Request<Bytes>, reach: Reach) -> Sending<'_> {
        assert_eq!(reach, Reach::Anywhere);
        let token = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
        let (method, uri) = (request.method().to_string(), request.uri().to_string());
        let mut state = self.state.lock();
        let answer = match (uri.contains("/transactions/"), state.is_down) {
            (_, true) => Err(WebError::unreachable("down")),
            (true, false) => Ok(state.answers.pop_front().unwrap_or((200, json!({})))),
            (false, false) => Ok(state.answers.pop_front().unwrap_or((404, json!({"errcode": "M_NOT_FOUND"})))),
        };
        state.seen.push(Seen { method, uri, token, bytes: request.into_body() });
        drop(state);
        self.arrived.notify_waiters();
        let answer = answer.map(|(status, body)| {
            let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed();
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        });
        Box::pin(std::future::ready(answer))
    }
}

impl FakeWeb {
    pub fn set_down(&self, is_down: bool) {
        self.state.lock().is_down = is_down;
    }

    /// What the next request is answered.
    pub fn lay_down(&self, status: u16, body: Value) {
        self.state.lock().answers.push_back((status, body));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// Waits until the service has got so many requests in all.
    pub async fn wait_for(&self, count: usize) -> Vec<Seen> {
        let waiting = async {
            loop {
                let arrived = self.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                let seen = self.seen();
                if seen.len() >= count {
                    return seen;
                }
                arrived.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        waited.unwrap_or_else(|_| panic!("{} requests instead of {count}: {:?}", self.seen().len(), self.seen()))
    }
}

pub(super) struct Bed {
    pub store: Store,
    pub rooms: Rooms,
    pub users: Users,
    pub clock: Clock,
    pub web: Arc<FakeWeb>,
    pub dispatcher: Dispatcher,
    tasks: Tasks,
}

fn run_dispatcher(
    store: &Store,
    rooms: &Rooms,
    users: &Users,
    clock: &Clock,
    web: &Arc<FakeWeb>,
) -> (Dispatcher, Tasks) {
    let metrics = Metrics::new();
    let tasks = Tasks::new(&metrics);
    let dispatcher = Dispatcher::new(DispatcherParts {
        store: store.clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        web: web.clone(),
        clock: clock.clone(),
        random: Random::seeded(5),
        tasks: tasks.clone(),
        metrics,
    });
    dispatcher.start();
    (dispatcher, tasks)
}

impl Bed {
    /// With the services of these registrations.
    pub async fn new(registrations: &[&str]) -> Bed {
        let keyspaces = [rooms::KEYSPACES, users::KEYSPACES, crate::KEYSPACES].concat();
        let store = Store::open(Options::new(Backend::Memory, keyspaces)).unwrap();
        let clock = Clock::fake(1_700_000_000_000);
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: Random::seeded(3),
            tasks: Tasks::new(&Metrics::new()),
            server_name: ServerName::parse("hs.test").unwrap(),
            signing_key: Arc::new(SigningKey::from_seed([1; 32], "1").unwrap()),
            config: RoomsConfig::default(),
            policy_servers: None,
        })
        .unwrap();
        let users = Users::open(store.clone(), rooms.clone(), clock.clone(), Random::seeded(7), UsersConfig::default())
            .unwrap();
        for registration in registrations {
            users.add_appservice(registration).await.unwrap();
        }
        let web = Arc::new(FakeWeb::default());
        let (dispatcher, tasks) = run_dispatcher(&store, &rooms, &users, &clock, &web);
        let bed = Bed { store, rooms, users, clock, web, dispatcher, tasks };
        bed.wait_until_served().await;
        bed
    }

    /// Waits until every service with a URL is live.
    pub async fn wait_until_served(&self) {
        let is_served = || {
            let services = self.users.appservices();
            services
                .iter()
                .filter(|service| service.url().is_some())
                .all(|service| self.dispatcher.line(service.id()).is_some_and(|line| line.waiting.lock().is_live))
        };
        for _ in 0..12_000 {
            if is_served() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a service is not served");
    }

    /// Lets time pass until the services have got so many requests in all.
    pub async fn advance_until(&self, count: usize) -> Vec<Seen> {
        for _ in 0..3000 {
            if self.web.seen().len() >= count {
                break;
            }
            self.clock.advance(Duration::from_millis(500));
            // Whoever is to wake may not sleep yet.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.web.wait_for(count).await
    }

    /// Waits until a service is known not to have taken something.
    pub async fn wait_until_unreachable(&self, id: &str) {
        let line = self.dispatcher.line(id).unwrap();
        for _ in 0..12_000 {
            if !line.waiting.lock().is_reachable {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{id} is thought to be there");
    }

    /// Waits until a service is served no more.
    pub async fn wait_until_gone(&self, id: &str) {
        for _ in 0..12_000 {
            if self.dispatcher.line(id).is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{id} is still served");
    }

    /// Waits until the follower has looked at everything.
    pub async fn settle(&self) {
        for _ in 0..12_000 {
            if *self.dispatcher.done.lock() >= self.store.visible() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the follower does not come along");
    }

    pub async fn stop(&self) {
        assert!(self.tasks.drain(Duration::from_secs(60)).await);
    }

    /// Serves again, as after a restart.
    pub fn start_again(&mut self) {
        let (dispatcher, tasks) = run_dispatcher(&self.store, &self.rooms, &self.users, &self.clock, &self.web);
        (self.dispatcher, self.tasks) = (dispatcher, tasks);
    }

    pub fn id(name: &str) -> UserId {
        UserId::parse(format!("@{name}:hs.test")).unwrap()
    }

    pub async fn user(&self, name: &str) -> UserNid {
        let is_ghost = name.starts_with("_ghost_");
        let account = self.users.create_account(NewAccount {
            localpart: name,
            password: None,
            kind: if is_ghost { AccountKind::Appservice } else { AccountKind::User },
            admin: AdminRights::Denied,
            registration_token: None,
        });
        account.await.unwrap().user
    }

    pub async fn device(&self, user: UserNid, id: &str) -> Arc<Session> {
        let login = DeviceLogin { device_id: Some(id), ..DeviceLogin::default() };
        let session = self.users.start_session(user, login).await.unwrap();
        self.users.authenticate(&session.tokens.access_token).await.unwrap()
    }

    pub async fn room(&self, creator: &str) -> RoomId {
        let request = CreateRoom::new(Bed::id(creator), RoomVersion::V11, Preset::PublicChat);
        self.rooms.create_room(request).await.unwrap()
    }

    pub async fn change(&self, room: &RoomId, sender: &str, target: &str, membership: Membership) {
        let (sender, target) = (Bed::id(sender), Bed::id(target));
        let change = MembershipChange { sender, target, membership, content: Map::new() };
        self.rooms.change_membership(room, change).await.unwrap();
    }

    pub async fn join(&self, room: &RoomId, user: &str) {
        self.change(room, user, user, Membership::Join).await;
    }

    pub async fn leave(&self, room: &RoomId, user: &str) {
        self.change(room, user, user, Membership::Leave).await;
    }

    pub async fn say(&self, room: &RoomId, sender: &str, text: &str) -> spec::ids::EventId {
        let content = Map::from_iter([("body".to_owned(), text.into()), ("msgtype".to_owned(), "m.text".into())]);
        let draft = Draft::message(Bed::id(sender), "m.room.message", content);
        let room = self.rooms.room_nid(room).unwrap().unwrap();
        self.rooms.append(room, vec![draft], None).await.unwrap().remove(0)
    }

    pub async fn alias(&self, room: &RoomId, name: &str, creator: UserNid) {
        let alias = RoomAlias::parse(format!("#{name}:hs.test")).unwrap();
        self.rooms.create_alias(&alias, room, creator).await.unwrap();
    }
}
