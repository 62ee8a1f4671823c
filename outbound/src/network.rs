//! Connecting: from a host name to a connection with a server that proved to be it.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use runtime::Clock;
use rustls::ClientConfig;
use rustls::pki_types::ServerName as TlsName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::stream::Connection;
use crate::{Names, WebError};

/// How long one address may keep silent before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(300);
/// How many addresses are tried for one target.
const MAX_ATTEMPTS: usize = 8;

/// What to connect to: an address, or a name that has addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An IP literal.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

impl Host {
    /// An IP literal, with or without brackets, or else a name.
    #[must_use]
    pub fn parse(host: &str) -> Host {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Address)
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

/// Where a server is, and as whom it has to prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whom the certificate must be for, which is the SNI too if it is a name. Without it there is no TLS.
    pub tls_name: Option<Host>,
    /// Where to connect, in this order.
    pub targets: Vec<Target>,
}

/// The network as one kind of request may see it.
pub struct Network {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) tls: Arc<ClientConfig>,
    /// Which addresses may be connected to.
    pub(crate) may_connect: fn(IpAddr) -> bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) clock: Clock,
}

impl Network {
    /// The name servers.
    #[must_use]
    pub fn names(&self) -> &dyn Names {
        &*self.names
    }

    /// Time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Connects to the first target that works.
    pub(crate) async fn connect(&self, route: &Route) -> Result<Connection, WebError> {
        let tls_name = match &route.tls_name {
            None => None,
            Some(Host::Address(address)) => Some(TlsName::IpAddress((*address).into())),
            Some(Host::Name(name)) => Some(TlsName::try_from(name.clone()).map_err(WebError::unreachable)?),
        };
        let mut failure = WebError::unreachable("it has no address");
        for target in &route.targets {
            match self.connect_target(target, tls_name.as_ref()).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn connect_target(
        &self,
        target: &Target,
        tls_name: Option<&TlsName<'static>>,
    ) -> Result<Connection, WebError> {
        let addresses = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.names.addresses(name).await.map_err(WebError::unreachable)?,
        };
        let addresses = self.guard(&target.host, addresses)?;
        let stream = self.connect_first(&addresses, target.port).await.map_err(WebError::unreachable)?;
        // Requests are small and answered: waiting to fill a packet only delays them.
        stream.set_nodelay(true).map_err(WebError::unreachable)?;
        let Some(tls_name) = tls_name else { return Ok(Connection::plain(stream)) };
        let connector = TlsConnector::from(self.tls.clone());
        connector.connect(tls_name.clone(), stream).await.map(Connection::tls).map_err(WebError::unreachable)
    }

    /// The addresses that may be connected to. It is the addresses themselves that are connected to
    /// afterwards, so no second lookup can bring in another.
    fn guard(&self, host: &Host, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, WebError> {
        let described = || match host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        if addresses.is_empty() {
            return Err(WebError::Unreachable(format!("{} has no address", described())));
        }
        let mut allowed = addresses;
        allowed.retain(|address| (self.may_connect)(*address));
        if allowed.is_empty() {
            return Err(WebError::PrivateAddress(described()));
        }
        Ok(take_turns(allowed))
    }

    /// Connects to one address after the other, the next one when one fails or keeps silent, and
    /// returns the connection that stands first.
    async fn connect_first(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let mut waiting = addresses.iter().take(MAX_ATTEMPTS);
        let mut attempts = FuturesUnordered::new();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        loop {
            if let Some(address) = waiting.next() {
                attempts.push(TcpStream::connect(SocketAddr::new(*address, port)));
            } else if attempts.is_empty() {
                return Err(failure);
            }
            let patience = if waiting.len() == 0 { self.connect_timeout } else { STAGGER };
            match self.clock.timeout(patience, attempts.next()).await {
                Some(Some(Ok(stream))) => return Ok(stream),
                Some(Some(Err(error))) => failure = error,
                Some(None) | None if waiting.len() == 0 => return Err(failure),
                Some(None) | None => {}
            }
        }
    }
}

/// IPv6 and IPv4 in turn, IPv6 first, so that a family that does not work here costs one wait.
fn take_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let mut ordered = Vec::with_capacity(six.len() + four.len());
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    loop {
        match (six.next(), four.next()) {
            (None, None) => return ordered,
            (one, other) => ordered.extend(one.into_iter().chain(other)),
        }
    }
}
