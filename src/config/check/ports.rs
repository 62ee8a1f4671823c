//! Ports that the configuration names: each can be used once.

use std::net::{IpAddr, SocketAddr};

use super::{Finding, ListenAddress};
use crate::config::Config;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// A use of a port.
struct Use {
    key: String,
    protocol: Protocol,
    address: SocketAddr,
}

pub(super) fn examine(config: &Config, found: &mut Vec<Finding>) {
    let uses = list_uses(config);
    for (index, one) in uses.iter().enumerate() {
        for other in uses.iter().skip(index + 1).filter(|other| one.overlaps(other)) {
            let protocol = if one.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
            let problem = format!("{protocol} port {} is that of `{}` too", one.address.port(), other.key);
            let finding = Finding::error(&one.key, problem, "give one of them another port");
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
    }
    if are_calls_on(config) && config.turn.enabled {
        examine_relay_ports(config, &uses, found);
    }
}

/// Calls are only where the server has a public address.
fn are_calls_on(config: &Config) -> bool {
    config.client.public_baseurl.is_some() || config.calls.public_url.is_some()
}

fn examine_relay_ports(config: &Config, uses: &[Use], found: &mut Vec<Finding>) {
    let range = config.turn.relay_ports;
    for one in uses.iter().filter(|one| one.protocol == Protocol::Udp && range.contains(one.address.port())) {
        let problem = format!("`{}` ({}) is among these ports", one.key, one.address.port());
        let finding = Finding::error("turn.relay_ports", problem, "choose a range without it");
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
}

impl Use {
    fn overlaps(&self, other: &Use) -> bool {
        let (a, b) = (self.address, other.address);
        let same_address = a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip());
        // Port 0 is any free one.
        self.protocol == other.protocol && a.port() == b.port() && a.port() != 0 && same_address
    }
}

/// Whether listening on `all` takes the port of `one` too.
fn covers(all: IpAddr, one: IpAddr) -> bool {
    match all {
        IpAddr::V4(all) => all.is_unspecified() && one.is_ipv4(),
        IpAddr::V6(all) => all.is_unspecified(),
    }
}

fn list_uses(config: &Config) -> Vec<Use> {
    let mut uses = Vec::new();
    let mut add = |key: &str, protocol, address| uses.push(Use { key: key.to_owned(), protocol, address });
    let listeners = config.listeners.iter().map(|address| ("listeners", address));
    for (key, address) in listeners.chain(config.metrics.listener.iter().map(|address| ("metrics.listener", address))) {
        if let ListenAddress::Tcp(address) | ListenAddress::Tls(address) = address {
            add(key, Protocol::Tcp, *address);
        }
    }
    if !are_calls_on(config) {
        return uses;
    }
    let mut add_all = |key: &str, protocol, listen: &[IpAddr], port: u16| {
        // Sockets for both families do not take each other's port.
        for ip in listen.iter().filter(|ip| ip.is_ipv4() || !listen.iter().any(IpAddr::is_ipv4)) {
            add(key, protocol, SocketAddr::new(*ip, port));
        }
    };
    if config.calls.enabled {
        add_all("sfu.udp_port", Protocol::Udp, &config.sfu.listen, config.sfu.udp_port);
        add_all("sfu.tcp_port", Protocol::Tcp, &config.sfu.listen, config.sfu.tcp_port);
    }
    if config.turn.enabled {
        add_all("turn.port", Protocol::Udp, &config.turn.listen, config.turn.port);
        if config.turn.tcp {
            add_all("turn.port", Protocol::Tcp, &config.turn.listen, config.turn.port);
        }
        add_all("turn.tls_port", Protocol::Tcp, &config.turn.listen, config.turn.tls_port);
    }
    uses
}
