//! Sending through the client API in a room that uses a policy server, which a reverse proxy would have put beside this
//! server, under the same name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use conduit::{Config, Environment, OtherTransport, Registration, Server};
use federation::{Transport, TransportError};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use runtime::{Clock, Metrics, Random};
use serde_json::{Map, Value, json};
use spec::hash::redacted_bytes;
use spec::ids::ServerName;
use spec::policy::POLICY_KEY_ID;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, MemoryDisk};
use testkit::{Account, HttpAddress, HttpClient, encode_path_segment};

type Sending<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<Response<federation::AnswerBody>, TransportError>> + Send + 'a>>;

/// Whoever answers for `hs.test` outside.
struct Outside {
    key: SigningKey,
    refuses: AtomicBool,
}

impl Transport for Outside {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        let is_asked = destination.as_str() == "hs.test" && request.uri().path() == "/_matrix/policy/v1/sign";
        let (status, answer) = match self.refuses.load(Ordering::SeqCst) {
            _ if !is_asked => (StatusCode::NOT_FOUND, json!({"errcode": "M_UNRECOGNIZED", "error": "?"})),
            true => (StatusCode::BAD_REQUEST, json!({"errcode": "M_FORBIDDEN", "error": "too many cats"})),
            false => {
                assert!(request.headers()["authorization"].to_str().unwrap().starts_with("X-Matrix "));
                let event: Map<String, Value> = serde_json::from_slice(request.body()).unwrap();
                let signature = self.key.sign(&redacted_bytes(&event, RoomVersion::V12.rules()));
                (StatusCode::OK, json!({"hs.test": {POLICY_KEY_ID: signature}}))
            }
        };
        let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| match never {}).boxed();
        Box::pin(std::future::ready(Ok(Response::builder().status(status).body(body).unwrap())))
    }

    fn get_url(&self, _: http::Uri) -> Sending<'_> {
        Box::pin(std::future::ready(Err(TransportError::Unreachable("nothing".into()))))
    }
}

#[test]
fn a_client_learns_what_the_policy_server_says() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("http.sock");
    let mut config = Config {
        server_name: "hs.test".to_owned(),
        data_dir: folder.path().join("data"),
        listeners: vec![format!("unix:{}", socket.display()).parse().unwrap()],
        registration: Registration::Open,
        ..Config::default()
    };
    config.rate_limits.enabled = false;
    let key = SigningKey::from_seed([9; 32], "policy_server").unwrap();
    let public = key.public_base64();
    let outside = Arc::new(Outside { key, refuses: AtomicBool::new(false) });
    let environment = Environment {
        clock: Clock::system(),
        random: Random::seeded(1),
        backend: Backend::MemoryDisk(MemoryDisk::new()),
        metrics: Metrics::new(),
        transport: Some(OtherTransport(outside.clone())),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start_in(config, environment)).unwrap();

    let mut alice = Account::register(HttpClient::new(HttpAddress::Unix(socket)), "alice");
    let room = alice.create_room(&json!({"name": "Guarded"}));
    let room = encode_path_segment(&room);
    let policy = format!("/rooms/{room}/state/m.room.policy/");
    alice.expect("PUT", &policy, Some(&json!({"via": "hs.test", "public_keys": {"ed25519": public}})));
    let path = format!("/rooms/{room}/send/m.room.message/t");
    let message = json!({"msgtype": "m.text", "body": "a cat"});
    outside.refuses.store(true, Ordering::SeqCst);
    let refused = alice.request("PUT", &path, Some(&message)).unwrap();
    assert_eq!((refused.status, refused.json()), (400, json!({"errcode": "M_FORBIDDEN", "error": "too many cats"})));
    let state = alice.request("PUT", &format!("/rooms/{room}/state/m.room.topic/"), Some(&json!({"topic": "cats"})));
    assert_eq!(state.unwrap().status, 400);
    outside.refuses.store(false, Ordering::SeqCst);
    alice.expect("PUT", &path, Some(&message));
    let page = alice.expect("GET", &format!("/rooms/{room}/messages?dir=b&limit=1"), None);
    assert_eq!(page["chunk"][0]["content"], message);
    // Without it, nobody is asked any more.
    alice.expect("PUT", &policy, Some(&json!({})));
    outside.refuses.store(true, Ordering::SeqCst);
    alice.expect("PUT", &format!("/rooms/{room}/send/m.room.message/t2"), Some(&message));
    runtime.block_on(server.shutdown());
}
