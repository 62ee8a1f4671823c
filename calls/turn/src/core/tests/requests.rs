//! What clients ask, and what they are refused (RFC 8656 §7 to §12).

use super::world::{PEER, SFU, START, World, config, udp};
use crate::codec::{Class, Integrity, Method, Writer, attribute};

#[test]
fn a_binding_request_tells_where_it_came_from() {
    let mut world = World::new();
    let client = world.client("a", 4000);
    let mut out = Vec::new();
    Writer::new(&mut out, Class::Request, Method::Binding, &[1; 12]).finish();
    let answer = world.send(client.link, &out).unwrap();
    let mapped = answer.value(attribute::XOR_MAPPED_ADDRESS).unwrap();
    assert_eq!(super::world::read_address(&mapped, &answer.bytes), client.link.remote());
}

#[test]
fn a_stranger_is_told_how_to_prove_who_they_are() {
    let mut world = World::new();
    let client = world.client("a", 4000);
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Class::Request, Method::Allocate, &[1; 12]);
    udp(&mut writer);
    writer.finish();
    let answer = world.send(client.link, &out).unwrap();
    assert_eq!(answer.code, Some(401));
    assert_eq!(answer.value(attribute::REALM).unwrap(), b"a.org");
    assert_eq!(answer.value(attribute::NONCE).unwrap(), client.nonce.as_bytes());
    // With the headers of IPv4 and UDP.
    assert!(answer.bytes.len() + 28 < 3 * (out.len() + 28), "{} for {}", answer.bytes.len(), out.len());
}

#[test]
fn strangers_get_only_so_many_answers() {
    let mut world = World::new();
    let client = world.client("a", 4000);
    let mut out = Vec::new();
    Writer::new(&mut out, Class::Request, Method::Binding, &[1; 12]).finish();
    let answered = (0..500).filter(|_| world.send(client.link, &out).is_some()).count();
    assert_eq!(answered, 100);
    world.time += 5;
    assert_eq!((0..500).filter(|_| world.send(client.link, &out).is_some()).count(), 5);
}

#[test]
fn whoever_has_an_allocation_is_not_held_up_by_strangers() {
    let mut world = World::new();
    let (client, _) = world.allocated("a", 4000);
    let mut out = Vec::new();
    Writer::new(&mut out, Class::Request, Method::Binding, &[1; 12]).finish();
    let stranger = world.client("b", 4001);
    (0..200).for_each(|_| _ = world.send(stranger.link, &out));
    assert!(world.send(stranger.link, &out).is_none(), "the same address, without an allocation");
    assert_eq!(world.permit(&client, PEER), None);
}

#[test]
fn an_allocation_has_a_relay_address_for_its_lifetime() {
    let mut world = World::new();
    let client = world.client("a", 4000);
    let answer = world.ask(&client, Method::Allocate, udp);
    assert_eq!((answer.code, answer.lifetime()), (None, 600));
    let info = &world.core.overview(world.now())[0];
    assert_eq!((info.user.as_str(), info.client, info.expires_in.as_secs()), ("a", client.link.remote(), 600));
    assert_eq!(info.relay.ip().to_string(), "203.0.113.5", "the public address");
    assert_eq!(world.out.open[&0].ip().to_string(), "10.0.0.1", "the bound one");
    world.time += 599;
    world.tick();
    assert_eq!(world.permit(&client, PEER), None);
    world.time += 1;
    assert_eq!(world.permit(&client, PEER), Some(437), "expired, though nothing has cleared it away");
    world.tick();
    assert!(world.out.open.is_empty() && world.core.overview(world.now()).is_empty());
}

#[test]
fn an_expired_allocation_makes_way_for_a_new_one() {
    let mut world = World::new();
    let (client, _) = world.allocated("a", 4000);
    world.time += 600;
    world.allocate(&client);
    assert_eq!((world.out.open.len(), world.core.overview(world.now()).len()), (1, 1));
}

#[test]
fn refreshing_prolongs_and_ends() {
    let mut world = World::new();
    let (client, _) = world.allocated("a", 4000);
    let refresh = |world: &mut World, seconds: u32| {
        world.ask(&client, Method::Refresh, |writer| _ = writer.add(attribute::LIFETIME, &seconds.to_be_bytes()))
    };
    world.time += 500;
    assert_eq!(refresh(&mut world, 60).lifetime(), 600, "not less than the usual");
    assert_eq!(refresh(&mut world, 1000).lifetime(), 1000);
    assert_eq!(refresh(&mut world, 100_000).lifetime(), 3600, "not more than the most");
    assert_eq!(refresh(&mut world, 0).lifetime(), 0);
    assert!(world.out.open.is_empty());
    assert_eq!(refresh(&mut world, 600).code, Some(437));
}

#[test]
fn credentials_end() {
    let mut world = World::new();
    world.time = 3600;
    let mut late = world.client("a", 4000);
    late.username = format!("{START}:a");
    assert_eq!(world.ask(&late, Method::Allocate, udp).code, Some(401));
    world.time = 3599;
    let last = world.client("a", 4001);
    world.allocate(&last);
    // An allocation lives on for an hour after the credentials.
    let refresh = |world: &mut World, client: &super::world::Client| {
        world.ask(client, Method::Refresh, |writer| _ = writer.add(attribute::LIFETIME, &3600u32.to_be_bytes()))
    };
    assert_eq!(refresh(&mut world, &last).lifetime(), 3600);
    world.time += 3000;
    let last = super::world::Client { nonce: world.client("a", 4001).nonce, ..last };
    assert_eq!(refresh(&mut world, &last).lifetime(), 601);
    world.time += 600;
    assert_eq!(refresh(&mut world, &last).lifetime(), 1);
}

#[test]
fn a_repeated_allocate_gets_the_same_answer() {
    let mut world = World::new();
    let client = world.client("a", 4000);
    let first = world.ask_as(&client, Method::Allocate, [1; 12], udp);
    assert_eq!(world.ask_as(&client, Method::Allocate, [1; 12], udp), first);
    assert_eq!(world.ask_as(&client, Method::Allocate, [2; 12], udp).unwrap().code, Some(437));
    assert_eq!(world.out.open.len(), 1);
}

#[test]
fn an_allocation_is_for_who_made_it() {
    let mut world = World::new();
    let (mut client, _) = world.allocated("a", 4000);
    client.username = format!("{}:b", START + 3600);
    assert_eq!(world.permit(&client, PEER), Some(441));
    assert_eq!(world.ask(&client, Method::Refresh, |_| {}).code, Some(441));
}

#[test]
fn quotas_are_for_users_and_for_all() {
    let mut world = World::new();
    let clients: Vec<_> = (0..3).map(|port| world.allocated("a", 4000 + port).0).collect();
    let fourth = world.client("a", 4010);
    assert_eq!(world.ask(&fourth, Method::Allocate, udp).code, Some(486));
    world.ask(&clients[0], Method::Refresh, |writer| _ = writer.add(attribute::LIFETIME, &[0; 4]));
    world.allocate(&fourth);
    world.allocated("b", 4020);
    world.allocated("b", 4021);
    let sixth = world.client("c", 4030);
    assert_eq!(world.ask(&sixth, Method::Allocate, udp).code, Some(508));
}

#[test]
fn taken_ports_are_passed_over() {
    let mut world = World::with(crate::TurnConfig { allocations: 100, allocations_per_user: 100, ..config() });
    world.out.taken = (50000..50009).collect();
    let (_, relay) = world.allocated("a", 4000);
    assert_eq!(relay.port(), 50009);
    let second = world.client("a", 4001);
    assert_eq!(world.ask(&second, Method::Allocate, udp).code, Some(508));
    assert_eq!(world.core.overview(world.now()).len(), 1, "nothing is left of the one that failed");
}

#[test]
fn families_are_given_as_asked() {
    let mut world = World::new();
    let client = world.client("a", 4000);
    let family = |kind: u16, family: u8| {
        move |writer: &mut Writer<'_>| {
            udp(writer);
            writer.add(kind, &[family, 0, 0, 0]);
        }
    };
    assert_eq!(world.ask(&client, Method::Allocate, family(attribute::REQUESTED_ADDRESS_FAMILY, 3)).code, Some(440));
    assert_eq!(world.ask(&client, Method::Allocate, family(attribute::ADDITIONAL_ADDRESS_FAMILY, 1)).code, Some(400));
    assert_eq!(world.ask(&client, Method::Allocate, family(attribute::REQUESTED_ADDRESS_FAMILY, 2)).code, None);
    assert!(world.core.overview(world.now())[0].relay.is_ipv6());
    assert_eq!(world.permit(&client, PEER), Some(443));
    assert_eq!(world.permit(&client, "[2a00:1450::1]:1"), None);
    let refresh = |writer: &mut Writer<'_>| _ = writer.add(attribute::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
    assert_eq!(world.ask(&client, Method::Refresh, refresh).code, Some(443));
    let second = world.client("a", 4001);
    let answer = world.ask(&second, Method::Allocate, family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2));
    assert_eq!(answer.code, None);
    assert_eq!(answer.value(attribute::ADDRESS_ERROR_CODE).unwrap()[..4], [2, 0, 4, 40], "one of the two");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut world = World::new();
    let client = world.client("a", 4000);
    assert_eq!(world.ask(&client, Method::Allocate, |_| {}).code, Some(400));
    let tcp = |writer: &mut Writer<'_>| _ = writer.add(attribute::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    assert_eq!(world.ask(&client, Method::Allocate, tcp).code, Some(442));
    let pair = |writer: &mut Writer<'_>| {
        udp(writer);
        writer.add(attribute::EVEN_PORT, &[0x80]);
    };
    assert_eq!(world.ask(&client, Method::Allocate, pair).code, Some(508));
    let unknown = |writer: &mut Writer<'_>| {
        udp(writer);
        writer.add(0x7777, &[]).add(0x9999, &[]);
    };
    let answer = world.ask(&client, Method::Allocate, unknown);
    assert_eq!((answer.code, answer.value(attribute::UNKNOWN_ATTRIBUTES)), (Some(420), Some(vec![0x77, 0x77])));
    for method in [Method::Refresh, Method::CreatePermission, Method::ChannelBind] {
        assert_eq!(world.ask(&client, method, |_| {}).code, Some(437), "{method:?}");
    }
    world.allocate(&client);
    assert_eq!(world.ask(&client, Method::CreatePermission, |_| {}).code, Some(400));
    assert_eq!(world.bind(&client, 0x3fff, PEER), Some(400));
    assert_eq!(world.bind(&client, 0x8000, PEER), Some(400));
}

#[test]
fn a_stale_nonce_and_a_wrong_password_are_told_apart() {
    let mut world = World::new();
    let mut client = world.client("a", 4000);
    world.time += 2 * 1800;
    let answer = world.ask(&client, Method::Allocate, udp);
    assert_eq!(answer.code, Some(438));
    client.nonce = String::from_utf8(answer.value(attribute::NONCE).unwrap()).unwrap();
    world.time -= 100;
    client.username = format!("{}:a", START + 7200);
    world.allocate(&client);
    let mut forger = world.client("a", 4001);
    forger.username.push('x');
    let auth = std::mem::replace(
        &mut world.auth,
        crate::auth::Auth::new("south", "a.org", &runtime::Random::seeded(1)).into(),
    );
    assert_eq!(world.ask(&forger, Method::Allocate, udp).code, Some(401));
    world.auth = auth;
}

#[test]
fn sha256_is_answered_with_sha256() {
    let mut world = World::new();
    let mut client = world.client("a", 4000);
    client.integrity = Integrity::Sha256;
    world.allocate(&client);
    assert_eq!(world.permit(&client, PEER), None);
}

#[test]
fn denied_peers_are_refused_at_permission_and_channel() {
    let mut world = World::new();
    let (client, _) = world.allocated("a", 4000);
    for peer in ["127.0.0.1:1", "10.0.0.9:1", "169.254.169.254:80", "203.0.113.5:3478", "[::ffff:8.8.8.8]:1"] {
        assert_eq!(world.permit(&client, peer), Some(403), "{peer}");
        assert_eq!(world.bind(&client, 0x4000, peer), Some(403), "{peer}");
    }
    let both = world.ask(&client, Method::CreatePermission, |writer| {
        writer.add_address(attribute::XOR_PEER_ADDRESS, PEER.parse().unwrap());
        writer.add_address(attribute::XOR_PEER_ADDRESS, "10.0.0.9:1".parse().unwrap());
    });
    assert_eq!(both.code, Some(403));
    assert_eq!(world.core.overview(world.now())[0].peers, 0, "all or none");
    assert_eq!(world.permit(&client, SFU), None);
}

#[test]
fn a_channel_is_for_one_peer_and_a_peer_for_one_channel() {
    let mut world = World::new();
    let (client, _) = world.allocated("a", 4000);
    assert_eq!(world.bind(&client, 0x4000, PEER), None);
    assert_eq!(world.bind(&client, 0x4000, PEER), None, "renewed");
    assert_eq!(world.bind(&client, 0x4001, PEER), Some(400));
    assert_eq!(world.bind(&client, 0x4000, "8.8.8.8:9001"), Some(400));
    world.time += 599;
    world.ask(&client, Method::Refresh, |_| {});
    assert_eq!(world.bind(&client, 0x4000, "8.8.8.8:9001"), Some(400));
    world.time += 1;
    assert_eq!(world.bind(&client, 0x4000, "8.8.8.8:9001"), None, "the first binding is over");
}

#[test]
fn permissions_and_channels_have_bounds() {
    let mut world = World::new();
    let (client, _) = world.allocated("a", 4000);
    for last in 0..64 {
        assert_eq!(world.permit(&client, &format!("8.8.8.{last}:1")), None);
    }
    assert_eq!(world.permit(&client, "8.8.9.1:1"), Some(508));
    assert_eq!(world.bind(&client, 0x4000, "8.8.9.1:1"), Some(508));
    assert_eq!(world.permit(&client, "8.8.8.5:1"), None, "known ones can be renewed");
    for number in 0..64 {
        assert_eq!(world.bind(&client, 0x4000 + number, &format!("8.8.8.8:{}", 1 + number)), None);
    }
    assert_eq!(world.bind(&client, 0x5000, "8.8.8.8:100"), Some(508));
}
