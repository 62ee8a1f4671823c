//! Clients over TCP and TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use turn::Transport;

use crate::client::{Carrier, Client, Stream, patiently};
use crate::datagrams::eventually_free;
use crate::server::Server;

const HOUR: Duration = Duration::from_secs(3600);

async fn echo_both_ways(client: &mut Client<impl Carrier>) -> SocketAddr {
    let relay = client.allocate().await;
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let peer_address = peer.local_addr().unwrap();
    client.bind(0x4001, peer_address).await;
    let mut bytes = [0; 2000];
    // Lengths with every padding.
    for len in 97..105 {
        client.send_channel(0x4001, &vec![7; len]).await;
        let (received, _) = patiently(peer.recv_from(&mut bytes)).await.unwrap();
        assert_eq!(received, len);
        peer.send_to(&bytes[..len], relay).await.unwrap();
        assert_eq!(client.channel_data().await, (0x4001, vec![7; len]));
    }
    client.indicate(peer_address, b"hello").await;
    assert_eq!(patiently(peer.recv_from(&mut bytes)).await.unwrap().0, 5);
    relay
}

#[tokio::test]
async fn tcp_carries_what_udp_does() {
    let server = Server::start();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut client = Client::new(Stream(stream), server.turn.credentials("a", HOUR));
    let relay = echo_both_ways(&mut client).await;
    assert_eq!(server.turn.overview().await[0].transport, Transport::Tcp);
    drop(client);
    // What a connection had ends with it.
    eventually_free(relay).await;
    assert!(server.turn.overview().await.is_empty());
    server.stop().await;
}

/// A connection over TLS.
pub async fn tls_stream(server: &Server) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(server.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.tls_address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn tls_carries_what_tcp_does() {
    let server = Server::start();
    let mut client = Client::new(Stream(tls_stream(&server).await), server.turn.credentials("a", HOUR));
    echo_both_ways(&mut client).await;
    assert_eq!(server.turn.overview().await[0].transport, Transport::Tls);
    server.stop().await;
}

/// Waits until the relay has closed a connection; whatever comes before that is read.
pub async fn closed(stream: &mut TcpStream) {
    let mut bytes = [0; 1000];
    while patiently(stream.read(&mut bytes)).await.is_ok_and(|len| len > 0) {}
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    let server = Server::start();
    for garbage in [&b"\x80 what is this"[..], b"\x40\x00\xff\xff too long", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        closed(&mut stream).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn whoever_asks_for_nothing_is_sent_away() {
    let server = Server::start();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut client = Client::new(Stream(stream), server.turn.credentials("a", HOUR));
    client.allocate().await;
    let mut bytes = [0; 1];
    server.advance(Duration::from_secs(29)).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), idle.read(&mut bytes)).await.is_err(), "not yet");
    server.advance(Duration::from_secs(2)).await;
    server.advance(Duration::from_secs(2)).await;
    closed(&mut idle).await;
    assert_eq!(server.turn.overview().await.len(), 1, "the other one stays");
    server.stop().await;
}

#[tokio::test]
async fn connections_have_bounds() {
    let server = Server::with(|config| config.connections_per_address = 2, Vec::new());
    let mut held = Vec::new();
    for _ in 0..2 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut client = Client::new(Stream(stream), server.turn.credentials("a", HOUR));
        client.allocate().await;
        held.push(client);
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    closed(&mut third).await;
    assert!(server.metrics.render().contains("conduit_turn_connections 2"));
    drop(held.pop());
    for _ in 0..3000 {
        if server.metrics.render().contains("conduit_turn_connections 1") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    Client::new(Stream(stream), server.turn.credentials("a", HOUR)).allocate().await;
    server.stop().await;
}
