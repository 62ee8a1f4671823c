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

/// How many addresses of one name are considered.
const MAX_ADDRESSES: usize = 16;

/// What a lookup returns.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<T, LookupError>> + Send + 'a>>;

/// The name servers did not answer, or answered with an error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower ones come first.
    pub priority: u16,
    /// The share of the requests among those of one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host name without the last dot; empty for `.`.
    pub target: String,
}

/// The names of the network. A name without records is an empty answer, no error.
pub trait Names: Send + Sync {
    /// The addresses of a name, by its CNAME, AAAA and A records.
    fn addresses<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<IpAddr>>;

    /// The SRV records of a name.
    fn services<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>>;
}

/// Whether a name may be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Every name is a whole domain name: for names that come from outside.
    Never,
    /// By the search domains of the operating system's configuration: for names that the operator wrote.
    AsConfigured,
}

/// The name servers of the operating system's configuration, and its hosts file. Answers are cached as long as they
/// say, within bounds.
///
/// # Errors
/// [`LookupError`] if the resolver cannot be built.
pub fn system_names(search: Search) -> Result<Arc<dyn Names>, LookupError> {
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
        tracing::warn!(%error, "no name servers are configured: only IP addresses and the hosts file lead to servers");
        let nothing = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        TokioResolver::builder_with_config(nothing, TokioRuntimeProvider::default())
    });
    builder.options_mut().cache_size = 8192;
    Ok(Arc::new(SystemNames { resolver: builder.build().map_err(failed)?, search }))
}

struct SystemNames {
    resolver: TokioResolver,
    search: Search,
}

impl SystemNames {
    fn complete(&self, name: &str) -> String {
        match self.search {
            Search::Never => absolute(name),
            Search::AsConfigured => name.to_owned(),
        }
    }
}

impl Names for SystemNames {
    fn addresses<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<IpAddr>> {
        Box::pin(async move {
            match self.resolver.lookup_ip(self.complete(name)).await {
                Ok(found) => Ok(found.iter().take(MAX_ADDRESSES).collect()),
                Err(error) if error.is_no_records_found() => Ok(Vec::new()),
                Err(error) => Err(failed(error)),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        Box::pin(async move {
            match self.resolver.srv_lookup(self.complete(name)).await {
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

/// The last dot keeps search domains away.
fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

fn failed(error: impl std::fmt::Display) -> LookupError {
    LookupError(error.to_string())
}
