//! A server's client API in this process, on the memory backend.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use calls::{CallAddresses, CallEvents, Calls, CallsConfig, CallsParts};
use client_api::{ClientApiConfig, ClientApiParts, RateLimitsConfig, SpamConfig};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use media::{
    Media, MediaConfig, MediaSetup, MediaWriter, Mxc, Previews, RemoteDescription, RemoteMedia, RemoteMediaError,
};
use rooms::{Rooms, RoomsConfig, RoomsParts};
use runtime::config::Span;
use runtime::{Clock, Metrics, Random, Tasks};
use search::{Search, SearchConfig, SearchParts};
use serde_json::{Value, json};
use spec::ids::ServerName;
use spec::signing::SigningKey;
use storage::{Backend, Options, Store};
use sync::{Sync, SyncConfig, SyncParts};
use tower::ServiceExt;
use users::{RegistrationMode, RolesConfig, Users, UsersConfig, UsersSettings};

use crate::appservices::Services;
use crate::calls::FakeMedia;
use crate::coverage;
use crate::elsewhere::Elsewhere;
use crate::pages::Pages;

struct NoRemote;

impl RemoteMedia for NoRemote {
    fn fetch<'a>(
        &'a self,
        _: &'a Mxc,
        _: Duration,
        _: &'a mut MediaWriter,
    ) -> Pin<Box<dyn Future<Output = Result<RemoteDescription, RemoteMediaError>> + Send + 'a>> {
        Box::pin(async { Err(RemoteMediaError::Unavailable) })
    }
}

pub struct Server {
    pub router: Router,
    pub clock: Clock,
    pub media: Media,
    pub rooms: Rooms,
    pub users: Users,
    pub services: Arc<Services>,
    pub search: Search,
    pub calls: Calls,
    pub call_events: CallEvents,
    pub call_media: Arc<FakeMedia>,
    pub elsewhere: Arc<Elsewhere>,
    pub pages: Arc<Pages>,
    _files: tempfile::TempDir,
}

/// A logged-in user of a server.
#[derive(Clone)]
pub struct Client<'a> {
    pub server: &'a Server,
    pub user_id: String,
    pub token: String,
    pub device_id: String,
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    /// The error code, or nothing for answers without one.
    pub fn errcode(&self) -> String {
        let body: Value = serde_json::from_slice(&self.bytes).unwrap_or_default();
        body["errcode"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    #[track_caller]
    pub fn refused(&self, status: u16, errcode: &str) -> Value {
        let body = self.json();
        assert_eq!((self.status.as_u16(), body["errcode"].as_str()), (status, Some(errcode)), "{body}");
        assert!(body["error"].is_string(), "{body}");
        body
    }
}

/// Waits until something is so, which a task in the background sees to.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} does not come to be");
}

pub fn no_limits() -> RateLimitsConfig {
    RateLimitsConfig { enabled: false, ..RateLimitsConfig::default() }
}

/// What a server is configured by, as far as tests choose it.
pub struct Setup {
    pub rate_limits: RateLimitsConfig,
    pub spam: SpamConfig,
    pub roles: RolesConfig,
    pub calls: CallsConfig,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            rate_limits: no_limits(),
            spam: SpamConfig::default(),
            roles: RolesConfig::default(),
            calls: CallsConfig::default(),
        }
    }
}

pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Arc<Server>) -> F) {
    run_with(no_limits(), test);
}

pub fn run_with<F: Future<Output = ()>>(rate_limits: RateLimitsConfig, test: impl FnOnce(Arc<Server>) -> F) {
    run_as(Setup { rate_limits, ..Setup::default() }, test);
}

pub fn run_as<F: Future<Output = ()>>(setup: Setup, test: impl FnOnce(Arc<Server>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { test(Arc::new(Server::start_as(setup))).await });
}

impl Server {
    pub fn start(rate_limits: RateLimitsConfig) -> Server {
        Server::start_with(rate_limits, CallsConfig::default())
    }

    pub fn start_with(rate_limits: RateLimitsConfig, calls: CallsConfig) -> Server {
        Server::start_as(Setup { rate_limits, calls, ..Setup::default() })
    }

    pub fn start_as(setup: Setup) -> Server {
        let Setup { rate_limits, spam, roles, calls: calls_config } = setup;
        let mut keyspaces = [rooms::KEYSPACES, users::KEYSPACES, media::KEYSPACES, search::KEYSPACES].concat();
        keyspaces.extend(calls::KEYSPACES);
        let store = Store::open(Options::new(Backend::Memory, keyspaces)).unwrap();
        let (clock, random) = (Clock::fake(1_700_000_000_000), Random::seeded(7));
        let tasks = Tasks::new(&Metrics::new());
        let server_name = ServerName::parse("hs.test").unwrap();
        let elsewhere = Arc::new(Elsewhere::default());
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            server_name: server_name.clone(),
            signing_key: Arc::new(SigningKey::from_seed([7; 32], "1").unwrap()),
            config: RoomsConfig::default(),
            policy_servers: Some(elsewhere.clone()),
        })
        .unwrap();
        let config = UsersConfig {
            registration: RegistrationMode::Open,
            roles,
            settings: UsersSettings { allow_guests: true, ..UsersSettings::default() },
            registration_shared_secret: Some("shared secret".into()),
            registration_token: Some("let.me.in".into()),
            ..UsersConfig::default()
        };
        let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random.clone(), config).unwrap();
        let files = tempfile::tempdir().unwrap();
        let media = Media::open(MediaSetup {
            store: store.clone(),
            server_name,
            dir: files.path().to_owned(),
            clock: clock.clone(),
            random,
            tasks: tasks.clone(),
            config: MediaConfig::default(),
            remote: Arc::new(NoRemote),
        })
        .unwrap();
        let sync = Sync::new(SyncParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            config: SyncConfig::default(),
        });
        let search = Search::open(SearchParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            folder: files.path().join("search"),
            clock: clock.clone(),
            random: Random::seeded(8),
            tasks: tasks.clone(),
            metrics: Metrics::new(),
            config: SearchConfig { commit_interval: Span::seconds(0), ..SearchConfig::default() },
        })
        .unwrap();
        let (call_events, call_media) = (CallEvents::default(), Arc::<FakeMedia>::default());
        let calls = Calls::new(CallsParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            addresses: CallAddresses::below(calls_config.public_url.as_deref().unwrap_or("https://hs.test")),
            config: calls_config,
            media: Some(call_media.clone()),
            turn: Some(call_media.clone()),
            recorder: None,
            remote: call_media.clone(),
            events: call_events.clone(),
        });
        calls.start();
        let config = ClientApiConfig {
            public_baseurl: Some("https://hs.test".into()),
            support_page: Some("https://hs.test/help".into()),
            ..ClientApiConfig::default()
        };
        let clock_of_limits = clock.clone();
        let pages = Arc::new(Pages::default());
        let services = Arc::new(Services::default());
        let parts = ClientApiParts {
            rooms: rooms.clone(),
            users: users.clone(),
            previews: Previews::new(media.clone(), pages.clone()),
            media: media.clone(),
            sync,
            calls: calls.clone(),
            search: Some(search.clone()),
            remote_rooms: elsewhere.clone(),
            remote_users: elsewhere.clone(),
            appservices: services.clone(),
            clock: clock_of_limits,
            tasks,
            config,
            rate_limits: runtime::config::Live::new(rate_limits),
            spam: runtime::config::Live::new(spam),
        };
        Server {
            router: client_api::router(parts),
            clock,
            media,
            rooms,
            users,
            services,
            search,
            calls,
            call_events,
            call_media,
            elsewhere,
            pages,
            _files: files,
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let mut request = request;
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let address: SocketAddr = "192.0.2.1:1234".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(address));
        let response = self.router.clone().oneshot(request).await.unwrap();
        if response.status().is_success() {
            coverage::note(&method, &path);
        }
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Reply { status: parts.status, headers: parts.headers, bytes }
    }

    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None, Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, None, body.to_string()).await
    }

    pub async fn register(&self, name: &str) -> Client<'_> {
        let body = json!({"username": name, "password": "correct horse", "auth": {"type": "m.login.dummy"}});
        self.client(&self.post("/_matrix/client/v3/register", body).await.ok())
    }

    pub fn client(&self, session: &Value) -> Client<'_> {
        let text = |key: &str| session[key].as_str().unwrap().to_owned();
        Client { server: self, user_id: text("user_id"), token: text("access_token"), device_id: text("device_id") }
    }
}

impl<'a> Client<'a> {
    pub async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        let path = if path.starts_with("/_") { path.to_owned() } else { format!("/_matrix/client/v3/{path}") };
        self.server.call(method, &path, Some(&self.token), body).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> Reply {
        self.call(Method::DELETE, path, body.to_string()).await
    }

    pub async fn create_room(&self, body: Value) -> String {
        self.post("createRoom", body).await.ok()["room_id"].as_str().unwrap().to_owned()
    }

    pub async fn say(&self, room: &str, txn: &str, body: &str) -> String {
        let path = format!("rooms/{room}/send/m.room.message/{txn}");
        let reply = self.put(&path, json!({"msgtype": "m.text", "body": body})).await.ok();
        reply["event_id"].as_str().unwrap().to_owned()
    }

    pub async fn join(&self, room: &str) {
        self.post(&format!("join/{room}"), json!({})).await.ok();
    }

    pub async fn sync(&self, arguments: &str) -> Value {
        self.get(&format!("sync?{arguments}")).await.ok()
    }

    /// The place after everything so far, for `since=`.
    pub async fn now(&self) -> String {
        self.sync("").await["next_batch"].as_str().unwrap().to_owned()
    }

    /// The same user on another device.
    pub async fn other_device(&self) -> Client<'a> {
        self.server.client(&self.server.post("/_matrix/client/v3/login", self.password()).await.ok())
    }

    /// An authenticated request with the user's password.
    pub fn password(&self) -> Value {
        let user = json!({"type": "m.id.user", "user": self.user_id});
        json!({"type": "m.login.password", "identifier": user, "password": "correct horse"})
    }
}
