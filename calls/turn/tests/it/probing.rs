//! The client for self-tests against the relay. That the relay speaks as others do is shown by the other tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::{Clock, Random};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use turn::client::{Carrier, Client, ClientError, Framing};

use crate::server::Server;

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);

fn client(carrier: Carrier) -> Client {
    Client::new(carrier, Clock::system(), Random::system(), PATIENCE)
}

async fn over_udp(server: SocketAddr) -> Client {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    client(Carrier::Datagrams(socket))
}

async fn over_tcp(server: SocketAddr) -> Client {
    client(Carrier::connection(TcpStream::connect(server).await.unwrap(), Framing::Bare))
}

async fn over_tls(server: &Server) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(server.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.tls_address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    client(Carrier::connection(stream, Framing::Bare))
}

#[tokio::test]
async fn a_ping_goes_through_the_relay_over_every_transport() {
    let server = Server::start();
    let credentials = server.turn.credentials("@doctor:a.org", HOUR);
    let (username, password) = (&credentials.username, &credentials.password);
    let mut pairs = vec![(over_udp(server.address).await, over_udp(server.address).await)];
    pairs.push((over_tcp(server.address).await, over_tcp(server.address).await));
    pairs.push((over_tls(&server).await, over_udp(server.address).await));
    for (mut one, mut other) in pairs {
        assert_eq!(one.ask_address().await.unwrap().ip(), server.address.ip());
        one.ping_through(&mut other, username, password).await.unwrap();
    }
    assert!(server.turn.overview().await.is_empty(), "nothing is left behind");
    server.stop().await;
}

#[tokio::test]
async fn what_fails_is_told() {
    let server = Server::start();
    let credentials = server.turn.credentials("@doctor:a.org", HOUR);
    let mut one = over_udp(server.address).await;
    let refused = one.allocate(&credentials.username, "forged").await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused(401)), "{refused}");
    one.allocate(&credentials.username, &credentials.password).await.unwrap();
    let refused = one.permit("10.0.0.1:9".parse().unwrap()).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused(403)), "{refused}");
    // A socket that never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(silent.local_addr().unwrap()).await.unwrap();
    let patience = Duration::from_millis(20);
    let mut lost = Client::new(Carrier::Datagrams(socket), Clock::system(), Random::system(), patience);
    assert!(matches!(lost.ask_address().await, Err(ClientError::Silent)));
    server.stop().await;
}
