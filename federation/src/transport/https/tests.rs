use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use outbound::{MAX_HEAD_BYTES, MAX_HEADERS, SrvRecord, WebParts, is_public};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runtime::{Metrics, Tasks};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::connect::tests::FakeNames;
use super::*;
use crate::discovery::well_known::Answer as WellKnown;

/// What a server saw of a request: SNI, `Host` or `:authority`, path, protocol.
type Seen = Arc<parking_lot::Mutex<Vec<(Option<String>, String, String, http::Version)>>>;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), issuer.pem()).unwrap();
        Authority { issuer, file }
    }

    fn server_config(&self, names: &[&str], alpn: &[&[u8]]) -> rustls::ServerConfig {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }
}

/// A server of the test; ends with it.
struct TestServer {
    address: SocketAddr,
    seen: Seen,
    connections: Arc<AtomicUsize>,
}

type Answer = fn(&Request<Incoming>) -> Response<Full<Bytes>>;

fn ok(_: &Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"{}")))
}

async fn serve(tasks: &Tasks, config: rustls::ServerConfig, answer: Answer) -> TestServer {
    serve_at("127.0.0.1:0", tasks, config, answer).await
}

async fn serve_at(address: &str, tasks: &Tasks, config: rustls::ServerConfig, answer: Answer) -> TestServer {
    let listener = TcpListener::bind(address).await.unwrap();
    let server =
        TestServer { address: listener.local_addr().unwrap(), seen: Seen::default(), connections: Arc::default() };
    let (seen, connections, acceptor) =
        (server.seen.clone(), server.connections.clone(), TlsAcceptor::from(Arc::new(config)));
    let inner = tasks.clone();
    tasks.spawn("test server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            connections.fetch_add(1, Ordering::SeqCst);
            let sni = stream.get_ref().1.server_name().map(str::to_owned);
            let seen = seen.clone();
            inner.spawn("test connection", async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap().to_owned());
                    let host = host.or_else(|| Some(request.uri().authority()?.to_string())).unwrap_or_default();
                    let path = request.uri().path_and_query().unwrap().to_string();
                    seen.lock().push((sni.clone(), host, path, request.version()));
                    std::future::ready(Ok::<_, Infallible>(answer(&request)))
                });
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    server
}

fn transport(authority: &Authority, names: FakeNames) -> HttpsTransport {
    let parts = WebParts {
        trusted_ca_file: Some(authority.file.path().to_owned()),
        allow_private_addresses: true,
        connect_timeout: Duration::from_secs(5),
        clock: Clock::system(),
    };
    with_guard(parts, names, |_| true)
}

fn with_guard(parts: WebParts, names: FakeNames, may_connect: fn(IpAddr) -> bool) -> HttpsTransport {
    HttpsTransport::new(WebClient::with_names(parts, Arc::new(names), may_connect).unwrap(), Random::seeded(1))
}

fn local(names: &mut FakeNames, name: &str) {
    names.addresses.insert(name.to_owned(), vec![[127, 0, 0, 1].into()]);
}

fn srv(target: &str, priority: u16, port: u16) -> SrvRecord {
    SrvRecord { priority, weight: 0, port, target: target.to_owned() }
}

fn request(path: &str) -> Request<Bytes> {
    Request::builder().method("PUT").uri(path).body(Bytes::from_static(b"{}")).unwrap()
}

fn server_name(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

/// Remembers, as if it had been fetched, what a host delegates to.
fn remember(transport: &HttpsTransport, host: &str, to: Option<&str>) {
    let answer = to.map_or(WellKnown::Absent, |to| WellKnown::Delegated { to: server_name(to), max_age_ms: None });
    let known = Remembered::after(answer, None, transport.clock().now_ms());
    transport.well_known.insert(host.to_owned(), known);
}

#[tokio::test]
async fn a_server_with_a_port_is_asked_in_its_own_name() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    for (alpn, version) in [(&[&b"h2"[..], b"http/1.1"][..], http::Version::HTTP_2), (&[], http::Version::HTTP_11)] {
        let server = serve(&tasks, authority.server_config(&["a.test"], alpn), ok).await;
        let mut names = FakeNames::default();
        local(&mut names, "a.test");
        let transport = transport(&authority, names);
        let name = format!("a.test:{}", server.address.port());
        for _ in 0..3 {
            let response = transport.send(server_name(&name), request("/_matrix/x?y=1")).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{}");
        }
        let expected = (Some("a.test".to_owned()), name.clone(), "/_matrix/x?y=1".to_owned(), version);
        assert_eq!(*server.seen.lock(), vec![expected; 3]);
        assert_eq!(server.connections.load(Ordering::SeqCst), 1, "the connection is kept");
    }
}

#[tokio::test]
async fn an_address_is_proven_by_a_certificate_for_it_and_sends_no_name() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    let server = serve(&tasks, authority.server_config(&["127.0.0.1"], &[]), ok).await;
    let transport = transport(&authority, FakeNames::default());
    let name = format!("127.0.0.1:{}", server.address.port());
    transport.send(server_name(&name), request("/x")).await.unwrap();
    assert_eq!(server.seen.lock()[0].0, None);
    assert_eq!(server.seen.lock()[0].1, name);
}

#[tokio::test]
async fn a_delegated_server_proves_the_delegated_name_wherever_srv_records_lead() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    let server = serve(&tasks, authority.server_config(&["b.test"], &[b"h2"]), ok).await;
    let mut names = FakeNames::default();
    local(&mut names, "elsewhere.test");
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let records = vec![srv("elsewhere.test", 1, nobody), srv("elsewhere.test", 2, server.address.port())];
    names.services.insert("_matrix-fed._tcp.b.test".to_owned(), records);
    let transport = transport(&authority, names);
    remember(&transport, "a.test", Some("b.test"));
    transport.send(server_name("a.test"), request("/x")).await.unwrap();
    let seen = server.seen.lock()[0].clone();
    assert_eq!((seen.0.as_deref(), seen.1.as_str()), (Some("b.test"), "b.test"));
}

#[tokio::test]
async fn a_certificate_for_another_name_or_by_another_authority_is_refused() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    let wrong_name = serve(&tasks, authority.server_config(&["other.test"], &[]), ok).await;
    let wrong_authority = serve(&tasks, Authority::new().server_config(&["a.test"], &[]), ok).await;
    for server in [wrong_name, wrong_authority] {
        let mut names = FakeNames::default();
        local(&mut names, "a.test");
        let transport = transport(&authority, names);
        let name = server_name(&format!("a.test:{}", server.address.port()));
        let error = transport.send(name, request("/x")).await.err().unwrap();
        assert!(error.to_string().contains("certificate"), "{error}");
        assert!(server.seen.lock().is_empty());
    }
}

#[tokio::test]
async fn redirects_of_federation_requests_are_not_followed() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    let server = serve(&tasks, authority.server_config(&["a.test"], &[]), |_| {
        Response::builder().status(302).header("location", "/elsewhere").body(Full::default()).unwrap()
    });
    let server = server.await;
    let mut names = FakeNames::default();
    local(&mut names, "a.test");
    let name = server_name(&format!("a.test:{}", server.address.port()));
    let response = transport(&authority, names).send(name, request("/x")).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(server.seen.lock().len(), 1);
}

#[tokio::test]
async fn heads_of_answers_are_bounded() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    let large: Answer =
        |_| Response::builder().header("x", "y".repeat(3 * MAX_HEAD_BYTES)).body(Full::default()).unwrap();
    let many: Answer = |_| {
        let headers = (0..=MAX_HEADERS).fold(Response::builder(), |head, at| head.header(format!("x{at}"), "y"));
        headers.body(Full::default()).unwrap()
    };
    for (what, answer) in [("large", large), ("many", many)] {
        let server = serve(&tasks, authority.server_config(&["a.test"], &[]), answer).await;
        let mut names = FakeNames::default();
        local(&mut names, "a.test");
        let name = server_name(&format!("a.test:{}", server.address.port()));
        assert!(transport(&authority, names).send(name, request("/x")).await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn well_known_documents_are_fetched_through_few_redirects_within_bounds() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    let server = serve(&tasks, authority.server_config(&["a.test"], &[b"h2"]), |request| {
        let redirect = |to: &str| Response::builder().status(301).header("location", to).body(Full::default()).unwrap();
        let document = |body: &str| {
            Response::builder()
                .header("cache-control", "max-age=600")
                .body(Full::new(Bytes::from(body.to_owned())))
                .unwrap()
        };
        match request.uri().path() {
            "/ok" => document(r#"{"m.server":"b.test:1"}"#),
            "/large" => document(&format!(r#"{{"m.server":"b.test:1","x":"{}"}}"#, "x".repeat(50 * 1024))),
            "/bad" => document("{"),
            "/once" => redirect("/ok"),
            "/loop" => redirect("/loop"),
            "/plain" => redirect("http://a.test/ok"),
            "/down" => Response::builder().status(503).body(Full::default()).unwrap(),
            _ => Response::builder().status(404).body(Full::default()).unwrap(),
        }
    });
    let server = server.await;
    let mut names = FakeNames::default();
    local(&mut names, "a.test");
    let transport = transport(&authority, names);
    let fetch = async |path: &str| {
        let url = format!("https://a.test:{}{path}", server.address.port());
        transport.follow_well_known(url.parse().unwrap()).await
    };
    let found = WellKnown::Delegated { to: server_name("b.test:1"), max_age_ms: Some(600_000) };
    assert_eq!(fetch("/ok").await, found);
    assert_eq!(fetch("/once").await, found);
    for absent in ["/large", "/bad", "/loop", "/plain", "/nothing"] {
        assert_eq!(fetch(absent).await, WellKnown::Absent, "{absent}");
    }
    assert_eq!(fetch("/down").await, WellKnown::Failed);
}

#[tokio::test]
async fn what_a_host_delegates_to_is_remembered() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    let server = serve(&tasks, authority.server_config(&["b.test"], &[]), ok).await;
    let mut names = FakeNames::default();
    local(&mut names, "b.test");
    let transport = transport(&authority, names);
    // Nobody answers for a.test, which has no address: that is remembered too.
    assert_eq!(transport.find_host(&server_name("a.test")).await.unwrap(), "a.test");
    assert_eq!(transport.well_known.get("a.test").unwrap().delegated, None);
    remember(&transport, "a.test", Some(&format!("b.test:{}", server.address.port())));
    transport.send(server_name("a.test"), request("/x")).await.unwrap();
    assert_eq!(server.seen.lock()[0].0.as_deref(), Some("b.test"));
}

#[test]
fn redirects_lead_to_https_only() {
    let from: Uri = "https://a.org/x/y?z".parse().unwrap();
    let target = |location: &str| {
        let response = Response::builder().header("location", location).body(()).unwrap();
        redirect_target(&from, &response).map(|uri| uri.to_string())
    };
    assert_eq!(target("/b?c").as_deref(), Some("https://a.org/b?c"));
    assert_eq!(target("https://b.org:1/c").as_deref(), Some("https://b.org:1/c"));
    assert_eq!(target("//b.org/c").as_deref(), Some("https://b.org/c"));
    for bad in ["http://b.org/", "ftp://b.org/", "", "c", "file:///etc/passwd", "https://"] {
        assert_eq!(target(bad), None, "{bad}");
    }
}

/// A listener inside, on IPv4 and, where the host has it, IPv6, at one port. Nobody is to connect to it.
struct Inside(u16, Vec<std::net::TcpListener>);

impl Inside {
    fn new() -> Inside {
        let four = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = four.local_addr().unwrap().port();
        let six = std::net::TcpListener::bind(("::1", port)).ok();
        let all: Vec<_> = six.into_iter().chain([four]).collect();
        all.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        Inside(port, all)
    }

    fn was_connected_to(&self) -> bool {
        self.1.iter().any(|listener| listener.accept().is_ok())
    }
}

/// A server outside sends us on: by redirects of its `.well-known` document and of media, by the document itself, by
/// SRV records. Here 127.0.0.7 counts as outside, and nothing else of this host.
#[tokio::test]
async fn nobody_outside_sends_us_inside() {
    let (authority, tasks, inside) = (Authority::new(), Tasks::new(&Metrics::new()), Inside::new());
    let outside = serve_at("127.0.0.7:0", &tasks, authority.server_config(&["out.test"], &[b"h2"]), |request| {
        let target = request.uri().query().unwrap();
        match request.uri().path() {
            "/redirect" => Response::builder().status(302).header("location", target).body(Full::default()).unwrap(),
            _ => Response::new(Full::new(Bytes::from(format!(r#"{{"m.server":"{target}"}}"#)))),
        }
    });
    let outside = outside.await;
    let mut names = FakeNames::default();
    let inner: [&str; 5] = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254"];
    names.addresses.insert("out.test".to_owned(), vec![[127, 0, 0, 7].into()]);
    for name in ["in.test", "localhost", "0x7f000001"] {
        names.addresses.insert(name.to_owned(), inner.iter().map(|address| address.parse().unwrap()).collect());
    }
    for (name, target) in [("srv.test", "in.test"), ("literal.test", "127.0.0.1"), ("six.test", "::1")] {
        names.services.insert(format!("_matrix-fed._tcp.{name}"), vec![srv(target, 1, inside.0)]);
    }
    let parts = WebParts {
        trusted_ca_file: Some(authority.file.path().to_owned()),
        allow_private_addresses: false,
        connect_timeout: Duration::from_secs(5),
        clock: Clock::system(),
    };
    let is_outside: fn(IpAddr) -> bool = |address| address == IpAddr::from([127, 0, 0, 7]) || is_public(address);
    let transport = with_guard(parts, names, is_outside);
    let ask_outside = async |path: &str, target: &str| {
        let url = format!("https://out.test:{}/{path}?{target}", outside.address.port());
        transport.follow_well_known(url.parse().unwrap()).await
    };
    let hosts = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "in.test", "localhost", "0x7f000001"];
    let targets = hosts.map(|host| format!("{host}:{}", inside.0));
    let elsewhere =
        ["10.0.0.1", "169.254.169.254", "[fe80::1]", "[64:ff9b::7f00:1]", "srv.test", "literal.test", "six.test"];
    for (at, target) in targets.iter().map(String::as_str).chain(elsewhere).enumerate() {
        let WellKnown::Delegated { to, .. } = ask_outside("document", target).await else { panic!("{target}") };
        assert_eq!(to, target);
        remember(&transport, &format!("d{at}.test"), Some(target));
        let delegated = transport.send(server_name(&format!("d{at}.test")), request("/x")).await;
        assert!(matches!(delegated, Err(TransportError::PrivateAddress(_))), "delegated to {target}");
        // SRV records are for names of servers: on the web those names lead nowhere.
        if !elsewhere[4..].contains(&target) {
            assert_eq!(ask_outside("redirect", &format!("https://{target}/")).await, WellKnown::Absent, "{target}");
            let url: Uri = format!("https://{target}/").parse().unwrap();
            let fetched = transport.get_url(url).await;
            assert!(matches!(fetched, Err(TransportError::PrivateAddress(_))), "{target}");
        }
    }
    assert_eq!(outside.connections.load(Ordering::SeqCst), 1, "the server outside was asked all the time");
    assert!(!inside.was_connected_to());
    // The listener would have told.
    drop(std::net::TcpStream::connect(("127.0.0.1", inside.0)).unwrap());
    assert!(inside.was_connected_to());
}

#[tokio::test]
async fn connecting_has_a_time_limit_from_the_name_to_the_certificate() {
    let authority = Authority::new();
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut names = FakeNames::default();
    local(&mut names, "a.test");
    let parts = WebParts {
        trusted_ca_file: Some(authority.file.path().to_owned()),
        allow_private_addresses: true,
        connect_timeout: Duration::from_millis(50),
        clock: Clock::system(),
    };
    let transport = with_guard(parts, names, |_| true);
    let name = server_name(&format!("a.test:{}", silent.local_addr().unwrap().port()));
    let sending = transport.send(name, request("/x"));
    let error = tokio::time::timeout(Duration::from_secs(5), sending).await.expect("it ended").err().unwrap();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[tokio::test]
async fn asking_for_the_document_has_a_time_limit() {
    let (authority, tasks) = (Authority::new(), Tasks::new(&Metrics::new()));
    let mut names = FakeNames::default();
    local(&mut names, "a.test");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = Clock::fake(1_700_000_000_000);
    let parts = WebParts {
        trusted_ca_file: Some(authority.file.path().to_owned()),
        allow_private_addresses: true,
        connect_timeout: Duration::from_secs(3600),
        clock: clock.clone(),
    };
    let transport = with_guard(parts, names, |_| true);
    let passing = clock.clone();
    tasks.spawn("time", async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            passing.advance(Duration::from_millis(500));
        }
    });
    let (host, began) = (format!("a.test:{}", silent.local_addr().unwrap().port()), clock.monotonic());
    let asking = tokio::time::timeout(Duration::from_secs(30), transport.ask_well_known(&host));
    assert_eq!(asking.await.expect("it ended"), None);
    let took = clock.monotonic() - began;
    assert!(
        (well_known::FETCH_TIMEOUT..well_known::FETCH_TIMEOUT + Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
    let known = transport.well_known.get(&host).unwrap();
    assert!(known.fresh_until_ms > clock.now_ms(), "and nobody waits for it again at once");
}
