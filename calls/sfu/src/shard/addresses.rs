//! Which addresses clients are told to send media to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use str0m::Candidate;
use str0m::net::TcpType;

use crate::config::SfuConfig;

/// The addresses to tell: those configured, else those listened on, where the machine's own address stands
/// for "all".
pub fn public_addresses(config: &SfuConfig) -> Vec<IpAddr> {
    if !config.public_addresses.is_empty() {
        return config.public_addresses.clone();
    }
    let mut found = Vec::new();
    for listen in &config.listen {
        let address = if listen.is_unspecified() { own_address(listen.is_ipv4()) } else { Some(*listen) };
        found.extend(address.filter(|address| !found.contains(address)));
    }
    found
}

/// The address from which this machine reaches the Internet. Nothing is sent.
fn own_address(v4: bool) -> Option<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): connecting only looks for the route.
    let (bind, towards): (IpAddr, IpAddr) = if v4 {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    } else {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    };
    let socket = UdpSocket::bind(SocketAddr::new(bind, 0)).ok()?;
    socket.connect(SocketAddr::new(towards, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// Those of `addresses` that belong to this machine; the others are those of a router in front of it.
pub fn own(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let is_own = |ip: &&IpAddr| UdpSocket::bind(SocketAddr::new(**ip, 0)).is_ok();
    addresses.iter().filter(is_own).copied().collect()
}

/// The candidates of these addresses.
pub fn candidates(addresses: &[IpAddr], udp_port: u16, tcp_port: Option<u16>) -> Vec<Candidate> {
    let udp = addresses.iter().filter_map(|ip| Candidate::host(SocketAddr::new(*ip, udp_port), "udp").ok());
    let tcp = addresses.iter().filter_map(|ip| {
        let address = SocketAddr::new(*ip, tcp_port?);
        Candidate::builder().tcp().host(address).tcptype(TcpType::Passive).build().ok()
    });
    udp.chain(tcp).collect()
}
