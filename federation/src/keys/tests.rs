use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use runtime::Metrics;
use serde_json::json;
use spec::pdu::{Pdu, ReceivedPdu};
use spec::version::{RoomVersion, RoomVersionRules};
use tower::ServiceExt;

mod bounds;

use super::document::describe_own;
use super::known::{KeyRow, Source, merge_rows};
use super::*;
use crate::client::tests::{FakeTransport, Fixture as ClientFixture, answer, server, unreachable};
use crate::transport::Sending;

const DAY: u64 = 24 * 60 * 60 * 1000;
const NOW: u64 = 1_700_000_000_000;

/// The other servers: what each would publish, who is down, and what was asked.
#[derive(Clone, Default)]
struct World(Arc<Mutex<WorldState>>);

#[derive(Default)]
struct WorldState {
    servers: BTreeMap<String, Published>,
    down: BTreeSet<String>,
    asked: Vec<String>,
}

#[derive(Clone)]
struct Published {
    keys: OwnKeys,
    valid_until: u64,
}

fn signing_key(name: &str, version: &str) -> Arc<SigningKey> {
    let mut seed = [0; 32];
    let text = format!("{name} {version}");
    seed.iter_mut().zip(text.bytes()).for_each(|(byte, letter)| *byte = letter);
    Arc::new(SigningKey::from_seed(seed, version).unwrap())
}

impl World {
    fn publish(&self, name: &str, version: &str, old: Vec<OldKey>, valid_until: u64) {
        let keys = OwnKeys { current: signing_key(name, version), old };
        self.0.lock().servers.insert(name.to_owned(), Published { keys, valid_until });
    }

    fn take_down(&self, name: &str) {
        self.0.lock().down.insert(name.to_owned());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().asked)
    }

    fn document(&self, name: &str) -> Option<Map<String, Value>> {
        let published = self.0.lock().servers.get(name)?.clone();
        Some(describe_own(&published.keys, &server(name), published.valid_until).unwrap())
    }

    fn answer(&self, destination: &ServerName, request: &Request<Bytes>) -> Sending<'static> {
        self.0.lock().asked.push(format!("{destination} {}", request.uri().path()));
        if self.0.lock().down.contains(destination.as_str()) {
            return unreachable();
        }
        match request.uri().path() {
            "/_matrix/key/v2/server" => match self.document(destination.as_str()) {
                Some(document) => answer(200, serde_json::to_vec(&document).unwrap()),
                None => answer(404, "{}"),
            },
            "/_matrix/key/v2/query" if self.document(destination.as_str()).is_some() => {
                let query: Value = serde_json::from_slice(request.body()).unwrap();
                let names = query["server_keys"].as_object().unwrap().keys();
                let documents: Vec<Value> = names
                    .filter_map(|name| self.document(name))
                    .map(|mut document| {
                        let key = self.0.lock().servers[destination.as_str()].keys.current.clone();
                        key.sign_json(&mut document, destination.as_str()).unwrap();
                        document.into()
                    })
                    .collect();
                answer(200, json!({ "server_keys": documents }).to_string())
            }
            _ => answer(404, "{}"),
        }
    }
}

struct Fixture {
    world: World,
    ring: KeyRing,
    clock: Clock,
    store: Store,
    client: FederationClient,
}

impl Fixture {
    fn new() -> Fixture {
        let world = World::default();
        let answering = world.clone();
        let transport = FakeTransport::new(move |destination, request| answering.answer(&destination, &request));
        let config = FederationConfig {
            trusted_key_servers: vec!["notary.org".to_owned(), "not a name".to_owned()],
            ..FederationConfig::default()
        };
        let ClientFixture { client, clock, store, signing_key } = ClientFixture::new(transport, config.clone());
        let old = OldKey {
            key_id: "ed25519:before".to_owned(),
            key: super::tests::signing_key("us.org", "before").verify_key(),
            expired_ts: NOW - DAY,
        };
        let parts = KeyRingParts {
            store: store.clone(),
            clock: clock.clone(),
            tasks: Tasks::new(&Metrics::new()),
            server_name: server("us.org"),
            own: OwnKeys { current: signing_key, old: vec![old] },
            config: Arc::new(config),
            client: client.clone(),
        };
        Fixture { world, ring: KeyRing::new(parts), clock, store, client }
    }

    /// The same after a restart.
    fn restart(self) -> Fixture {
        let inner = &self.ring.0;
        let parts = KeyRingParts {
            store: self.store.clone(),
            clock: self.clock.clone(),
            tasks: inner.tasks.clone(),
            server_name: server("us.org"),
            own: inner.own.clone(),
            config: Arc::new(FederationConfig::default()),
            client: self.client.clone(),
        };
        Fixture { ring: KeyRing::new(parts), ..self }
    }

    async fn request_from(&self, name: &str, version: &str) -> Result<ServerName, KeyError> {
        let key = signing_key(name, version);
        let header = XMatrix::sign(&key, &server(name), &server("us.org"), "GET", "/x", None);
        self.ring.verify_request(&header, "GET", "/x", None).await
    }

    async fn check(&self, rules: &'static RoomVersionRules, event: ReceivedPdu) -> bool {
        let mut checked = self.ring.check_pdus(rules, vec![event]).await;
        checked.pop().unwrap().1.is_ok()
    }

    async fn ask_notary(&self, request: Request<Body>) -> (http::StatusCode, Value) {
        let response = serve::routes(self.ring.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn event_by(rules: &RoomVersionRules, name: &str, version: &str, at: u64) -> ReceivedPdu {
    let sender = format!("@u:{name}");
    let object = json!({
        "type": "m.room.message", "room_id": "!r:a.org", "sender": sender, "content": {"body": "x"}, "depth": 5,
        "origin_server_ts": at, "prev_events": ["$p"], "auth_events": ["$c"],
    });
    let key = signing_key(name, version);
    let pdu = Pdu::sign(object.as_object().unwrap().clone(), &server(name), &key, rules).unwrap();
    ReceivedPdu::check(pdu.to_object().unwrap(), rules).unwrap()
}

fn v11() -> &'static RoomVersionRules {
    RoomVersion::V11.rules()
}

#[tokio::test]
async fn a_request_is_verified_with_a_key_fetched_once() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    assert_eq!(fixture.request_from("a.org", "k").await.unwrap(), "a.org");
    assert_eq!(fixture.world.asked(), ["a.org /_matrix/key/v2/server"]);
    fixture.request_from("a.org", "k").await.unwrap();
    assert!(fixture.world.asked().is_empty(), "the key is known");
    let fixture = fixture.restart();
    fixture.request_from("a.org", "k").await.unwrap();
    assert!(fixture.world.asked().is_empty(), "and stored");
}

#[tokio::test]
async fn requests_that_prove_nothing_are_refused() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    let key = signing_key("a.org", "k");
    let sign = |to: &str| XMatrix::sign(&key, &server("a.org"), &server(to), "PUT", "/x", None);
    let verify = async |header: &XMatrix, uri: &str| fixture.ring.verify_request(header, "PUT", uri, None).await;
    assert!(matches!(verify(&sign("b.org"), "/x").await, Err(KeyError::WrongDestination(_))));
    assert!(matches!(verify(&sign("us.org"), "/y").await, Err(KeyError::BadSignature { .. })));
    let without = XMatrix { destination: None, ..sign("us.org") };
    assert!(verify(&without, "/x").await.is_ok(), "old servers leave the destination out of the header");
    let elsewhere = XMatrix { destination: None, ..sign("b.org") };
    assert!(verify(&elsewhere, "/x").await.is_err(), "but not out of the signature");
    let ours = XMatrix { origin: server("us.org"), ..sign("us.org") };
    assert!(matches!(verify(&ours, "/x").await, Err(KeyError::FromOurselves)));
    assert!(matches!(fixture.request_from("a.org", "other").await, Err(KeyError::NoKey { .. })));
}

#[tokio::test]
async fn a_key_that_is_not_found_is_not_asked_for_again_and_again() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    for _ in 0..3 {
        fixture.request_from("a.org", "unknown").await.unwrap_err();
        fixture.request_from("gone.org", "k").await.unwrap_err();
    }
    let asked = fixture.world.asked();
    let count = |path: &str| asked.iter().filter(|line| line.starts_with(path)).count();
    assert_eq!((count("a.org"), count("gone.org")), (1, 1), "{asked:?}");
    assert!(count("notary.org") <= 4, "{asked:?}");
    fixture.clock.advance(Duration::from_secs(11));
    fixture.world.publish("gone.org", "k", vec![], NOW + DAY);
    fixture.request_from("gone.org", "k").await.unwrap();
}

#[tokio::test]
async fn one_request_is_made_for_many_that_wait() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    let all = (0..20).map(|_| fixture.request_from("a.org", "k"));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(fixture.world.asked().len(), 1);
    assert!(fixture.ring.0.flights.lock().is_empty());
}

#[tokio::test]
async fn a_key_that_has_run_out_is_fetched_again_for_requests() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    fixture.request_from("a.org", "k").await.unwrap();
    fixture.clock.advance(Duration::from_millis(DAY + 1));
    assert!(fixture.request_from("a.org", "k").await.is_err(), "the document still says the same");
    fixture.clock.advance(Duration::from_secs(60));
    fixture.world.publish("a.org", "k", vec![], NOW + 3 * DAY);
    fixture.request_from("a.org", "k").await.unwrap();
}

#[tokio::test]
async fn an_old_key_is_for_old_events_only() {
    let fixture = Fixture::new();
    let old =
        OldKey { key_id: "ed25519:old".into(), key: signing_key("a.org", "old").verify_key(), expired_ts: NOW - DAY };
    fixture.world.publish("a.org", "new", vec![old], NOW + DAY);
    assert!(fixture.request_from("a.org", "old").await.is_err(), "not for requests");
    assert!(fixture.check(v11(), event_by(v11(), "a.org", "old", NOW - DAY)).await);
    assert!(!fixture.check(v11(), event_by(v11(), "a.org", "old", NOW - DAY + 1)).await, "it had expired");
    assert!(fixture.check(v11(), event_by(v11(), "a.org", "new", NOW)).await);
}

#[tokio::test]
async fn validity_counts_from_room_version_5_on_and_for_a_week_at_most() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + 1000 * DAY);
    let v4 = RoomVersion::V4.rules();
    let v5 = RoomVersion::V5.rules();
    let late = NOW + 8 * DAY;
    assert!(fixture.check(v4, event_by(v4, "a.org", "k", late)).await);
    assert!(!fixture.check(v5, event_by(v5, "a.org", "k", late)).await);
    assert!(fixture.check(v5, event_by(v5, "a.org", "k", NOW + 7 * DAY)).await);
}

#[tokio::test]
async fn a_notary_helps_where_a_server_is_gone() {
    let fixture = Fixture::new();
    fixture.world.publish("gone.org", "k", vec![], NOW - DAY);
    fixture.world.publish("notary.org", "n", vec![], NOW + DAY);
    fixture.world.take_down("gone.org");
    assert!(fixture.check(v11(), event_by(v11(), "gone.org", "k", NOW - 2 * DAY)).await);
    let asked = fixture.world.asked();
    assert!(asked.contains(&"notary.org /_matrix/key/v2/query".to_owned()), "{asked:?}");
    assert!(!fixture.check(v11(), event_by(v11(), "gone.org", "k", NOW)).await, "it had run out by then");
}

#[tokio::test]
async fn who_is_no_trusted_notary_is_not_asked() {
    let fixture = Fixture::new();
    fixture.world.publish("gone.org", "k", vec![], NOW + DAY);
    fixture.world.publish("other.org", "o", vec![], NOW + DAY);
    fixture.world.take_down("gone.org");
    let event = event_by(v11(), "gone.org", "k", NOW);
    let checked = fixture.ring.check_pdus_via(Some(&server("other.org")), v11(), vec![event]).await;
    assert!(checked[0].1.is_err());
    assert!(!fixture.world.asked().iter().any(|line| line.starts_with("other.org")));
}

#[tokio::test]
async fn a_document_of_another_server_is_not_taken() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    let document = fixture.world.document("a.org").unwrap();
    let transport = FakeTransport::new(move |_, _| answer(200, serde_json::to_vec(&document).unwrap()));
    let ClientFixture { client, .. } = ClientFixture::new(transport, FederationConfig::default());
    let inner = &fixture.ring.0;
    let ring = KeyRing::new(KeyRingParts {
        store: fixture.store.clone(),
        clock: fixture.clock.clone(),
        tasks: inner.tasks.clone(),
        server_name: server("us.org"),
        own: inner.own.clone(),
        config: Arc::new(FederationConfig { trusted_key_servers: vec![], ..FederationConfig::default() }),
        client,
    });
    ring.fetch_server(&server("evil.org")).await;
    assert!(ring.known(&server("evil.org")).unwrap().valid_now("ed25519:k", NOW).is_none());
    assert!(ring.known(&server("a.org")).unwrap().valid_now("ed25519:k", NOW).is_none(), "nor learnt from elsewhere");
}

#[tokio::test]
async fn events_are_checked_in_their_order_and_each_server_is_asked_once() {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..40).map(|number| format!("s{number}.org")).collect();
    for name in &names {
        fixture.world.publish(name, "k", vec![], NOW + DAY);
    }
    fixture.world.take_down("s7.org");
    let events: Vec<ReceivedPdu> = (0..400).map(|at| event_by(v11(), &names[at % 40], "k", NOW + at as u64)).collect();
    let ids: Vec<_> = events.iter().map(|event| event.event_id().clone()).collect();
    let checked = fixture.ring.check_pdus(v11(), events).await;
    assert_eq!(checked.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), ids);
    for (at, (_, result)) in checked.iter().enumerate() {
        assert_eq!(result.is_ok(), at % 40 != 7, "event {at}: {result:?}");
    }
    let asked = fixture.world.asked();
    for name in &names {
        assert_eq!(asked.iter().filter(|line| line.starts_with(&format!("{name} "))).count(), 1, "{name}");
    }
}

#[tokio::test]
async fn forged_events_and_our_own_are_told_apart() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    let mut object =
        serde_json::from_slice::<Map<String, Value>>(&event_by(v11(), "a.org", "k", NOW).unverified().json).unwrap();
    object.insert("depth".into(), 6.into());
    assert!(!fixture.check(v11(), ReceivedPdu::check(object, v11()).unwrap()).await);
    assert!(fixture.check(v11(), event_by(v11(), "us.org", "before", NOW - 2 * DAY)).await, "by our old key");
    assert!(!fixture.check(v11(), event_by(v11(), "us.org", "before", NOW)).await);
}

#[tokio::test]
async fn objects_are_verified_with_keys_that_are_valid_now() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    let mut object = json!({"x": 1}).as_object().unwrap().clone();
    let nobody = fixture.ring.verify_object(&object, &server("a.org")).await;
    assert!(matches!(nobody, Err(KeyError::NoKey { .. })));
    signing_key("a.org", "k").sign_json(&mut object, "a.org").unwrap();
    fixture.ring.verify_object(&object, &server("a.org")).await.unwrap();
    object.insert("x".into(), 2.into());
    let forged = fixture.ring.verify_object(&object, &server("a.org")).await;
    assert!(matches!(forged, Err(KeyError::BadSignature { .. })));
}

#[tokio::test]
async fn a_server_that_was_set_up_anew_is_believed_itself() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    fixture.request_from("a.org", "k").await.unwrap();
    let anew = Arc::new(SigningKey::from_seed([77; 32], "k").unwrap());
    let published = Published { keys: OwnKeys { current: anew.clone(), old: vec![] }, valid_until: NOW + DAY };
    fixture.world.0.lock().servers.insert("a.org".to_owned(), published);
    let header = XMatrix::sign(&anew, &server("a.org"), &server("us.org"), "GET", "/x", None);
    let verify = || fixture.ring.verify_request(&header, "GET", "/x", None);
    assert!(matches!(verify().await, Err(KeyError::BadSignature { .. })), "it was asked a moment ago");
    fixture.clock.advance(Duration::from_secs(11));
    verify().await.unwrap();
    assert!(fixture.request_from("a.org", "k").await.is_err(), "the key before it counts no more");
}

#[tokio::test]
async fn the_number_of_keys_of_a_server_is_bounded() {
    let fixture = Fixture::new();
    for round in 0..10 {
        let old = |at: u32| OldKey {
            key_id: format!("ed25519:r{round}_{at}"),
            key: signing_key("a.org", "k").verify_key(),
            expired_ts: NOW - DAY,
        };
        fixture.world.publish("a.org", "k", (0..120).map(old).collect(), NOW + DAY);
        fixture.ring.fetch_server(&server("a.org")).await;
        fixture.clock.advance(Duration::from_secs(11));
    }
    let rows = storage::Read::scan(&fixture.store, &known::SERVER_KEYS, &"a.org".to_owned()).iter().count();
    assert_eq!(rows, known::MAX_KEYS);
    fixture.request_from("a.org", "k").await.unwrap();
}

#[test]
fn rows_change_only_on_better_knowledge() {
    let row = |key: &str, valid_until, is_old| KeyRow { key: key.to_owned(), valid_until, is_old };
    let merge = |before: KeyRow, new: KeyRow, source| merge_rows(Some(&before), new, source);
    assert_eq!(merge_rows(None, row("a", 1, false), Source::Notary), Some(row("a", 1, false)));
    assert_eq!(merge(row("a", 5, false), row("a", 4, false), Source::Itself), None);
    assert_eq!(merge(row("a", 5, false), row("a", 6, false), Source::Notary), Some(row("a", 6, false)));
    assert_eq!(merge(row("a", 5, false), row("a", 3, true), Source::Itself), Some(row("a", 3, true)), "retired");
    assert_eq!(
        merge(row("a", 3, true), row("a", 9, false), Source::Notary),
        None,
        "an old document does not revive it"
    );
    assert_eq!(merge(row("a", 5, false), row("b", 4, false), Source::Notary), None, "nor replace it");
    assert_eq!(merge(row("a", 5, false), row("b", 4, false), Source::Itself), Some(row("b", 4, false)));
}

#[tokio::test]
async fn the_published_keys_verify_their_own_signature() {
    let fixture = Fixture::new();
    for path in ["/_matrix/key/v2/server", "/_matrix/key/v2/server/ed25519:us", "/_matrix/key/v2/server/"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = serve::routes(fixture.ring.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let object: Map<String, Value> = serde_json::from_slice(&body).unwrap();
        let own = &fixture.ring.0.own;
        verify_json(&object, "us.org", "ed25519:us", &own.current.verify_key()).unwrap();
        assert_eq!(object["verify_keys"]["ed25519:us"]["key"], own.current.public_base64());
        assert_eq!(object["valid_until_ts"], NOW + DAY);
        assert_eq!(object["old_verify_keys"]["ed25519:before"]["expired_ts"], NOW - DAY);
        assert_eq!(serde_json::to_vec(&object).unwrap(), body, "canonical");
    }
}

fn notary_query(query: &Value) -> Request<Body> {
    Request::post("/_matrix/key/v2/query").body(Body::from(query.to_string())).unwrap()
}

#[tokio::test]
async fn as_a_notary_we_fetch_countersign_and_remember() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    let query = json!({ "server_keys": { "a.org": {}, "us.org": {}, "gone.org": {}, "not a name": {} } });
    let (status, answer) = fixture.ask_notary(notary_query(&query)).await;
    assert_eq!(status, 200);
    let documents = answer["server_keys"].as_array().unwrap();
    let names: Vec<_> = documents.iter().map(|document| document["server_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.org", "us.org"]);
    let document = documents[0].as_object().unwrap();
    let us = fixture.ring.0.own.current.verify_key();
    verify_json(document, "us.org", "ed25519:us", &us).unwrap();
    verify_json(document, "a.org", "ed25519:k", &signing_key("a.org", "k").verify_key()).unwrap();

    fixture.world.take_down("a.org");
    fixture.world.asked();
    let request = Request::get("/_matrix/key/v2/query/a.org").body(Body::empty()).unwrap();
    let (_, answer) = fixture.ask_notary(request).await;
    assert_eq!(answer["server_keys"][0]["server_name"], "a.org");
    assert!(fixture.world.asked().is_empty(), "what is there is good enough");

    fixture.clock.advance(Duration::from_secs(11));
    let far = format!("/_matrix/key/v2/query/a.org?minimum_valid_until_ts={}", NOW + 2 * DAY);
    let (_, answer) = fixture.ask_notary(Request::get(far).body(Body::empty()).unwrap()).await;
    assert_eq!(fixture.world.asked(), ["a.org /_matrix/key/v2/server"], "it is tried");
    assert_eq!(answer["server_keys"][0]["server_name"], "a.org", "and the last one has to do");
}

#[tokio::test]
async fn questions_to_the_notary_are_bounded() {
    let fixture = Fixture::new();
    let many: Map<String, Value> = (0..101).map(|number| (format!("s{number}.org"), json!({}))).collect();
    let (status, answer) = fixture.ask_notary(notary_query(&json!({ "server_keys": many }))).await;
    assert_eq!((status.as_u16(), &answer["errcode"]), (413, &json!("M_TOO_LARGE")));
    let (status, answer) = fixture.ask_notary(notary_query(&json!({ "server_keys": [] }))).await;
    assert_eq!((status.as_u16(), &answer["errcode"]), (400, &json!("M_BAD_JSON")));
    let long = Request::post("/_matrix/key/v2/query").body(Body::from(vec![b' '; 65 * 1024])).unwrap();
    let (status, answer) = fixture.ask_notary(long).await;
    assert_eq!((status.as_u16(), &answer["errcode"]), (413, &json!("M_TOO_LARGE")));
    for (method, path) in [("PUT", "/_matrix/key/v2/query"), ("POST", "/_matrix/key/v2/server")] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let (status, answer) = fixture.ask_notary(request).await;
        assert_eq!((status.as_u16(), &answer["errcode"]), (405, &json!("M_UNRECOGNIZED")));
    }
    for path in ["a%20b", "%ff"] {
        let request = Request::get(format!("/_matrix/key/v2/query/{path}")).body(Body::empty()).unwrap();
        let (status, answer) = fixture.ask_notary(request).await;
        assert_eq!((status.as_u16(), &answer["errcode"]), (400, &json!("M_INVALID_PARAM")));
    }
    let nothing = json!({ "server_keys": {} });
    assert_eq!(fixture.ask_notary(notary_query(&nothing)).await.1, json!({ "server_keys": [] }));
    let bad = Request::get("/_matrix/key/v2/query/a.org?minimum_valid_until_ts=x").body(Body::empty()).unwrap();
    assert_eq!(fixture.ask_notary(bad).await.0, 400);
}
