//! Asking the name servers.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use super::SrvRecord;

/// How many addresses of one name are considered.
const MAX_ADDRESSES: usize = 16;

/// What a lookup returns.
pub(crate) type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<T, LookupError>> + Send + 'a>>;

/// The name servers did not answer, or answered with an error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LookupError(pub(crate) String);

/// The names of the network. A name without records is an empty answer, no error.
pub(crate) trait Names: Send + Sync {
    /// The addresses of a name, by its CNAME, AAAA and A records.
    fn addresses<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<IpAddr>>;

    /// The SRV records of a name.
    fn services<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>>;
}

/// The name servers of the operating system's configuration, and its hosts file. Answers are cached
/// as long as they say, within bounds.
pub(crate) fn system_names() -> Result<Arc<dyn Names>, LookupError> {
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
        tracing::warn!(%error, "no name servers are configured: only IP addresses and the hosts file lead to servers");
        let nothing = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        TokioResolver::builder_with_config(nothing, TokioRuntimeProvider::default())
    });
    builder.options_mut().cache_size = 8192;
    Ok(Arc::new(SystemNames(builder.build().map_err(failed)?)))
}

struct SystemNames(TokioResolver);

impl Names for SystemNames {
    fn addresses<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<IpAddr>> {
        Box::pin(async move {
            match self.0.lookup_ip(absolute(name)).await {
                Ok(found) => Ok(found.iter().take(MAX_ADDRESSES).collect()),
                Err(error) if error.is_no_records_found() => Ok(Vec::new()),
                Err(error) => Err(failed(error)),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        Box::pin(async move {
            match self.0.srv_lookup(absolute(name)).await {
                Ok(found) => Ok(found.answers().iter().filter_map(|record| read_srv(&record.data)).collect()),
                Err(error) if error.is_no_records_found() => Ok(Vec::new()),
                Err(error) => Err(failed(error)),
            }
        })
    }
}

fn read_srv(data: &RData) -> Option<SrvRecord> {
    let RData::SRV(srv) = data else { return None };
    let target = srv.target.to_utf8();
    let target = target.strip_suffix('.').unwrap_or(&target).to_owned();
    Some(SrvRecord { priority: srv.priority, weight: srv.weight, port: srv.port, target })
}

/// A server name is a whole domain name: the last dot keeps search domains away.
fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

fn failed(error: impl std::fmt::Display) -> LookupError {
    LookupError(error.to_string())
}
