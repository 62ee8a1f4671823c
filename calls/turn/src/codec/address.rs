//! Transport addresses, combined with the cookie so that no middlebox changes them (RFC 8489 §14.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{COOKIE, Transaction};

/// Reads the value of an XOR-…-ADDRESS attribute.
pub(crate) fn read(value: &[u8], transaction: &Transaction) -> Option<SocketAddr> {
    let (head, ip) = value.split_first_chunk::<4>()?;
    let [_, family, p0, p1] = *head;
    let [c0, c1, ..] = COOKIE;
    let port = u16::from_be_bytes([p0 ^ c0, p1 ^ c1]);
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from(xor::<4>(ip.try_into().ok()?, transaction))),
        2 => IpAddr::V6(Ipv6Addr::from(xor::<16>(ip.try_into().ok()?, transaction))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Appends the value of an XOR-…-ADDRESS attribute.
pub(super) fn write(out: &mut Vec<u8>, address: SocketAddr, transaction: &Transaction) {
    let [c0, c1, ..] = COOKIE;
    let [p0, p1] = address.port().to_be_bytes();
    let family = if address.is_ipv4() { 1 } else { 2 };
    out.extend_from_slice(&[0, family, p0 ^ c0, p1 ^ c1]);
    match address.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&xor(ip.octets(), transaction)),
        IpAddr::V6(ip) => out.extend_from_slice(&xor(ip.octets(), transaction)),
    }
}

fn xor<const N: usize>(mut ip: [u8; N], transaction: &Transaction) -> [u8; N] {
    for (byte, mask) in ip.iter_mut().zip(COOKIE.iter().chain(transaction)) {
        *byte ^= mask;
    }
    ip
}
