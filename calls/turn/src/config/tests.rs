use std::net::IpAddr;

use super::*;

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_network_has_the_addresses_of_its_prefix() {
    assert!(network("10.0.0.0/8").contains(ip("10.255.0.1")) && !network("10.0.0.0/8").contains(ip("11.0.0.1")));
    assert!(network("10.0.0.1").contains(ip("10.0.0.1")) && !network("10.0.0.1").contains(ip("10.0.0.2")));
    assert!(network("fd00::/8").contains(ip("fdff::1")) && !network("fd00::/8").contains(ip("fe80::1")));
    assert!(network("0.0.0.0/0").contains(ip("8.8.8.8")) && network("::/0").contains(ip("::ffff:8.8.8.8")));
    assert!(!network("0.0.0.0/0").contains(ip("::1")) && !network("10.0.0.0/8").contains(ip("::ffff:10.0.0.1")));
}

#[test]
fn wrong_networks_and_ranges_are_refused() {
    for text in ["10.0.0.0/33", "fd00::/129", "10.0.0", "10.0.0.0/x", "/8", ""] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
    for text in ["0-5", "6-5", "5", "5-70000", "-", "a-b"] {
        assert!(text.parse::<PortRange>().is_err(), "{text}");
    }
}

#[test]
fn settings_are_written_as_they_are_read() {
    let config: TurnConfig =
        toml::from_str("relay_ports = \"5000-5010\"\nallowed_peers = [\"10.0.0.0/8\", \"::1\"]").unwrap();
    assert_eq!((config.relay_ports.first, config.relay_ports.count()), (5000, 11));
    let again: TurnConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!((again.relay_ports, again.allowed_peers), (config.relay_ports, config.allowed_peers));
}
