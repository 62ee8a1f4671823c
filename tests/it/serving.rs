//! Listeners, shutdown and the control socket of a server in process.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conduit::{Config, ControlRequest, ListenAddress, Server, send_control_request};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const REQUEST: &[u8] = b"GET /_matrix/nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

fn config_in(folder: &Path, listeners: &[&str]) -> Config {
    Config {
        data_dir: folder.join("data"),
        listeners: listeners.iter().map(|address| address.parse().unwrap()).collect(),
        ..Config::default()
    }
}

fn port_of(address: &ListenAddress) -> SocketAddr {
    match address {
        ListenAddress::Tcp(address) | ListenAddress::Tls(address) => *address,
        ListenAddress::Unix(path) => panic!("{} has no port", path.display()),
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    // A TLS peer may close without saying so.
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut response)).await.unwrap();
    String::from_utf8(response).unwrap()
}

fn assert_unrecognized(response: &str) {
    assert!(response.starts_with("HTTP/1.1 404 Not Found\r\n"), "{response}");
    assert!(response.contains("content-type: application/json\r\n"), "{response}");
    assert!(response.contains(r#"{"errcode":"M_UNRECOGNIZED","error":""#), "{response}");
}

/// Writes a fresh self-signed certificate to where `config` says.
fn write_certificate(config: &mut Config, folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    config.tls.certificate = Some(certificate);
    config.tls.key = Some(key);
    made.cert.der().clone()
}

/// A TLS connection that trusts only `certificate`.
async fn connect_tls(
    address: SocketAddr,
    certificate: &CertificateDer<'static>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_and_unix_listeners_answer_and_end_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("conduit.sock");
    let config = config_in(folder.path(), &["127.0.0.1:0", &format!("unix:{}", socket.display())]);
    let server = Server::start(config).await.unwrap();
    let address = port_of(&server.addresses()[0]);
    assert_unrecognized(&exchange(TcpStream::connect(address).await.unwrap(), REQUEST).await);
    assert_unrecognized(&exchange(UnixStream::connect(&socket).await.unwrap(), REQUEST).await);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(server.shutdown().await);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!socket.exists() && !folder.path().join("data/control.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_listeners_use_the_certificate_and_take_a_new_one_on_reload() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config_in(folder.path(), &["tls://127.0.0.1:0"]);
    let first = write_certificate(&mut config, folder.path());
    let server = Server::start(config.clone()).await.unwrap();
    let address = port_of(&server.addresses()[0]);
    let stream = connect_tls(address, &first, b"http/1.1").await.unwrap();
    assert_unrecognized(&exchange(stream, REQUEST).await);
    let stream = connect_tls(address, &first, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    let second = write_certificate(&mut config, folder.path());
    server.reload(&config).unwrap();
    assert!(connect_tls(address, &first, b"http/1.1").await.is_err());
    let stream = connect_tls(address, &second, b"http/1.1").await.unwrap();
    assert_unrecognized(&exchange(stream, REQUEST).await);

    std::fs::write(config.tls.certificate.as_ref().unwrap(), "nonsense").unwrap();
    assert!(server.reload(&config).is_err());
    assert!(connect_tls(address, &second, b"http/1.1").await.is_ok(), "a bad file leaves the old certificate");
    assert!(server.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_delay_the_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(config_in(folder.path(), &["127.0.0.1:0"])).await.unwrap();
    let address = port_of(&server.addresses()[0]);
    let mut kept_alive = TcpStream::connect(address).await.unwrap();
    kept_alive.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut buffer = [0; 512];
    assert!(kept_alive.read(&mut buffer).await.unwrap() > 0);
    let _silent = TcpStream::connect(address).await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(60), server.shutdown()).await;
    assert_eq!(stopped, Ok(true));
    assert_eq!(kept_alive.read(&mut buffer).await.unwrap(), 0, "the server closes the idle connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_is_given_up_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config_in(folder.path(), &["127.0.0.1:0"]);
    config.shutdown_grace = runtime::config::Span(Duration::from_millis(100));
    let server = Server::start(config).await.unwrap();
    let mut stream = TcpStream::connect(port_of(&server.addresses()[0])).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), server.shutdown()).await;
    assert!(stopped.is_ok(), "the shutdown has a deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_cannot_share_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let first = Server::start(config_in(&folder.path().join("a"), &["127.0.0.1:0"])).await.unwrap();
    let taken = first.addresses()[0].to_string();
    let second = Server::start(config_in(&folder.path().join("b"), &[&taken])).await;
    assert!(second.unwrap_err().to_string().contains(&taken));
    assert!(first.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_their_own_listener() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config_in(folder.path(), &["127.0.0.1:0"]);
    config.metrics.listener = Some("127.0.0.1:0".parse().unwrap());
    let server = Server::start(config).await.unwrap();
    exchange(TcpStream::connect(port_of(&server.addresses()[0])).await.unwrap(), REQUEST).await;
    let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let metrics = port_of(server.metrics_address().unwrap());
    let response = exchange(TcpStream::connect(metrics).await.unwrap(), request).await;
    assert!(response.contains("conduit_http_requests_total{listener=\"matrix\"} 1\n"), "{response}");
    assert!(response.contains("conduit_http_responses_total{listener=\"matrix\",status=\"4xx\"} 1\n"), "{response}");
    assert!(response.contains("conduit_http_duration_seconds_count{listener=\"matrix\"} 1\n"), "{response}");
    assert!(response.contains("conduit_store_position "), "{response}");
    assert!(response.contains("conduit_resident_bytes "), "{response}");
    assert!(server.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_goes_through_the_control_socket() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(folder.path(), &["127.0.0.1:0"]);
    let data_dir = config.data_dir.clone();
    let picture = format!("media/files/ab/cd/{:060}", 0);
    std::fs::create_dir_all(data_dir.join("media/files/ab/cd")).unwrap();
    std::fs::write(data_dir.join(&picture), "picture").unwrap();
    let server = Server::start(config).await.unwrap();
    let mode = std::fs::metadata(data_dir.join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let target = folder.path().join("backup");
    let request = ControlRequest::operation(&["server", "backup", target.to_str().unwrap()]);
    let send = move |data_dir: std::path::PathBuf| {
        let request = request.clone();
        tokio::task::spawn_blocking(move || {
            let mut progress = Vec::new();
            let done = send_control_request(&data_dir, &request, &mut |text| progress.push(text.to_owned()));
            (done, progress)
        })
    };
    let (done, progress) = send(data_dir.clone()).await.unwrap();
    assert!(done.unwrap().contains("1 media files"));
    assert_eq!(progress, ["copying the database", "copying the media", "writing to the disk"]);
    assert_eq!(std::fs::read_to_string(target.join(&picture)).unwrap(), "picture");
    assert!(std::fs::read_dir(target.join("store")).unwrap().next().is_some());

    let (again, _) = send(data_dir.clone()).await.unwrap();
    assert!(again.unwrap_err().to_string().contains("is not empty"));
    assert!(server.shutdown().await);
    let (stopped, _) = send(data_dir).await.unwrap();
    assert!(stopped.unwrap_err().to_string().contains("no server is running"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_signs_a_certificate_for_the_name_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "A test network");
    let key = rcgen::KeyPair::generate().unwrap();
    let (authority_file, key_file) = (folder.path().join("authority.pem"), folder.path().join("authority-key.pem"));
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    std::fs::write(&authority_file, authority.pem()).unwrap();

    let mut config = config_in(folder.path(), &["tls://127.0.0.1:0"]);
    config.server_name = "localhost:8448".to_owned();
    config.tls.authority_certificate = Some(authority_file.clone());
    config.tls.authority_key = Some(key_file);
    let server = Server::start(config.clone()).await.unwrap();
    let address = port_of(&server.addresses()[0]);
    let stream = connect_tls(address, authority.der(), b"http/1.1").await.unwrap();
    assert_unrecognized(&exchange(stream, REQUEST).await);

    server.reload(&Config { server_name: "elsewhere.example".to_owned(), ..config.clone() }).unwrap();
    assert!(connect_tls(address, authority.der(), b"http/1.1").await.is_err(), "the name is in the certificate");
    std::fs::write(authority_file, "nonsense").unwrap();
    assert!(server.reload(&config).is_err());
    assert!(server.shutdown().await);
}
