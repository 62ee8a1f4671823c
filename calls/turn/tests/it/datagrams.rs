//! Clients over UDP, and the relay's life.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use turn::{Neighbour, Transport, TurnError};

use crate::client::{REFRESH, patiently, udp_client};
use crate::server::Server;

/// An address that is not one of this machine (RFC 5737).
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

const HOUR: Duration = Duration::from_secs(3600);

async fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Waits until nobody has the port.
pub async fn eventually_free(address: SocketAddr) {
    for _ in 0..3000 {
        if UdpSocket::bind(address).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{address} is still in use");
}

#[tokio::test]
async fn datagrams_go_both_ways() {
    let server = Server::start();
    let mut client = udp_client(server.address, server.turn.credentials("@a:a.org", HOUR)).await;
    let relay = client.allocate().await;
    let (peer, peer_address) = peer().await;
    client.permit(peer_address).await;
    client.indicate(peer_address, b"hello").await;
    let mut bytes = [0; 2000];
    let (len, from) = patiently(peer.recv_from(&mut bytes)).await.unwrap();
    assert_eq!((&bytes[..len], from), (&b"hello"[..], relay));
    peer.send_to(b"hi", relay).await.unwrap();
    assert_eq!(client.data().await, (peer_address, b"hi".to_vec()));
    client.bind(0x4001, peer_address).await;
    client.send_channel(0x4001, b"channel").await;
    let (len, _) = patiently(peer.recv_from(&mut bytes)).await.unwrap();
    assert_eq!(&bytes[..len], b"channel");
    peer.send_to(b"back", relay).await.unwrap();
    assert_eq!(client.channel_data().await, (0x4001, b"back".to_vec()));

    let overview = server.turn.overview().await;
    let [allocation] = &overview[..] else { panic!("{overview:?}") };
    assert_eq!((allocation.user.as_str(), allocation.transport), ("@a:a.org", Transport::Udp));
    assert_eq!((allocation.relay, allocation.sent, allocation.received, allocation.peers), (relay, 12, 6, 1));
    assert!(server.metrics.render().contains("conduit_turn_packets_total{to=\"peer\"} 2"));
    client.ask(REFRESH, vec![(0xd, vec![0; 4])]).await.unwrap();
    assert_eq!(server.turn.overview().await.len(), 0);
    UdpSocket::bind(relay).await.expect("the port is free again");
    server.stop().await;
}

/// Bursts leave in segmented sends and come in as one buffer; they have to stay whole and in order.
#[tokio::test]
async fn bursts_arrive_whole_and_in_order() {
    let server = Server::start();
    let mut client = udp_client(server.address, server.turn.credentials("a", HOUR)).await;
    let relay = client.allocate().await;
    let (peer, peer_address) = peer().await;
    client.bind(0x4001, peer_address).await;
    let sizes = [1000, 1000, 1000, 3, 1000, 1000, 1400, 1400, 1, 700, 700, 700, 700];
    let datagrams: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(at, size)| vec![at as u8; *size]).collect();
    for _ in 0..3 {
        for datagram in &datagrams {
            client.send_channel(0x4001, datagram).await;
        }
        let mut bytes = [0; 2000];
        for datagram in &datagrams {
            let (len, _) = patiently(peer.recv_from(&mut bytes)).await.unwrap();
            assert!(bytes[..len] == datagram[..], "{len} bytes for {}", datagram.len());
        }
        for datagram in &datagrams {
            peer.send_to(datagram, relay).await.unwrap();
        }
        for datagram in &datagrams {
            assert!(client.channel_data().await == (0x4001, datagram.clone()));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn an_allocation_ends_in_time() {
    let server = Server::start();
    let mut client = udp_client(server.address, server.turn.credentials("a", HOUR)).await;
    let relay = client.allocate().await;
    server.advance(Duration::from_secs(599)).await;
    assert_eq!(server.turn.overview().await.len(), 1);
    client.ask(REFRESH, vec![]).await.unwrap();
    server.advance(Duration::from_secs(599)).await;
    assert_eq!(server.turn.overview().await.len(), 1);
    assert!(UdpSocket::bind(relay).await.is_err());
    server.advance(Duration::from_secs(2)).await;
    eventually_free(relay).await;
    assert_eq!(server.turn.overview().await.len(), 0);
    assert_eq!(client.ask(REFRESH, vec![]).await.unwrap_err().0, 437);
    server.stop().await;
}

#[tokio::test]
async fn two_clients_reach_each_other() {
    let server = Server::with(|config| config.allowed_peers.clear(), Vec::new());
    let mut a = udp_client(server.address, server.turn.credentials("a", HOUR)).await;
    let mut b = udp_client(server.address, server.turn.credentials("b", HOUR)).await;
    let (relay_a, relay_b) = (a.allocate().await, b.allocate().await);
    b.permit(relay_a).await;
    a.bind(0x4001, relay_b).await;
    a.send_channel(0x4001, b"hello").await;
    assert_eq!(b.data().await, (relay_a, b"hello".to_vec()));
    let (_, peer_address) = peer().await;
    let denied = a.ask(crate::client::CREATE_PERMISSION, vec![(0x12, vec![0, 1, 0, 0, 0x5e, 0x12, 0xa4, 0x43])]).await;
    assert_eq!(denied.unwrap_err().0, 403, "loopback is not allowed now: {peer_address}");
    server.stop().await;
}

#[tokio::test]
async fn the_media_server_beside_the_relay_is_reached() {
    let (media, media_address) = peer().await;
    let routed = SocketAddr::new(ROUTER, media_address.port());
    for (told, listens) in [
        (media_address, media_address.ip()),
        // Clients are told the address of a router in front of this machine.
        (routed, media_address.ip()),
        (routed, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    ] {
        let neighbours = vec![Neighbour { told, listens }];
        let server = Server::with(|config| config.allowed_peers.clear(), neighbours);
        let mut client = udp_client(server.address, server.turn.credentials("a", HOUR)).await;
        let relay = client.allocate().await;
        client.bind(0x4001, told).await;
        client.send_channel(0x4001, b"to you").await;
        let mut buffer = [0; 64];
        let (length, from) = patiently(media.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"to you"[..], relay));
        media.send_to(b"to me", relay).await.unwrap();
        assert_eq!(client.channel_data().await, (0x4001, b"to me".to_vec()));
        server.stop().await;
    }
}

#[tokio::test]
async fn credentials_are_made_for_clients() {
    let server = Server::with(|config| config.secret = Some("north".to_owned()), Vec::new());
    let credentials = server.turn.credentials("@a:a.org", HOUR);
    assert_eq!((credentials.username.as_str(), credentials.ttl), ("1700003600:@a:a.org", 3600));
    assert_eq!(credentials.uris[0], format!("turn:a.org:{}?transport=udp", server.address.port()));
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let first = Server::start();
    let port = first.address.port();
    let second = Server::try_with(|config| config.port = port, Vec::new());
    assert!(matches!(second.err(), Some(TurnError::Bind { address, .. }) if address.port() == port));
    first.stop().await;
}
