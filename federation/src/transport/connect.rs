//! Connecting: from a host name to a TLS connection with a server that proved to be it.

#[cfg(test)]
pub(super) mod tests;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use runtime::{Clock, Random};
use rustls::ClientConfig;
use rustls::pki_types::ServerName as TlsName;
use spec::ids::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::TransportError;
use super::stream::TlsConnection;
use crate::discovery::lookup::Names;
use crate::discovery::{Host, Question, Route, Target, Walk, parse_host};

/// How long one address may keep silent before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(300);
/// The port of addresses that name none.
const HTTPS_PORT: u16 = 443;
/// How many addresses are tried for one target.
const MAX_ATTEMPTS: usize = 8;

/// What connecting needs.
pub(super) struct Net {
    pub(super) names: Arc<dyn Names>,
    pub(super) tls: Arc<ClientConfig>,
    /// Which addresses may be connected to.
    pub(super) may_connect: fn(IpAddr) -> bool,
    pub(super) connect_timeout: Duration,
    pub(super) clock: Clock,
    pub(super) random: Random,
}

/// What the authority of an address means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Addressing {
    /// A server name, delegated already: SRV records and port 8448.
    Federation,
    /// A host of the web.
    Web,
}

/// The HTTP client's way to new connections. Its pool is keyed by the authority: a server name as it
/// stands in `Host`, from which all the rest of the way follows.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) net: Arc<Net>,
    pub(super) addressing: Addressing,
}

impl Service<Uri> for Connector {
    type Response = TlsConnection;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<TlsConnection, TransportError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let Connector { net, addressing } = self.clone();
        Box::pin(async move {
            let connecting = async {
                let route = match addressing {
                    Addressing::Federation => net.find_route(&address).await?,
                    Addressing::Web => web_route(&address)?,
                };
                net.connect(&route).await
            };
            let silent = || TransportError::Unreachable("connecting took too long".to_owned());
            net.clock.timeout(net.connect_timeout, connecting).await.ok_or_else(silent)?
        })
    }
}

impl Net {
    /// The rest of discovery for a name that does not delegate any further.
    async fn find_route(&self, address: &Uri) -> Result<Route, TransportError> {
        let bad = || TransportError::BadAddress(address.to_string());
        let name = ServerName::parse(address.authority().ok_or_else(bad)?.as_str()).map_err(|_| bad())?;
        let mut walk = Walk::start_delegated(&name).map_err(unreachable)?;
        loop {
            let service = match walk.question() {
                Question::Done(route) => return Ok(route.clone()),
                Question::Srv(service) => service,
                Question::WellKnown(_) => return Err(bad()),
            };
            // A name server that cannot answer is taken like an answer without records: the
            // certificate decides in the end whether the right server was found.
            let records = self.names.services(&service).await.unwrap_or_else(|error| {
                tracing::debug!(%service, %error, "no answer from the name servers");
                Vec::new()
            });
            walk = walk.tell_srv(records, |bound| self.random.below(bound)).map_err(unreachable)?;
        }
    }

    /// Connects to the first target that works.
    async fn connect(&self, route: &Route) -> Result<TlsConnection, TransportError> {
        let tls_name = match &route.tls_name {
            Host::Address(address) => TlsName::IpAddress((*address).into()),
            Host::Name(name) => TlsName::try_from(name.clone()).map_err(unreachable)?,
        };
        let mut failure = TransportError::Unreachable("it has no address".to_owned());
        for target in &route.targets {
            match self.connect_target(target, &tls_name).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn connect_target(
        &self,
        target: &Target,
        tls_name: &TlsName<'static>,
    ) -> Result<TlsConnection, TransportError> {
        let addresses = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.names.addresses(name).await.map_err(unreachable)?,
        };
        let addresses = self.guard(&target.host, addresses)?;
        let stream = self.connect_first(&addresses, target.port).await.map_err(unreachable)?;
        // Requests are small and answered: waiting to fill a packet only delays them.
        stream.set_nodelay(true).map_err(unreachable)?;
        let connector = TlsConnector::from(self.tls.clone());
        connector.connect(tls_name.clone(), stream).await.map(TlsConnection::new).map_err(unreachable)
    }

    /// The addresses that may be connected to. It is the addresses themselves that are connected to
    /// afterwards, so no second lookup can bring in another.
    fn guard(&self, host: &Host, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, TransportError> {
        let described = || match host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        if addresses.is_empty() {
            return Err(TransportError::Unreachable(format!("{} has no address", described())));
        }
        let mut allowed = addresses;
        allowed.retain(|address| (self.may_connect)(*address));
        if allowed.is_empty() {
            return Err(TransportError::PrivateAddress(described()));
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

/// The route to a host of the web.
fn web_route(address: &Uri) -> Result<Route, TransportError> {
    let bad = || TransportError::BadAddress(address.to_string());
    let host = address.host().ok_or_else(bad)?;
    let host_header = ServerName::parse(address.authority().ok_or_else(bad)?.as_str()).map_err(|_| bad())?;
    let target = Target { host: parse_host(host), port: address.port_u16().unwrap_or(HTTPS_PORT) };
    Ok(Route { host_header, tls_name: target.host.clone(), targets: vec![target] })
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

fn unreachable(error: impl std::fmt::Display) -> TransportError {
    TransportError::Unreachable(error.to_string())
}
