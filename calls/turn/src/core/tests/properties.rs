//! What holds whatever clients and peers do.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::world::{SFU, World, udp};
use crate::codec::{Method, attribute};

/// One thing that somebody does.
#[derive(Clone, Debug)]
enum Step {
    Allocate(u8),
    End(u8),
    Permit(u8, u8),
    Bind(u8, u8, u8),
    Channel(u8, u8),
    Indicate(u8, u8),
    PeerSends(u8, u8),
    Wait(u16),
    Garbage(u8, Vec<u8>),
}

/// Peers: allowed ones, refused ones, and our own relay addresses.
const PEERS: [&str; 8] = [
    "8.8.8.8:1",
    "8.8.8.8:2",
    "1.1.1.1:1",
    "10.0.0.1:50001",
    "203.0.113.5:50002",
    "203.0.113.5:7882",
    "127.0.0.1:1",
    "10.0.0.7:80",
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (client, peer) = (0..4u8, 0..PEERS.len() as u8);
    let step = prop_oneof![
        client.clone().prop_map(Step::Allocate),
        client.clone().prop_map(Step::End),
        (client.clone(), peer.clone()).prop_map(|(client, peer)| Step::Permit(client, peer)),
        (client.clone(), 0..3u8, peer.clone()).prop_map(|(client, number, peer)| Step::Bind(client, number, peer)),
        (client.clone(), 0..3u8).prop_map(|(client, number)| Step::Channel(client, number)),
        (client.clone(), peer.clone()).prop_map(|(client, peer)| Step::Indicate(client, peer)),
        (client.clone(), peer).prop_map(|(client, peer)| Step::PeerSends(client, peer)),
        (0..400u16).prop_map(Step::Wait),
        (client, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(client, bytes)| Step::Garbage(client, bytes)),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn nothing_goes_where_it_must_not(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            let of = |world: &World, client: u8| {
                let mut client = world.client(if client < 2 { "a" } else { "b" }, 4000 + u16::from(client));
                client.username = client.username.replacen(char::is_numeric, "9", 1);
                client
            };
            let peer = |peer: u8| PEERS[usize::from(peer)];
            match step {
                Step::Allocate(client) => {
                    let client = of(&world, client);
                    world.ask_as(&client, Method::Allocate, [client.link.remote().port() as u8; 12], udp);
                }
                Step::End(client) => {
                    let client = of(&world, client);
                    let zero = |writer: &mut crate::codec::Writer<'_>| _ = writer.add(attribute::LIFETIME, &[0; 4]);
                    world.ask_as(&client, Method::Refresh, [1; 12], zero);
                }
                Step::Permit(client, at) => {
                    let client = of(&world, client);
                    let address = peer(at).parse().unwrap();
                    let fill = |writer: &mut crate::codec::Writer<'_>| {
                        writer.add_address(attribute::XOR_PEER_ADDRESS, address);
                    };
                    world.ask_as(&client, Method::CreatePermission, [1; 12], fill);
                }
                Step::Bind(client, number, at) => {
                    let client = of(&world, client);
                    let address = peer(at).parse().unwrap();
                    let fill = |writer: &mut crate::codec::Writer<'_>| {
                        writer.add(attribute::CHANNEL_NUMBER, &[0x40, number, 0, 0]);
                        writer.add_address(attribute::XOR_PEER_ADDRESS, address);
                    };
                    world.ask_as(&client, Method::ChannelBind, [1; 12], fill);
                }
                Step::Channel(client, number) => world.channel(&of(&world, client), 0x4000 + u16::from(number), b"x"),
                Step::Indicate(client, at) => world.indicate(&of(&world, client), peer(at), b"x"),
                Step::PeerSends(client, at) => {
                    let slot = usize::from(client);
                    let from: SocketAddr = peer(at).parse().unwrap();
                    world.core.take_from_peer(world.now(), slot, from, b"x", &mut world.out);
                }
                Step::Wait(seconds) => {
                    world.time += u64::from(seconds);
                    world.tick();
                }
                Step::Garbage(client, bytes) => {
                    let link = of(&world, client).link;
                    world.core.take_from_client(world.now(), link, &bytes, &mut world.out);
                }
            }
            for (_, to, _) in world.out.peers.drain(..) {
                let is_public = ["8.8.8.8", "1.1.1.1"].contains(&to.ip().to_string().as_str());
                prop_assert!(is_public || to == SFU.parse().unwrap(), "sent to {to}");
            }
            world.out.clients.clear();
            let allocations = world.core.overview(world.now());
            prop_assert_eq!(allocations.len(), world.out.open.len());
            prop_assert!(allocations.len() <= 5);
            for user in ["a", "b"] {
                prop_assert!(allocations.iter().filter(|allocation| allocation.user == user).count() <= 3);
            }
        }
        world.time += 10_000;
        world.tick();
        prop_assert!(world.out.open.is_empty() && world.core.overview(world.now()).is_empty());
    }
}
