//! What the operator sets.

#[cfg(test)]
mod tests;
mod values;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use runtime::config::{ByteSize, RateLimit, Span};

pub use values::{Network, PortRange};

runtime::config_section! {
    /// The relay (TURN) for those whose network lets media through no other way.
    pub struct TurnConfig {
        /// Whether to relay. Without it, calls work only where clients reach the media port.
        pub enabled: bool = true;
        /// Addresses to listen on.
        pub listen: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        /// The UDP and TCP port of STUN and TURN.
        pub port: u16 = 3478;
        /// The TCP port of TURN over TLS; it needs a certificate. 0 for none.
        pub tls_port: u16 = 5349;
        /// Whether to listen on TCP too, for networks that block UDP.
        pub tcp: bool = true;
        /// The name or address of the relay that clients are told, if it is not the server name. For TLS the
        /// certificate has to be for it.
        pub host: Option<String> = None, example("\"turn.example.org\"");
        /// Addresses of this machine from which to relay, one of each family at most. Found out if empty.
        pub relay_addresses: Vec<IpAddr> = Vec::new();
        /// UDP ports to relay from, each for one client at a time. Open them in the firewall.
        pub relay_ports: PortRange = PortRange { first: 49160, last: 49200 };
        /// Behind NAT: the addresses under which others reach the relay ports, one of each family at most.
        pub public_addresses: Vec<IpAddr> = Vec::new();
        /// The secret from which the passwords of clients are made; random at every start if not set. Another TURN
        /// server with the same secret accepts the same credentials.
        pub secret: Option<String> = None, secret, example("\"a long random text\"");
        /// The realm that clients are told, if it is not the server name.
        pub realm: Option<String> = None, example("\"example.org\"");
        /// How long an allocation lives without being refreshed.
        pub lifetime: Span = Span::seconds(600);
        /// The longest life that a client may ask for.
        pub max_lifetime: Span = Span::seconds(3600);
        /// How many allocations a user may have at a time.
        pub allocations_per_user: u32 = 12;
        /// How many allocations there may be.
        pub allocations: u32 = 1000;
        /// How much may be relayed for one user in a second, both ways together. 0 for no bound.
        pub user_bandwidth: ByteSize = ByteSize::mib(4);
        /// How much may be relayed in a second. 0 for no bound.
        pub bandwidth: ByteSize = ByteSize::mib(100);
        /// Networks inside of which peers may be, such as `10.0.0.0/8`. Without this, nothing is relayed to private
        /// and local addresses.
        pub allowed_peers: Vec<Network> = Vec::new();
        /// How many requests without credentials one address may make.
        pub strangers: RateLimit = RateLimit::new(50.0, 200);
        /// How many TCP and TLS connections there may be.
        pub connections: u32 = 1000;
        /// How many TCP and TLS connections may come from one address.
        pub connections_per_address: u32 = 100;
    }
}
