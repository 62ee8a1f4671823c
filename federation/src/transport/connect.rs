//! What an authority means in federation: a server name, from which SRV records lead on.

#[cfg(test)]
pub(super) mod tests;

use http::Uri;
use outbound::{FindRoute, Finding, Network, WebError};
use runtime::Random;
use spec::ids::ServerName;

use crate::discovery::{Question, Route, Walk};

/// Routes to server names that are delegated already, as they stand in `Host`: SRV records and port 8448.
pub(super) struct FederationRoutes {
    /// For the weights of SRV records.
    pub(super) random: Random,
}

impl FindRoute for FederationRoutes {
    fn find_route<'a>(&'a self, network: &'a Network, address: &'a Uri) -> Finding<'a> {
        Box::pin(async move {
            let Route { tls_name, targets, .. } = self.walk(network, address).await?;
            Ok(outbound::Route { tls_name: Some(tls_name), targets })
        })
    }
}

impl FederationRoutes {
    /// The rest of discovery for a name that does not delegate any further.
    async fn walk(&self, network: &Network, address: &Uri) -> Result<Route, WebError> {
        let bad = || WebError::BadAddress(address.to_string());
        let name = ServerName::parse(address.authority().ok_or_else(bad)?.as_str()).map_err(|_| bad())?;
        let mut walk = Walk::start_delegated(&name).map_err(WebError::unreachable)?;
        loop {
            let service = match walk.question() {
                Question::Done(route) => return Ok(route.clone()),
                Question::Srv(service) => service,
                Question::WellKnown(_) => return Err(bad()),
            };
            // A name server that cannot answer is taken like an answer without records: the
            // certificate decides in the end whether the right server was found.
            let records = network.names().services(&service).await.unwrap_or_else(|error| {
                tracing::debug!(%service, %error, "no answer from the name servers");
                Vec::new()
            });
            walk = walk.tell_srv(records, |bound| self.random.below(bound)).map_err(WebError::unreachable)?;
        }
    }
}
