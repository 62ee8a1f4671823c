//! Which addresses are outside of this server's own network.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether the address is one of this machine. One that is not may be that of a router in front of it. Nothing is sent.
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Whether an address belongs to the public network: neither to this host nor to a private, shared,
/// reserved, documentation or multicast range (RFC 6890 and its registries), whatever form it is in.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)      // this network, private, loopback, multicast, reserved, broadcast
            | (100, 64..=127, _)              // shared by carriers
            | (169, 254, _)                   // link-local, among it the metadata services of clouds
            | (172, 16..=31, _)               // private
            | (192, 0, 0 | 2)                 // protocol assignments, documentation
            | (192, 31, 196)                  // AS112
            | (192, 52, 193)                  // AMT
            | (192, 88, 99)                   // relays of 6to4
            | (192, 168, _)                   // private
            | (192, 175, 48)                  // AS112
            | (198, 18..=19, _)               // benchmarks
            | (198, 51, 100)                  // documentation
            | (203, 0, 113) // documentation
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = carried_v4(address) {
        return is_public_v4(inner);
    }
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is given out; of it, these are not the public network.
    (a & 0xe000) == 0x2000
        && !matches!(
            (a, b),
            (0x2001, 0..=0x01ff)              // protocol assignments, among them Teredo, ORCHID, benchmarks
                | (0x2001, 0x0db8)            // documentation
                | (0x3fff, 0..=0x0fff)        // documentation
                | (0x2620, 0x004f) // AS112
        )
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (RFC 6052 and its
/// local prefix), 6to4.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let last = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(last(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(last(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(last(high, low)),
        [0x2002, high, low, ..] => Some(last(high, low)),
        _ => None,
    }
}
