use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use rcgen::{CertificateParams, KeyPair};
use runtime::{Metrics, Tasks};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{AnswerBody, BodyError, Lookup, SrvRecord, read_body, read_prefix};

/// Names of the test.
#[derive(Default)]
pub(crate) struct FakeNames(pub(crate) HashMap<String, Vec<IpAddr>>);

impl FakeNames {
    fn local(name: &str) -> FakeNames {
        FakeNames(HashMap::from([(name.to_owned(), vec![[127, 0, 0, 1].into()])]))
    }
}

impl Names for FakeNames {
    fn addresses<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<IpAddr>> {
        Box::pin(std::future::ready(Ok(self.0.get(name).cloned().unwrap_or_default())))
    }

    fn services<'a>(&'a self, _: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

fn parts(trusted_ca_file: Option<PathBuf>) -> WebParts {
    WebParts {
        trusted_ca_file,
        allow_private_addresses: false,
        connect_timeout: Duration::from_secs(5),
        clock: Clock::system(),
    }
}

fn client(names: FakeNames, may_connect: fn(IpAddr) -> bool) -> WebClient {
    WebClient::with_names(parts(None), Arc::new(names), may_connect).unwrap()
}

async fn get(client: &WebClient, url: &str, reach: Reach) -> Result<Response<AnswerBody>, WebError> {
    client.send(Request::builder().uri(url).body(Bytes::new()).unwrap(), reach).await
}

async fn read(answer: Response<AnswerBody>, limit: usize) -> Result<Bytes, BodyError> {
    read_body(answer.into_body(), limit, &Clock::system(), Duration::from_secs(5)).await
}

/// Answers each request of a connection with its head, as text.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            let status = format!("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: {}\r\n\r\n", head.len());
            stream.write_all(status.as_bytes()).await.unwrap();
            stream.write_all(&head).await.unwrap();
            head.clear();
        }
    }
}

/// A plain server: its port and how many connections it took.
async fn serve(tasks: &Tasks) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let (inner, counted) = (tasks.clone(), count.clone());
    tasks.spawn("test server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            inner.spawn("test connection", echo(stream));
        }
    });
    (port, count)
}

#[tokio::test]
async fn a_plain_host_is_asked_over_one_connection_and_no_redirect_is_followed() {
    let tasks = Tasks::new(&Metrics::new());
    let (port, connections) = serve(&tasks).await;
    let client = client(FakeNames::local("a.test"), |_| true);
    for _ in 0..3 {
        let answer = get(&client, &format!("http://a.test:{port}/p?q"), Reach::Guarded).await.unwrap();
        assert_eq!(answer.status(), 302);
        let head = String::from_utf8(read(answer, 10_000).await.unwrap().to_vec()).unwrap();
        assert!(head.starts_with("GET /p?q HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: a.test:{port}\r\n")) && head.contains("user-agent: Conduit/"), "{head}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn only_the_operator_leads_inside_and_his_connections_are_not_lent() {
    let tasks = Tasks::new(&Metrics::new());
    let (port, connections) = serve(&tasks).await;
    let client = client(FakeNames::local("in.test"), is_public);
    for host in ["in.test", "127.0.0.1", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/");
        let refused = get(&client, &url, Reach::Guarded).await.err();
        assert!(matches!(refused, Some(WebError::PrivateAddress(_))), "{host}: {refused:?}");
        let answer = get(&client, &url, Reach::Anywhere).await;
        if host != "[::ffff:127.0.0.1]" {
            read(answer.unwrap(), 10_000).await.unwrap();
        }
        let refused = get(&client, &url, Reach::Guarded).await.err();
        assert!(matches!(refused, Some(WebError::PrivateAddress(_))), "{host}, again: {refused:?}");
    }
    assert!(connections.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn https_needs_a_certificate_for_the_name_by_a_trusted_authority() {
    let tasks = Tasks::new(&Metrics::new());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn("test server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    });
    let mut names = FakeNames::local("a.test");
    names.0.insert("b.test".to_owned(), vec![[127, 0, 0, 1].into()]);
    let names = Arc::new(names);
    let trusting = WebClient::with_names(parts(Some(file.path().to_owned())), names.clone(), |_| true).unwrap();
    let strange = WebClient::with_names(parts(None), names, |_| true).unwrap();
    let refused = get(&strange, &format!("https://a.test:{port}/"), Reach::Anywhere).await.err().unwrap();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let refused = get(&trusting, &format!("https://b.test:{port}/"), Reach::Anywhere).await.err().unwrap();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    get(&trusting, &format!("https://a.test:{port}/"), Reach::Anywhere).await.unwrap();
}

#[tokio::test]
async fn what_is_no_address_of_the_web_is_refused() {
    let client = client(FakeNames::local("a.test"), |_| true);
    for url in ["/path", "a.test", "ftp://a.test/", "http://me:secret@a.test/", "http://a.test:0/"] {
        let refused = get(&client, url, Reach::Guarded).await.err();
        assert!(matches!(refused, Some(WebError::BadAddress(_))), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_no_longer_than_allowed() {
    let tasks = Tasks::new(&Metrics::new());
    let (port, _) = serve(&tasks).await;
    let client = client(FakeNames::default(), |_| true);
    let url = format!("http://127.0.0.1:{port}/");
    let whole = read(get(&client, &url, Reach::Guarded).await.unwrap(), 10_000).await.unwrap();
    let fits = read(get(&client, &url, Reach::Guarded).await.unwrap(), whole.len()).await;
    assert_eq!(fits.unwrap(), whole);
    let large = read(get(&client, &url, Reach::Guarded).await.unwrap(), whole.len() - 1).await;
    assert_eq!(large, Err(BodyError::TooLarge));
    let answer = get(&client, &url, Reach::Guarded).await.unwrap();
    let prefix = read_prefix(answer.into_body(), 5, &Clock::system(), Duration::from_secs(5)).await.unwrap();
    assert_eq!(prefix, whole.slice(..5));
    // Promises a body and keeps silent.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    tasks.spawn("test server", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 16]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let body = get(&client, &silent, Reach::Guarded).await.unwrap().into_body();
    let clock = Clock::fake(0);
    let (late, ()) = tokio::join!(read_body(body, 100, &clock, Duration::from_secs(3)), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        clock.advance(Duration::from_secs(3));
    });
    assert_eq!(late, Err(BodyError::Timeout));
}

#[test]
fn a_file_without_certificates_is_refused() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    for path in [empty.path().to_owned(), "/nonexistent".into()] {
        let built = WebClient::with_names(parts(Some(path)), Arc::new(FakeNames::default()), is_public);
        assert!(matches!(built, Err(StartError::CaFile { .. })));
    }
}
