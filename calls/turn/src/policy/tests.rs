use super::*;

fn policy(allowed: &[&str]) -> Policy {
    Policy {
        allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
        own: vec!["10.0.0.1".parse().unwrap(), "1.2.3.4".parse().unwrap()],
        relay_ports: PortRange { first: 49160, last: 49200 },
        listener_ports: vec![3478, 5349],
        neighbours: vec![
            Beside { told: at("10.0.0.1:7882"), at: at("10.0.0.1:7882") },
            Beside { told: at("1.2.3.4:7882"), at: at("10.0.0.1:7882") },
            Beside { told: at("1.2.3.5:7883"), at: at("10.0.0.1:7883") },
        ],
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn only_public_peers_are_reached() {
    let policy = policy(&[]);
    for peer in ["8.8.8.8:53", "[2a00:1450::1]:53"] {
        assert_eq!(policy.route(at(peer)), Some(Route::Network), "{peer}");
        assert!(policy.may_permit(at(peer)));
    }
    for peer in [
        "127.0.0.1:80",
        "10.1.2.3:80",
        "172.16.0.1:80",
        "192.168.1.1:80",
        "169.254.169.254:80",
        "100.64.0.1:80",
        "0.0.0.0:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "192.0.2.1:80",
        "198.18.0.1:80",
        "240.0.0.1:80",
        "[::1]:80",
        "[::]:80",
        "[fe80::1]:80",
        "[fd00::1]:80",
        "[ff02::1]:80",
        "[2001:db8::1]:80",
        "[fd00:ec2::254]:80",
        "8.8.8.8:0",
    ] {
        assert_eq!(policy.route(at(peer)), None, "{peer}");
    }
}

#[test]
fn no_ipv4_address_is_reached_in_another_form() {
    let policy = policy(&[]);
    // Of private addresses and of public ones alike.
    for peer in [
        "[::ffff:10.0.0.1]:80",
        "[::ffff:8.8.8.8]:80",
        "[::8.8.8.8]:80",
        "[64:ff9b::808:808]:80",
        "[64:ff9b::a00:1]:80",
        "[64:ff9b:1::a00:1]:80",
        "[2002:a00:1::]:80",
        "[2002:808:808::1]:80",
        "[2001:0:808:808::1]:80",
        "[::ffff:0:8.8.8.8]:80",
    ] {
        assert_eq!(policy.route(at(peer)), None, "{peer}");
        assert!(!policy.may_permit(at(peer)), "{peer}");
    }
}

#[test]
fn the_operator_may_allow_networks() {
    let policy = policy(&["192.168.0.0/16", "fd00::/8", "10.0.0.0/8"]);
    assert_eq!(policy.route(at("192.168.1.1:80")), Some(Route::Network));
    assert_eq!(policy.route(at("[fd00::1]:80")), Some(Route::Network));
    assert_eq!(policy.route(at("[::ffff:192.168.1.1]:80")), None);
    assert_eq!(policy.route(at("172.16.0.1:80")), None);
    assert_eq!(policy.route(at("10.0.0.1:80")), Some(Route::Network), "this machine, if its network is allowed");
    assert_eq!(policy.route(at("10.0.0.1:3478")), None, "never the relay itself");
}

#[test]
fn what_is_our_own_stays_inside() {
    let policy = policy(&[]);
    assert_eq!(policy.route(at("1.2.3.4:49170")), Some(Route::Relay));
    assert_eq!(policy.route(at("10.0.0.1:49170")), Some(Route::Relay));
    assert_eq!(policy.route(at("10.0.0.1:7882")), Some(Route::Neighbour(at("10.0.0.1:7882"))));
    for peer in ["1.2.3.4:22", "1.2.3.4:3478", "1.2.3.4:5349", "10.0.0.1:8008"] {
        assert_eq!(policy.route(at(peer)), None, "{peer}");
        assert!(!policy.may_permit(at(peer)), "{peer}");
    }
    assert!(policy.may_permit(at("1.2.3.4:49170")) && policy.may_permit(at("10.0.0.1:7882")));
    assert!(!policy.is_open("1.2.3.4".parse().unwrap()), "nothing comes from our own addresses through a socket");
}

#[test]
fn the_media_server_behind_a_router_is_reached_without_it() {
    let policy = policy(&[]);
    assert_eq!(policy.route(at("1.2.3.4:7882")), Some(Route::Neighbour(at("10.0.0.1:7882"))));
    assert_eq!(policy.route(at("1.2.3.5:7883")), Some(Route::Neighbour(at("10.0.0.1:7883"))));
    assert!(policy.may_permit(at("1.2.3.5:7883")));
    assert_eq!(policy.route(at("10.0.0.1:7883")), None, "clients are not told this address");
    assert_eq!(policy.known_as(at("10.0.0.1:7883")), at("1.2.3.5:7883"));
    assert_eq!(policy.known_as(at("10.0.0.1:7882")), at("10.0.0.1:7882"), "they are told this one");
    assert_eq!(policy.known_as(at("8.8.8.8:53")), at("8.8.8.8:53"));
}
