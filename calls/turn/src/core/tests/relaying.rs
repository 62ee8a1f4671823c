//! Which way datagrams go, and which are dropped.

use runtime::config::ByteSize;

use super::world::{PEER, ROUTED_SFU, SFU, World, config};
use crate::TurnConfig;
use crate::codec::{Message, attribute, channel_data, peers};

/// Peer and data of a Data indication.
fn read_indication(bytes: &[u8]) -> (String, Vec<u8>) {
    let message = Message::parse(bytes).unwrap();
    let peer = peers(&message).next().flatten().unwrap();
    let (_, data, _) = message.attributes().find(|(kind, ..)| *kind == attribute::DATA).unwrap();
    (peer.to_string(), data.to_vec())
}

#[test]
fn indications_carry_data_both_ways() {
    let mut world = World::new();
    let (client, relay) = world.allocated("a", 4000);
    world.indicate(&client, PEER, b"too early");
    world.peer_sends(PEER, relay, b"too early");
    assert!(world.out.peers.is_empty() && world.out.clients.is_empty());
    assert_eq!(world.permit(&client, PEER), None);
    world.indicate(&client, PEER, b"hello");
    let (from, to, data) = world.out.peers.pop().unwrap();
    assert_eq!((from.port(), to.to_string().as_str(), &data[..]), (relay.port(), PEER, &b"hello"[..]));
    world.indicate(&client, "8.8.8.8:1", b"another port");
    assert_eq!(world.out.peers.len(), 1, "a permission is for an address, whatever the port");
    world.peer_sends(PEER, relay, b"hi");
    assert_eq!(read_indication(&world.out.clients.pop().unwrap().1), (PEER.to_owned(), b"hi".to_vec()));
    world.peer_sends("8.8.4.4:9000", relay, b"who?");
    assert!(world.out.clients.is_empty());
}

#[test]
fn channels_carry_data_both_ways() {
    let mut world = World::new();
    let (client, relay) = world.allocated("a", 4000);
    assert_eq!(world.bind(&client, 0x4abc, PEER), None);
    world.channel(&client, 0x4abc, b"hello");
    assert_eq!(world.out.peers.pop().unwrap().2, b"hello");
    world.channel(&client, 0x4abd, b"another");
    assert!(world.out.peers.is_empty());
    world.peer_sends(PEER, relay, b"hi");
    assert_eq!(world.out.clients.pop().unwrap().1, [0x4a, 0xbc, 0, 2, b'h', b'i']);
    world.peer_sends("8.8.8.8:1", relay, b"hi");
    assert_eq!(read_indication(&world.out.clients.pop().unwrap().1).0, "8.8.8.8:1", "no channel for this port");
}

#[test]
fn only_streams_need_padding() {
    let mut world = World::new();
    let client = world.stream_client("a", 1);
    let relay = world.allocate(&client);
    world.bind(&client, 0x4000, PEER);
    world.peer_sends(PEER, relay, b"hello");
    let (_, frame) = world.out.clients.pop().unwrap();
    assert_eq!((frame.len(), channel_data(&frame)), (12, Some((0x4000, &b"hello"[..]))));
    world.core.closed(&client.link, &mut world.out);
    assert!(world.out.open.is_empty(), "a closed connection has nothing");
}

#[test]
fn permissions_and_channels_end() {
    let mut world = World::new();
    let (client, relay) = world.allocated("a", 4000);
    world.bind(&client, 0x4000, PEER);
    world.time += 299;
    world.channel(&client, 0x4000, b"x");
    world.peer_sends(PEER, relay, b"x");
    assert_eq!((world.out.peers.len(), world.out.clients.len()), (1, 1));
    world.time += 1;
    world.channel(&client, 0x4000, b"x");
    world.indicate(&client, PEER, b"x");
    world.peer_sends(PEER, relay, b"x");
    assert_eq!((world.out.peers.len(), world.out.clients.len()), (1, 1), "the permission is over");
    world.out.clients.clear();
    world.permit(&client, PEER);
    world.channel(&client, 0x4000, b"x");
    assert_eq!(world.out.peers.len(), 2, "the channel is not");
    world.time += 300;
    world.out.clients.clear();
    world.channel(&client, 0x4000, b"x");
    assert_eq!(world.out.peers.len(), 2);
}

#[test]
fn two_clients_of_this_relay_reach_each_other_inside() {
    let mut world = World::new();
    let (a, relay_a) = world.allocated("a", 4000);
    let (b, relay_b) = world.allocated("b", 4001);
    assert_eq!(world.bind(&a, 0x4000, &relay_b.to_string()), None);
    world.channel(&a, 0x4000, b"hello");
    assert!(world.out.clients.is_empty(), "b has not permitted it");
    assert_eq!(world.permit(&b, &relay_a.to_string()), None);
    world.channel(&a, 0x4000, b"hello");
    let (to, bytes) = world.out.clients.pop().unwrap();
    assert_eq!((to, read_indication(&bytes)), (b.link, (relay_a.to_string(), b"hello".to_vec())));
    assert!(world.out.peers.is_empty(), "through no socket");
    // Somebody who makes up our own address comes through the socket.
    world.peer_sends(&relay_a.to_string(), relay_b, b"forged");
    assert!(world.out.clients.is_empty());
    world.indicate(&a, &format!("{}:50009", relay_b.ip()), b"nobody there");
    assert!(world.out.clients.is_empty() && world.out.peers.is_empty());
}

#[test]
fn the_media_server_beside_the_relay_is_reached_and_nothing_else_there() {
    let mut world = World::new();
    let (client, relay) = world.allocated("a", 4000);
    assert_eq!(world.bind(&client, 0x4000, SFU), None);
    world.channel(&client, 0x4000, b"one");
    world.indicate(&client, SFU, b"two");
    let sfu = SFU.parse().unwrap();
    let sent: Vec<_> = world.out.peers.drain(..).map(|(_, to, data)| (to, data)).collect();
    assert_eq!(sent, [(sfu, b"one".to_vec()), (sfu, b"two".to_vec())]);
    world.peer_sends(SFU, relay, b"back");
    assert_eq!(channel_data(&world.out.clients.pop().unwrap().1), Some((0x4000, &b"back"[..])));
    // The permission is for the address, but nothing else there may be reached, or reach the client.
    world.indicate(&client, "203.0.113.5:22", b"x");
    world.indicate(&client, "203.0.113.5:3478", b"x");
    world.peer_sends("203.0.113.5:22", relay, b"x");
    assert!(world.out.peers.is_empty() && world.out.clients.is_empty());
    let (_, unwilling) = world.allocated("b", 4001);
    world.peer_sends(SFU, unwilling, b"x");
    assert!(world.out.clients.is_empty(), "it has permitted nothing");
}

#[test]
fn the_media_server_behind_a_router_is_reached_without_it() {
    let mut world = World::new();
    let (client, relay) = world.allocated("a", 4000);
    let [told, at] = ROUTED_SFU;
    assert_eq!(world.bind(&client, 0x4000, told), None);
    world.channel(&client, 0x4000, b"one");
    world.indicate(&client, told, b"two");
    let sent: Vec<_> = world.out.peers.drain(..).map(|(_, to, data)| (to.to_string(), data)).collect();
    assert_eq!(sent, [(at.to_owned(), b"one".to_vec()), (at.to_owned(), b"two".to_vec())]);
    world.peer_sends(at, relay, b"back");
    assert_eq!(channel_data(&world.out.clients.pop().unwrap().1), Some((0x4000, &b"back"[..])));
    assert_eq!(world.permit(&client, at), Some(403), "an address that clients are not told");
}

#[test]
fn bandwidth_is_bounded_for_each_user() {
    let mut world = World::with(TurnConfig { user_bandwidth: ByteSize(1000), ..config() });
    let (a, relay_a) = world.allocated("a", 4000);
    let (b, _) = world.allocated("b", 4001);
    world.bind(&a, 0x4000, PEER);
    world.bind(&b, 0x4000, PEER);
    (0..6).for_each(|_| world.channel(&a, 0x4000, &[0; 100]));
    (0..6).for_each(|_| world.peer_sends(PEER, relay_a, &[0; 100]));
    assert_eq!((world.out.peers.len(), world.out.clients.len()), (6, 4), "both ways together");
    world.channel(&b, 0x4000, &[0; 100]);
    assert_eq!(world.out.peers.len(), 7, "not those of others");
    assert!(world.metrics.render().contains("conduit_turn_dropped_total{reason=\"bandwidth\"} 2"));
    world.time += 1;
    world.channel(&a, 0x4000, &[0; 100]);
    assert_eq!(world.out.peers.len(), 8);
}

#[test]
fn bandwidth_is_bounded_for_all_together() {
    let mut world = World::with(TurnConfig { bandwidth: ByteSize(1000), ..config() });
    for (user, port) in [("a", 4000), ("b", 4001)] {
        let (client, _) = world.allocated(user, port);
        world.bind(&client, 0x4000, PEER);
        (0..8).for_each(|_| world.channel(&client, 0x4000, &[0; 100]));
    }
    assert_eq!(world.out.peers.len(), 10);
}
