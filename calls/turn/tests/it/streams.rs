//! What connections carry when a lot comes at once, in pieces, or to somebody who does not read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use turn::Transport;

use crate::client::{Carrier, Client, Stream, patiently};
use crate::connections::{closed, tls_stream};
use crate::server::Server;

const HOUR: Duration = Duration::from_secs(3600);
const CHANNEL: u16 = 0x4001;

/// A relay without bounds on bandwidth.
fn generous() -> Server {
    let change = |config: &mut turn::TurnConfig| {
        (config.bandwidth, config.user_bandwidth) =
            (runtime::config::ByteSize::mib(0), runtime::config::ByteSize::mib(0));
    };
    Server::with(change, Vec::new())
}

fn frame(data: &[u8]) -> Vec<u8> {
    let mut frame = CHANNEL.to_be_bytes().to_vec();
    frame.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(data);
    frame.resize(frame.len().next_multiple_of(4), 0);
    frame
}

/// The number at the start of each datagram, and as many more bytes as make every padding.
fn numbered(number: u32) -> Vec<u8> {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(100 + number as usize % 7, 9);
    data
}

/// An allocation with a channel to a peer.
async fn connect<S>(server: &Server, stream: S) -> (Client<Stream<S>>, UdpSocket, SocketAddr)
where
    Stream<S>: Carrier,
{
    let mut client = Client::new(Stream(stream), server.turn.credentials("a", HOUR));
    let relay = client.allocate().await;
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.bind(CHANNEL, peer.local_addr().unwrap()).await;
    (client, peer, relay)
}

/// Writes many frames as one piece but for its last byte, which follows; all arrive, in order. Then the way back.
async fn carry_many<S: AsyncRead + AsyncWrite + Unpin>(server: &Server, stream: S) {
    let (mut client, peer, relay) = connect(server, stream).await;
    let mut bytes = [0; 2000];
    for round in 0..10 {
        let numbers = round * 100..(round + 1) * 100;
        let all = numbers.clone().flat_map(|number| frame(&numbered(number))).collect::<Vec<u8>>();
        let (first, last) = all.split_at(all.len() - 1);
        for part in [first, last] {
            client.carrier.0.write_all(part).await.unwrap();
            client.carrier.0.flush().await.unwrap();
        }
        for number in numbers.clone() {
            let (length, from) = patiently(peer.recv_from(&mut bytes)).await.unwrap();
            assert_eq!((&bytes[..length], from), (numbered(number).as_slice(), relay));
        }
        for number in numbers.clone() {
            peer.send_to(&numbered(number), relay).await.unwrap();
        }
        for number in numbers {
            assert_eq!(client.channel_data().await, (CHANNEL, numbered(number)));
        }
    }
}

#[tokio::test]
async fn many_frames_come_in_any_pieces() {
    let server = generous();
    carry_many(&server, TcpStream::connect(server.address).await.unwrap()).await;
    carry_many(&server, tls_stream(&server).await).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_tls_ends_the_connection() {
    let server = Server::start();
    let mut stream = tls_stream(&server).await;
    let mut client = Client::new(Stream(&mut stream), server.turn.credentials("a", HOUR));
    client.allocate().await;
    assert_eq!(server.turn.overview().await[0].transport, Transport::Tls);
    let (tcp, _) = stream.get_mut();
    tcp.write_all(b"this was never encrypted, and is long enough to be a record").await.unwrap();
    closed(tcp).await;
    assert!(server.turn.overview().await.is_empty(), "what it had ended with it");
    server.stop().await;
}

#[tokio::test]
async fn a_flood_on_one_connection_leaves_others_their_turn() {
    let server = Arc::new(generous());
    let mut floods = Vec::new();
    for _ in 0..2 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (mut client, peer, _) = connect(&server, stream).await;
        let frames = frame(&[0; 20]).repeat(1000);
        let flood = async move {
            let _peer = peer;
            while client.carrier.0.write_all(&frames).await.is_ok() {}
        };
        floods.push(flood);
    }
    let quiet = async {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (mut client, peer, relay) = connect(&server, stream).await;
        let mut bytes = [0; 2000];
        for number in 0..50 {
            client.send_channel(CHANNEL, &numbered(number)).await;
            let (length, _) = patiently(peer.recv_from(&mut bytes)).await.unwrap();
            assert_eq!(&bytes[..length], numbered(number));
            peer.send_to(&numbered(number), relay).await.unwrap();
            assert_eq!(client.channel_data().await, (CHANNEL, numbered(number)));
        }
    };
    let second = floods.pop().unwrap();
    let first = floods.pop().unwrap();
    tokio::select! {
        () = quiet => {}
        () = first => panic!("the flood ended"),
        () = second => panic!("the flood ended"),
    }
    Arc::into_inner(server).unwrap().stop().await;
}

/// How many frames were dropped because their client does not read.
fn dropped(server: &Server) -> u64 {
    let rendered = server.metrics.render();
    let line =
        rendered.lines().find_map(|line| line.strip_prefix("conduit_turn_dropped_total{reason=\"slow_reader\"} "));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Sends to a client that does not read until frames of its are dropped.
async fn fill(server: &Server, peer: &UdpSocket, relay: SocketAddr) {
    let before = dropped(server);
    let data = vec![5; 8000];
    for _ in 0..100_000 {
        peer.send_to(&data, relay).await.unwrap();
        // Not faster than the relay reads.
        server.turn.overview().await;
        if dropped(server) > before {
            return;
        }
    }
    panic!("nothing is dropped");
}

/// A connection whose client has little room for what comes.
async fn narrow_stream(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_whole_frames() {
    let server = generous();
    let stream = narrow_stream(&server).await;
    let (mut client, peer, relay) = connect(&server, stream).await;
    fill(&server, &peer, relay).await;
    let marks = async {
        loop {
            peer.send_to(b"the last one", relay).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reading = async {
        loop {
            let (channel, data) = client.channel_data().await;
            assert_eq!(channel, CHANNEL);
            match data.as_slice() {
                b"the last one" => return,
                data => assert_eq!(data, vec![5; 8000], "a frame is whole"),
            }
        }
    };
    tokio::select! {
        () = marks => {}
        () = reading => {}
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_sent_away() {
    let server = generous();
    let (slow, slow_peer, slow_relay) = connect(&server, narrow_stream(&server).await).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reading, peer, relay) = connect(&server, stream).await;
    fill(&server, &slow_peer, slow_relay).await;
    server.advance(Duration::from_secs(2)).await;
    assert_eq!(server.turn.overview().await.len(), 2, "not yet");
    for _ in 0..2 {
        server.advance(Duration::from_secs(9)).await;
    }
    for _ in 0..3000 {
        if server.turn.overview().await.len() == 1 {
            break;
        }
        server.advance(Duration::from_millis(10)).await;
    }
    assert_eq!(server.turn.overview().await[0].relay, relay, "the other one stays");
    peer.send_to(b"hello", relay).await.unwrap();
    assert_eq!(reading.channel_data().await, (CHANNEL, b"hello".to_vec()));
    drop(slow);
    server.stop().await;
}
