//! The TURN server: an allocation over each transport that clients are told, and a datagram through it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use turn::client::{Carrier, Client, ClientError, Framing};

use super::super::public_address::connect_datagrams;
use super::super::status::RelayStatus;
use super::{Doctor, PATIENCE};

/// Of how many addresses of a name each is tried.
const MAX_ADDRESSES: usize = 4;

/// One of the addresses that clients are told (RFC 7065).
#[derive(Clone, Debug, PartialEq, Eq)]
struct RelayUri {
    host: String,
    port: u16,
    transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    fn check(self) -> &'static str {
        match self {
            Transport::Udp => "relay_udp",
            Transport::Tcp => "relay_tcp",
            Transport::Tls => "relay_tls",
        }
    }
}

impl RelayUri {
    /// Reads `turn:host:port?transport=udp`, as this server writes it.
    fn parse(uri: &str) -> Option<RelayUri> {
        let (address, transport) = uri.split_once("?transport=")?;
        let (scheme, address) = address.split_once(':')?;
        let (host, port) = address.rsplit_once(':')?;
        let transport = match (scheme, transport) {
            ("turn", "udp") => Transport::Udp,
            ("turn", "tcp") => Transport::Tcp,
            ("turns", "tcp") => Transport::Tls,
            _ => return None,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(RelayUri { host, port: port.parse().ok()?, transport })
    }
}

impl Doctor<'_> {
    pub(super) async fn check_relay(&mut self, relay: Option<&RelayStatus>) {
        if !self.config.turn.enabled {
            return;
        }
        let Some(relay) = relay else {
            let advice = "look for the reason in the server's log: a port that is taken, or no public address";
            return self.fail("relay", "the TURN server does not run", advice);
        };
        let mut relayed = Vec::new();
        for uri in &relay.uris {
            let Some(parsed) = RelayUri::parse(uri) else { continue };
            match self.ping_relay(&parsed, relay).await {
                Ok((address, taken)) => {
                    relayed.push(address.ip());
                    let found = format!("{uri} relays from {address}, {} ms there and back", taken.as_millis());
                    self.ok(parsed.transport.check(), found);
                }
                Err(error) if is_silence(&error) && is_elsewhere(&parsed).await => {
                    let advice = format!(
                        "{}; or have the router bring back what this network sends to its own public address (hairpin): \
                         if people elsewhere have calls, it is only that",
                        advise(&parsed, &error)
                    );
                    self.warn("hairpin", format!("{uri} is not reached from this machine: {error}"), advice);
                }
                Err(error) => self.fail(parsed.transport.check(), format!("{uri}: {error}"), advise(&parsed, &error)),
            }
        }
        relayed.sort_unstable();
        relayed.dedup();
        if !relayed.is_empty() {
            self.check_announced("relay_address", &relayed, "turn.public_addresses").await;
        }
        self.check_relay_ports(&relay.ports);
    }

    /// Tries the addresses of the name one after the other, as clients do.
    async fn ping_relay(&self, uri: &RelayUri, relay: &RelayStatus) -> Result<(SocketAddr, Duration), ClientError> {
        let none = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
        let mut failure = ClientError::from(none);
        for address in lookup_host((uri.host.as_str(), uri.port)).await?.take(MAX_ADDRESSES) {
            match self.ping_relay_at(uri, address, relay).await {
                Ok(pinged) => return Ok(pinged),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn ping_relay_at(
        &self,
        uri: &RelayUri,
        address: SocketAddr,
        relay: &RelayStatus,
    ) -> Result<(SocketAddr, Duration), ClientError> {
        let mut one = self.open(uri, address).await?;
        let mut other = self.open(uri, address).await?;
        one.ping_through(&mut other, &relay.username, &relay.password).await
    }

    async fn open(&self, uri: &RelayUri, address: SocketAddr) -> Result<Client, ClientError> {
        let carrier = match uri.transport {
            Transport::Udp => Carrier::Datagrams(connect_datagrams(address).await?),
            Transport::Tcp | Transport::Tls => {
                let connected = self.clock.timeout(PATIENCE, TcpStream::connect(address)).await;
                let stream = connected.ok_or(ClientError::Silent)??;
                if uri.transport == Transport::Tls {
                    let name = ServerName::try_from(uri.host.clone()).map_err(std::io::Error::other)?;
                    let connector = TlsConnector::from(Arc::new(self.tls().map_err(std::io::Error::other)?));
                    let secured = self.clock.timeout(PATIENCE, connector.connect(name, stream)).await;
                    Carrier::connection(secured.ok_or(ClientError::Silent)??, Framing::Bare)
                } else {
                    Carrier::connection(stream, Framing::Bare)
                }
            }
        };
        Ok(Client::new(carrier, self.clock.clone(), self.random.clone(), PATIENCE))
    }

    /// Trust as the server has it, for connections that speak no HTTP/2.
    pub(super) fn tls(&self) -> Result<ClientConfig, outbound::StartError> {
        let mut tls = outbound::build_tls(self.config.trusted_ca_file.as_deref())?;
        tls.alpn_protocols.clear();
        Ok(tls)
    }

    /// Whether the relay ports that are not in use can be had.
    fn check_relay_ports(&mut self, in_use: &[u16]) {
        let (turn, range) = (&self.config.turn, self.config.turn.relay_ports);
        let address = turn.relay_addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let is_taken = |port: &u16| !in_use.contains(port) && UdpSocket::bind(SocketAddr::new(address, *port)).is_err();
        let taken: Vec<String> = (range.first..=range.last).filter(is_taken).map(|port| port.to_string()).collect();
        if taken.is_empty() {
            let found =
                format!("UDP ports {range} are free; whether a firewall lets them through is not seen from here");
            self.ok("relay_ports", found);
        } else if taken.len() == range.count() {
            self.fail("relay_ports", format!("none of the UDP ports {range} is free"), "change turn.relay_ports");
        } else {
            let found = format!("{} of the UDP ports {range} are taken by other programs", taken.len());
            self.warn("relay_ports", found, format!("change turn.relay_ports; taken: {}", taken.join(", ")));
        }
    }
}

fn advise(uri: &RelayUri, error: &ClientError) -> String {
    match error {
        ClientError::Refused(486 | 508) => "raise turn.allocations or widen turn.relay_ports".to_owned(),
        ClientError::Refused(401) => format!("another TURN server answers at {}: see turn.host", uri.host),
        ClientError::Io(source) if uri.transport == Transport::Tls && is_certificate(source) => {
            format!("the certificate in [tls] has to be for {}", uri.host)
        }
        _ => {
            let kind = if uri.transport == Transport::Udp { "UDP" } else { "TCP" };
            format!("open {kind} port {}; {} has to lead to this machine (turn.host)", uri.port, uri.host)
        }
    }
}

/// Whether nothing came back, or nobody was there.
fn is_silence(error: &ClientError) -> bool {
    match error {
        ClientError::Silent => true,
        ClientError::Io(source) => matches!(
            source.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
        ),
        ClientError::Refused(_) | ClientError::Malformed => false,
    }
}

/// Whether the address that clients are told is that of another machine, such as a router in front of this one.
async fn is_elsewhere(uri: &RelayUri) -> bool {
    let addresses = lookup_host((uri.host.as_str(), uri.port)).await;
    addresses.is_ok_and(|mut addresses| addresses.all(|address| !outbound::is_own(address.ip())))
}

fn is_certificate(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_as_they_are_told() {
        let uri = |host: &str, port, transport| Some(RelayUri { host: host.to_owned(), port, transport });
        assert_eq!(RelayUri::parse("turn:a.org:3478?transport=udp"), uri("a.org", 3478, Transport::Udp));
        assert_eq!(RelayUri::parse("turns:[2001:db8::1]:5349?transport=tcp"), uri("2001:db8::1", 5349, Transport::Tls));
        for bad in ["turn:a.org?transport=udp", "stun:a.org:1?transport=udp", "turn:a.org:3478"] {
            assert_eq!(RelayUri::parse(bad), None, "{bad}");
        }
    }
}
