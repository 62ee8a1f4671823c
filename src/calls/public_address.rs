//! Which addresses clients are told: those that are configured; else, if a STUN server is, what that sees; else those
//! of the machine itself, which the media server and the relay find out alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use runtime::{Clock, Random};
use tokio::net::{UdpSocket, lookup_host};
use turn::client::{Carrier, Client, ClientError};

use crate::config::Config;
use crate::server::Environment;

/// How long one answer may take; three are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The configuration with the public addresses that the STUN server tells, where none are configured.
pub(super) async fn with_public_addresses(config: &Config, environment: &Environment) -> Config {
    let mut config = config.clone();
    let Some(server) = config.calls.stun_server.clone() else { return config };
    if !config.sfu.public_addresses.is_empty() && !config.turn.public_addresses.is_empty() {
        return config;
    }
    match ask_public_addresses(&server, &environment.clock, &environment.random).await {
        Ok(found) => {
            tracing::info!(server, ?found, "the public address of this machine, as the STUN server sees it");
            if config.sfu.public_addresses.is_empty() {
                config.sfu.public_addresses.clone_from(&found);
            }
            if config.turn.public_addresses.is_empty() {
                config.turn.public_addresses = found;
            }
        }
        Err(error) => {
            tracing::error!(server, %error, "the STUN server does not tell the public address of this machine; clients \
                             are told its own addresses");
        }
    }
    config
}

/// Under which addresses a STUN server sees this machine, one of each family at most.
///
/// # Errors
/// [`ClientError`] if it answers over neither.
pub(crate) async fn ask_public_addresses(
    server: &str,
    clock: &Clock,
    random: &Random,
) -> Result<Vec<IpAddr>, ClientError> {
    let addresses: Vec<SocketAddr> = lookup_host(server).await?.collect();
    let (mut found, mut failure): (Vec<IpAddr>, _) = (Vec::new(), None);
    for is_ipv4 in [true, false] {
        let Some(address) = addresses.iter().find(|address| address.is_ipv4() == is_ipv4) else { continue };
        match ask_from_here(*address, clock, random).await {
            Ok(mapped) => found.push(mapped.ip()),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if found.is_empty() => Err(error),
        None if found.is_empty() => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address").into()),
        _ => Ok(found),
    }
}

async fn ask_from_here(server: SocketAddr, clock: &Clock, random: &Random) -> Result<SocketAddr, ClientError> {
    let socket = connect_datagrams(server).await?;
    let mut client = Client::new(Carrier::Datagrams(socket), clock.clone(), random.clone(), PATIENCE);
    client.ask_address().await
}

/// A socket for datagrams from and to one address.
pub(crate) async fn connect_datagrams(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}
