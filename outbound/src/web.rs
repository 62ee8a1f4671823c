//! The client for URLs of the web.

#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Uri};
use runtime::Clock;

use crate::pool::{FindRoute, Finding, Pool};
use crate::tls::build_tls;
use crate::{Host, Names, Network, Reach, Route, Search, Sending, Target, Web, WebError, is_public, system_names};

/// What the client is built from.
pub struct WebParts {
    /// Certificate authorities in PEM that are trusted besides the operating system's.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether addresses inside may be connected to, whoever named them.
    pub allow_private_addresses: bool,
    /// How long it may take from the name to a connection.
    pub connect_timeout: Duration,
    /// Time.
    pub clock: Clock,
}

/// Nothing can be sent (operator).
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file is missing or holds no certificates.
    #[error("cannot read {}: {reason}", path.display())]
    CaFile {
        /// `trusted_ca_file`.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Names cannot be looked up.
    #[error("the resolver cannot be started: {0}")]
    Resolver(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// Speaks HTTP and HTTPS with hosts of the web, over connections that are kept for a while. A cheap handle. Must be
/// made and used inside a tokio runtime.
#[derive(Clone)]
pub struct WebClient(Arc<Inner>);

struct Inner {
    /// The network that strangers may lead into.
    guarded_network: Arc<Network>,
    guarded: Pool,
    anywhere: Pool,
}

impl WebClient {
    /// With the name servers and the certificate authorities of the operating system.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(parts: WebParts) -> Result<WebClient, StartError> {
        let names = |search| system_names(search).map_err(|error| StartError::Resolver(error.to_string()));
        let (strict, searching) = (names(Search::Never)?, names(Search::AsConfigured)?);
        let may_connect: fn(IpAddr) -> bool = if parts.allow_private_addresses { |_| true } else { is_public };
        WebClient::build(parts, strict, searching, may_connect)
    }

    /// [`WebClient::new`] with other name servers and another guard, for tests.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn with_names(
        parts: WebParts,
        names: Arc<dyn Names>,
        may_connect: fn(IpAddr) -> bool,
    ) -> Result<WebClient, StartError> {
        WebClient::build(parts, names.clone(), names, may_connect)
    }

    fn build(
        parts: WebParts,
        strict: Arc<dyn Names>,
        searching: Arc<dyn Names>,
        may_connect: fn(IpAddr) -> bool,
    ) -> Result<WebClient, StartError> {
        let tls = Arc::new(build_tls(parts.trusted_ca_file.as_deref())?);
        let network = |names, may_connect| {
            let (connect_timeout, clock) = (parts.connect_timeout, parts.clock.clone());
            Arc::new(Network { names, tls: tls.clone(), may_connect, connect_timeout, clock })
        };
        let guarded_network = network(strict, may_connect);
        let anywhere_network = network(searching, |_| true);
        let routes: Arc<dyn FindRoute> = Arc::new(WebRoutes);
        Ok(WebClient(Arc::new(Inner {
            guarded: Pool::new(guarded_network.clone(), routes.clone()),
            anywhere: Pool::new(anywhere_network, routes),
            guarded_network,
        })))
    }

    /// The network as [`Reach::Guarded`] sees it, for a [`Pool`] of other routes.
    #[must_use]
    pub fn guarded_network(&self) -> &Arc<Network> {
        &self.0.guarded_network
    }
}

impl Web for WebClient {
    fn send(&self, request: Request<Bytes>, reach: Reach) -> Sending<'_> {
        let pool = match reach {
            Reach::Guarded => &self.0.guarded,
            Reach::Anywhere => &self.0.anywhere,
        };
        Box::pin(pool.send(request))
    }
}

/// The authority is a host of the web.
struct WebRoutes;

impl FindRoute for WebRoutes {
    fn find_route<'a>(&'a self, _network: &'a Network, address: &'a Uri) -> Finding<'a> {
        Box::pin(std::future::ready(web_route(address).ok_or_else(|| WebError::bad_address(address))))
    }
}

fn web_route(address: &Uri) -> Option<Route> {
    let secure = address.scheme() == Some(&Scheme::HTTPS);
    if !secure && address.scheme() != Some(&Scheme::HTTP) {
        return None;
    }
    let authority = address.authority()?;
    let host = Host::parse(authority.host());
    // A port that is none would be taken for the default one.
    let has_port = authority.as_str().len() > authority.host().len();
    let port = match (authority.port_u16(), has_port) {
        (Some(0), _) | (None, true) => return None,
        (Some(port), _) => port,
        (None, false) => {
            if secure {
                443
            } else {
                80
            }
        }
    };
    Some(Route { tls_name: secure.then(|| host.clone()), targets: vec![Target { host, port }] })
}
