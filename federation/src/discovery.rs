//! Finding where a server is, from its name (Server-Server API §Resolving server names).
//!
//! [`Walk`] is the decision alone: it says what has to be asked next and takes the answer, so that
//! every step of the specification can be tested without a network. [`well_known`] decides what a
//! `.well-known` answer means and for how long it holds.

pub(crate) mod well_known;

#[cfg(test)]
mod tests;

use outbound::{Host, SrvRecord, Target};
use spec::ids::ServerName;

/// The port of servers that name none.
pub(crate) const DEFAULT_PORT: u16 = 8448;
/// How many SRV records are considered; a name with more is no server's.
const MAX_SRV_RECORDS: usize = 32;

/// Why a name leads nowhere (remote server, or whoever named it).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// The port is no port.
    #[error("the port of {0} is not between 1 and 65535")]
    BadPort(ServerName),
    /// An SRV record with the target `.`: the owner of the name says that there is no server.
    #[error("the SRV record of {0} says that it has no Matrix server")]
    NoService(ServerName),
}

/// Where a server is, and as whom it has to prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The `Host` header: the server name, or the delegated one.
    pub(crate) host_header: ServerName,
    /// Whom the certificate must be for, which is the SNI too if it is a name.
    pub(crate) tls_name: Host,
    /// Where to connect, in this order.
    pub(crate) targets: Vec<Target>,
}

/// What the walk needs to know next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question<'a> {
    /// `https://<host>/.well-known/matrix/server`: answer with [`Walk::tell_well_known`].
    WellKnown(&'a str),
    /// The SRV records of this name: answer with [`Walk::tell_srv`].
    Srv(String),
    /// Nothing: this is it.
    Done(&'a Route),
}

/// The way from a server name to a [`Route`].
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    name: ServerName,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    WellKnown,
    /// `_matrix-fed._tcp`.
    Srv,
    /// `_matrix._tcp`, which is deprecated.
    OldSrv,
    Done(Route),
}

impl Walk {
    /// Begins at a server name (steps 1 to 3).
    ///
    /// # Errors
    /// [`DiscoveryError::BadPort`].
    pub(crate) fn start(name: &ServerName) -> Result<Walk, DiscoveryError> {
        let walk = Walk::start_delegated(name)?;
        Ok(match walk.step {
            Step::Done(_) => walk,
            _ => Walk { step: Step::WellKnown, ..walk },
        })
    }

    /// Begins at a name that was delegated to, or of which it is known that it does not delegate
    /// (steps 3.1 to 3.5, or 1, 2 and 4 to 6: they are the same).
    ///
    /// # Errors
    /// [`DiscoveryError::BadPort`].
    pub(crate) fn start_delegated(name: &ServerName) -> Result<Walk, DiscoveryError> {
        let host = Host::parse(name.host());
        let has_port = name.as_str().len() > name.host().len();
        let port = match (has_port, name.port()) {
            (true, None | Some(0)) => return Err(DiscoveryError::BadPort(name.clone())),
            (_, port) => port,
        };
        let step = match (&host, port) {
            (Host::Name(_), None) => Step::Srv,
            (_, port) => Step::Done(direct_route(name, port.unwrap_or(DEFAULT_PORT))),
        };
        Ok(Walk { name: name.clone(), step })
    }

    /// What has to be asked now.
    pub(crate) fn question(&self) -> Question<'_> {
        match &self.step {
            Step::WellKnown => Question::WellKnown(self.name.host()),
            Step::Srv => Question::Srv(format!("_matrix-fed._tcp.{}", self.name.host())),
            Step::OldSrv => Question::Srv(format!("_matrix._tcp.{}", self.name.host())),
            Step::Done(route) => Question::Done(route),
        }
    }

    /// The name that goes into `Host` and that the rest of the way begins at; `None` as long as the
    /// `.well-known` document may still change it.
    pub(crate) fn host_header(&self) -> Option<&ServerName> {
        match self.step {
            Step::WellKnown => None,
            _ => Some(&self.name),
        }
    }

    /// Goes on with the delegated name, or with the same one if there is no valid document.
    ///
    /// # Errors
    /// [`DiscoveryError::BadPort`] of the delegated name.
    pub(crate) fn tell_well_known(self, delegated: Option<&ServerName>) -> Result<Walk, DiscoveryError> {
        match self.step {
            Step::WellKnown => Walk::start_delegated(delegated.unwrap_or(&self.name)),
            _ => Ok(self),
        }
    }

    /// Goes on with the SRV records that were found, in an order drawn by weight. `draw` gives a
    /// number below its argument.
    ///
    /// # Errors
    /// [`DiscoveryError::NoService`].
    pub(crate) fn tell_srv(
        self,
        mut records: Vec<SrvRecord>,
        draw: impl FnMut(u64) -> u64,
    ) -> Result<Walk, DiscoveryError> {
        let next = match self.step {
            Step::Srv => Step::OldSrv,
            Step::OldSrv => Step::Done(direct_route(&self.name, DEFAULT_PORT)),
            _ => return Ok(self),
        };
        let found_any = !records.is_empty();
        records.retain(|record| !record.target.is_empty() && record.port != 0);
        if records.is_empty() {
            if found_any {
                return Err(DiscoveryError::NoService(self.name));
            }
            return Ok(Walk { step: next, ..self });
        }
        records.truncate(MAX_SRV_RECORDS);
        let targets = order_by_weight(records, draw).into_iter();
        let targets = targets.map(|record| Target { host: Host::parse(&record.target), port: record.port }).collect();
        let route =
            Route { host_header: self.name.clone(), tls_name: Host::Name(self.name.host().to_owned()), targets };
        Ok(Walk { step: Step::Done(route), ..self })
    }
}

/// The name itself, at this port.
fn direct_route(name: &ServerName, port: u16) -> Route {
    let host = Host::parse(name.host());
    Route { host_header: name.clone(), tls_name: host.clone(), targets: vec![Target { host, port }] }
}

/// RFC 2782: by priority, and within one priority drawn by weight.
fn order_by_weight(mut records: Vec<SrvRecord>, mut draw: impl FnMut(u64) -> u64) -> Vec<SrvRecord> {
    // Those of weight 0 first, which gives them the small chance that they are to have.
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let same = records.iter().take_while(|record| record.priority == priority);
        let total: u64 = same.map(|record| u64::from(record.weight)).sum();
        let drawn = draw(total + 1);
        let mut sum = 0;
        let chosen = records.iter().position(|record| {
            sum += u64::from(record.weight);
            sum >= drawn
        });
        ordered.push(records.remove(chosen.unwrap_or_default()));
    }
    ordered
}
