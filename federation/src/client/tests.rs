use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use spec::signing::VerifyError;
use storage::{Backend, Options, Store};

use super::*;
use crate::destinations::DestinationsParts;
use crate::transport::Sending;

type Answering = dyn Fn(ServerName, Request<Bytes>) -> Sending<'static> + Send + Sync;

/// A transport that hands requests to a function of the test.
pub(crate) struct FakeTransport(Box<Answering>);

impl FakeTransport {
    pub(crate) fn new(
        answer: impl Fn(ServerName, Request<Bytes>) -> Sending<'static> + Send + Sync + 'static,
    ) -> Arc<FakeTransport> {
        Arc::new(FakeTransport(Box::new(answer)))
    }
}

impl Transport for FakeTransport {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        self.0(destination, request)
    }

    fn get_url(&self, url: Uri) -> Sending<'_> {
        let host = ServerName::parse(url.host().unwrap()).unwrap();
        self.0(host, Request::builder().uri(url).body(Bytes::new()).unwrap())
    }
}

/// An answer whose body is there.
pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Sending<'static> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    let response = Response::builder().status(status).body(body).unwrap();
    Box::pin(std::future::ready(Ok(response)))
}

pub(crate) fn unreachable() -> Sending<'static> {
    Box::pin(std::future::ready(Err(TransportError::Unreachable("no way".to_owned()))))
}

pub(crate) fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

/// A client of `us.org` over a transport, on a memory store with a clock that stands still.
pub(crate) struct Fixture {
    pub(crate) client: FederationClient,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) signing_key: Arc<SigningKey>,
}

impl Fixture {
    pub(crate) fn new(transport: Arc<dyn Transport>, config: FederationConfig) -> Fixture {
        let keyspaces = [crate::destinations::KEYSPACES, crate::keys::KEYSPACES].concat();
        let store = Store::open(Options::new(Backend::Memory, keyspaces)).unwrap();
        let clock = Clock::fake(1_700_000_000_000);
        let signing_key = Arc::new(SigningKey::from_seed([1; 32], "us").unwrap());
        let config = Arc::new(config);
        let random = Random::seeded(1);
        let destinations = Destinations::open(DestinationsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            config: config.clone(),
        });
        let client = FederationClient::new(ClientParts {
            server_name: server("us.org"),
            signing_key: signing_key.clone(),
            clock: clock.clone(),
            random,
            destinations: destinations.unwrap(),
            config,
            transport,
        });
        Fixture { client, clock, store, signing_key }
    }

    fn answering(answer: impl Fn(ServerName, Request<Bytes>) -> Sending<'static> + Send + Sync + 'static) -> Fixture {
        Fixture::new(FakeTransport::new(answer), FederationConfig::default())
    }

    fn is_backing_off(&self, name: &str) -> bool {
        self.client.destinations().retry_at(&server(name)).is_some()
    }
}

#[tokio::test]
async fn requests_are_signed_over_all_that_they_say() {
    let fixture = Fixture::answering(|destination, request| {
        assert_eq!(destination, "a.org");
        assert_eq!(request.method(), "PUT");
        assert_eq!(request.uri(), "/_matrix/federation/v1/send/t%2F1?x=a%20b");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert_eq!(request.body(), r#"{"a":[2],"b":1}"#, "canonical");
        let header = XMatrix::parse(request.headers()["authorization"].to_str().unwrap()).unwrap();
        assert_eq!((header.origin.as_str(), header.destination.as_ref().unwrap().as_str()), ("us.org", "a.org"));
        let key = SigningKey::from_seed([1; 32], "us").unwrap().verify_key();
        let content: Map<String, Value> = serde_json::from_slice(request.body()).unwrap();
        let uri = request.uri().to_string();
        assert_eq!(header.verify(&key, &destination, "PUT", &uri, Some(&content)), Ok(()));
        assert_eq!(header.verify(&key, &destination, "PUT", &uri, None), Err(VerifyError::Mismatch));
        answer(200, r#"{"ok":true}"#)
    });
    let mut path = encode_path(&["_matrix", "federation", "v1", "send", "t/1"]);
    path.push_str(&encode_query(&[("x", "a b")]));
    let ask = Ask { body: Some(br#" {"b": 1, "a": [2]} "#.to_vec()), ..Ask::put(path, &json!({})) };
    let body: Value = fixture.client.ask_json(&server("a.org"), ask).await.unwrap();
    assert_eq!(body, json!({"ok": true}));
}

#[tokio::test]
async fn a_get_has_no_body_and_signs_none() {
    let fixture = Fixture::answering(|destination, request| {
        assert!(request.body().is_empty() && !request.headers().contains_key("content-type"));
        let header = XMatrix::parse(request.headers()["authorization"].to_str().unwrap()).unwrap();
        let key = SigningKey::from_seed([1; 32], "us").unwrap().verify_key();
        assert_eq!(header.verify(&key, &destination, "GET", "/_matrix/x", None), Ok(()));
        answer(200, "{}")
    });
    fixture.client.ask(&server("a.org"), Ask::get("/_matrix/x".to_owned())).await.unwrap();
}

#[tokio::test]
async fn refusals_are_passed_on_and_only_troubles_of_the_server_count() {
    let cases = [
        (
            400,
            r#"{"errcode":"M_INCOMPATIBLE_ROOM_VERSION","error":"no","room_version":"3"}"#,
            "M_INCOMPATIBLE_ROOM_VERSION",
            false,
        ),
        (404, "<html>", "M_UNKNOWN", false),
        (401, r#"{"errcode":"M_UNAUTHORIZED"}"#, "M_UNAUTHORIZED", false),
        (429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":5000}"#, "M_LIMIT_EXCEEDED", true),
        (500, r#"{"errcode":"M_UNKNOWN"}"#, "M_UNKNOWN", true),
        (502, "<html>", "M_UNKNOWN", true),
        (504, r#"{"errcode":"M_NOT_YET_UPLOADED"}"#, "M_NOT_YET_UPLOADED", false),
    ];
    for (status, body, expected, is_failure) in cases {
        let fixture = Fixture::answering(move |_, _| answer(status, body));
        let result = fixture.client.ask(&server("a.org"), Ask::get("/_matrix/x".to_owned())).await;
        let Err(RemoteError::Refused { status: found, errcode, body: kept, retry_after, .. }) = result else {
            panic!("{status}: {result:?}");
        };
        assert_eq!((found, errcode.as_str()), (StatusCode::from_u16(status).unwrap(), expected));
        assert_eq!(kept.contains("errcode"), body.contains("errcode"));
        assert_eq!(retry_after, body.contains("retry_after").then_some(Duration::from_secs(5)));
        assert_eq!(fixture.is_backing_off("a.org"), is_failure, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_is() {
    let fixture = Fixture::answering(|_, _| {
        Box::pin(async {
            let mut response = answer(429, "{}").await?;
            response.headers_mut().insert("retry-after", HeaderValue::from_static("7200"));
            Ok(response)
        })
    });
    let there = server("a.org");
    fixture.client.ask(&there, Ask::get("/_matrix/x".to_owned())).await.unwrap_err();
    let pause = fixture.client.destinations().retry_at(&there).unwrap() - fixture.clock.now_ms();
    assert_eq!(pause, 7_200_000);
}

#[tokio::test]
async fn a_failing_server_is_left_alone_unless_it_must_be_asked() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let fixture = Fixture::answering(move |_, _| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => unreachable(),
        _ => answer(200, "{}"),
    });
    let there = server("a.org");
    let ask = || Ask::get("/_matrix/x".to_owned());
    assert!(matches!(fixture.client.ask(&there, ask()).await, Err(RemoteError::Unreachable { .. })));
    assert!(matches!(fixture.client.ask(&there, ask()).await, Err(RemoteError::BackingOff { .. })));
    assert_eq!(calls.load(Ordering::SeqCst), 1, "it was not asked");
    fixture.client.ask(&there, ask().despite_backoff()).await.unwrap();
    fixture.client.ask(&there, ask()).await.unwrap();
}

#[tokio::test]
async fn strangers_are_not_remembered_as_failing() {
    let fixture = Fixture::answering(|_, _| unreachable());
    fixture.client.ask_stranger(&server("a.org"), Ask::get("/_matrix/x".to_owned())).await.unwrap_err();
    assert!(!fixture.is_backing_off("a.org"));
}

#[tokio::test]
async fn who_may_not_be_asked_is_not() {
    let config = FederationConfig { denied_servers: vec!["*.bad.org".to_owned()], ..FederationConfig::default() };
    let fixture = Fixture::new(FakeTransport::new(|_, _| panic!("it was asked")), config);
    for name in ["x.bad.org", "us.org"] {
        let ask = Ask::get("/_matrix/x".to_owned()).despite_backoff();
        assert!(matches!(fixture.client.ask(&server(name), ask).await, Err(RemoteError::NotAllowed(_))), "{name}");
    }
}

#[tokio::test]
async fn answers_are_bounded_in_size() {
    let fixture = Fixture::answering(|_, _| answer(200, vec![b' '; 1001]));
    let ask = |limit| Ask::get("/_matrix/x".to_owned()).at_most(limit);
    let there = server("a.org");
    assert!(matches!(fixture.client.ask(&there, ask(1000)).await, Err(RemoteError::TooLarge(_))));
    assert_eq!(fixture.client.ask(&there, ask(1001)).await.unwrap().len(), 1001);
    assert!(!fixture.is_backing_off("a.org"), "it is there");
    let config = FederationConfig { max_response: runtime::config::ByteSize(1000), ..FederationConfig::default() };
    fixture.client.reload(Arc::new(config));
    assert!(matches!(fixture.client.ask(&there, ask(0)).await, Err(RemoteError::TooLarge(_))), "the configured limit");
}

#[tokio::test]
async fn an_error_beyond_its_bound_says_nothing() {
    let fixture = Fixture::answering(|_, _| {
        answer(400, format!(r#"{{"errcode":"M_X","error":"{}"}}"#, "x".repeat(answer::MAX_ERROR_BYTES)))
    });
    let result = fixture.client.ask(&server("a.org"), Ask::get("/_matrix/x".to_owned())).await;
    assert!(matches!(result, Err(RemoteError::Refused { errcode, .. }) if errcode == "M_UNKNOWN"));
}

#[tokio::test]
async fn what_an_error_says_is_cut() {
    let fixture = Fixture::answering(|_, _| {
        answer(400, json!({"errcode": "M".repeat(500), "error": "ü".repeat(5000)}).to_string())
    });
    let result = fixture.client.ask(&server("a.org"), Ask::get("/_matrix/x".to_owned())).await;
    let Err(RemoteError::Refused { errcode, message, .. }) = result else { panic!("{result:?}") };
    assert_eq!((errcode.chars().count(), message.chars().count()), (128, 1024));
}

/// Runs a request while time goes on, until it ends.
async fn while_time_passes<T>(clock: &Clock, request: impl Future<Output = T>) -> T {
    let passing = async {
        loop {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        }
    };
    tokio::select! {
        result = request => result,
        () = passing => unreachable!(),
    }
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
    let fixture = Fixture::answering(|_, _| Box::pin(std::future::pending()));
    let before = fixture.clock.now_ms();
    let ask = Ask::get("/_matrix/x".to_owned()).within(Duration::from_secs(5));
    let result = while_time_passes(&fixture.clock, fixture.client.ask(&server("a.org"), ask)).await;
    assert!(matches!(result, Err(RemoteError::Timeout(_))), "{result:?}");
    let failed_at = fixture.client.destinations().failing_since(&server("a.org")).unwrap();
    assert!((5_000..10_000).contains(&(failed_at - before)), "{}", failed_at - before);
}

#[tokio::test]
async fn a_body_that_never_ends_ends_with_the_time_limit() {
    let fixture = Fixture::answering(|_, _| {
        let start = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"{")))]);
        let body = StreamBody::new(futures_util::StreamExt::chain(start, futures_util::stream::pending())).boxed();
        Box::pin(std::future::ready(Ok(Response::new(body))))
    });
    let ask = Ask::get("/_matrix/x".to_owned()).within(Duration::from_secs(5));
    let result = while_time_passes(&fixture.clock, fixture.client.ask(&server("a.org"), ask)).await;
    assert!(matches!(result, Err(RemoteError::Timeout(_))), "{result:?}");
    assert!(fixture.client.destinations().failing_since(&server("a.org")).is_some());
}

#[tokio::test]
async fn what_is_no_json_object_is_not_sent() {
    let fixture = Fixture::answering(|_, _| panic!("it was sent"));
    for body in ["", "[]", "{"] {
        let ask = Ask { body: Some(body.into()), ..Ask::put("/_matrix/x".to_owned(), &json!({})) };
        assert!(matches!(fixture.client.ask(&server("a.org"), ask).await, Err(RemoteError::Malformed { .. })));
    }
    assert!(!fixture.is_backing_off("a.org"));
}

#[tokio::test]
async fn answers_that_are_not_what_was_asked_for_are_malformed() {
    let fixture = Fixture::answering(|_, _| answer(200, "[]"));
    let result: Result<Map<String, Value>, _> =
        fixture.client.ask_json(&server("a.org"), Ask::get("/_matrix/x".to_owned())).await;
    assert!(matches!(result, Err(RemoteError::Malformed { .. })));
}

#[tokio::test]
async fn addresses_outside_of_federation_are_fetched_unsigned_through_few_redirects() {
    let redirect = |to: String| -> Sending<'static> {
        Box::pin(async move {
            let mut response = answer(302, "").await?;
            response.headers_mut().insert("location", HeaderValue::from_str(&to).unwrap());
            Ok(response)
        })
    };
    let fixture = Fixture::answering(move |host, request| {
        assert!(!request.headers().contains_key("authorization"));
        match request.uri().path() {
            "/file" => answer(200, "bytes"),
            "/once" => redirect("/file".to_owned()),
            "/away" => redirect("https://other.org/file".to_owned()),
            "/plain" => redirect("http://other.org/file".to_owned()),
            "/loop" => redirect(format!("https://{host}/loop")),
            _ => answer(404, "{}"),
        }
    });
    let fetch = async |url: &str| {
        let response = fixture.client.fetch_url(url, Duration::ZERO, 100).await?;
        let body = response.into_body().collect().await.unwrap();
        Ok::<_, RemoteError>(body.to_bytes())
    };
    for url in ["https://cdn.org/file", "https://cdn.org/once", "https://cdn.org/away"] {
        assert_eq!(fetch(url).await.unwrap(), "bytes", "{url}");
    }
    for url in ["https://cdn.org/plain", "https://cdn.org/loop", "not an address", "/file"] {
        assert!(matches!(fetch(url).await, Err(RemoteError::Malformed { .. })), "{url}");
    }
    assert!(matches!(fetch("https://cdn.org/gone").await, Err(RemoteError::Refused { .. })));
}

#[test]
fn paths_and_queries_are_encoded() {
    assert_eq!(encode_path(&["_matrix", "a/b", "!r:x", "ü"]), "/_matrix/a%2Fb/%21r%3Ax/%C3%BC");
    assert_eq!(encode_query(&[]), "");
    assert_eq!(encode_query(&[("ver", "1"), ("ver", "org.x&y=z")]), "?ver=1&ver=org.x%26y%3Dz");
}
