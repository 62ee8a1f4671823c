//! Application services: who they are, what is theirs, and how they act as users.
//!
//! Spec: Application Service API §"Registration", §"Client-Server API Extensions".
//!
//! Invariants:
//! - The services in force are one immutable set, replaced as a whole: whoever reads it sees no half of a change.
//! - Ids, tokens and senders are unique over the set, wherever the registrations come from.
//! - An `as_token` is found by its SHA-256, as every other token.
//! - What is sent to a service for the devices of its users is taken off their queues in the commit that makes it the
//!   service's.

mod devices;
mod exclusive;
mod namespaces;
mod queries;
mod registration;
mod sessions;
mod store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use spec::ids::{RoomAlias, RoomId, ServerName, UserId};
use storage::StreamPos;

use crate::tokens::{TokenHash, hash_token};

pub use devices::AppServiceDevice;
pub use queries::{AppServiceAnswer, AppServiceFailure, AppServiceQueries, NoAppServices, ThirdPartyQuestion};
pub use registration::{EphemeralKey, RegistrationError};
pub use store::{AppServiceError, AppServicesSettings};

pub(crate) use store::{APPSERVICES, AppServiceState};

use registration::Registration;

#[cfg(test)]
mod tests;

/// Where a registration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppServiceSource {
    /// A file of the configured folder.
    File(PathBuf),
    /// The database: the administrator added it.
    Stored,
}

impl std::fmt::Display for AppServiceSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AppServiceSource::File(path) => path.display().fmt(f),
            AppServiceSource::Stored => f.write_str("the database"),
        }
    }
}

/// A registered application service.
pub struct AppService {
    registration: Registration,
    sender: UserId,
    source: AppServiceSource,
}

impl PartialEq for AppService {
    fn eq(&self, other: &AppService) -> bool {
        self.registration.document == other.registration.document && self.source == other.source
    }
}

impl std::fmt::Debug for AppService {
    /// Without its tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppService").field("id", &self.id()).field("source", &self.source).finish_non_exhaustive()
    }
}

impl AppService {
    /// Reads a registration (YAML) for the server of this name.
    ///
    /// # Errors
    /// [`RegistrationError`].
    pub fn parse(document: &str, server: &ServerName, source: AppServiceSource) -> Result<Self, RegistrationError> {
        let registration = Registration::parse(document)?;
        let sender = UserId::new(&registration.sender_localpart, server)
            .map_err(|error| RegistrationError::invalid("sender_localpart", error.to_string()))?;
        Ok(AppService { registration, sender, source })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.registration.id
    }

    /// Where it is reached, without a slash at the end; `None` if it wants no traffic.
    pub fn url(&self) -> Option<&str> {
        self.registration.url.as_deref()
    }

    /// The token by which it knows this server.
    pub fn hs_token(&self) -> &str {
        &self.registration.hs_token
    }

    /// The user that it is without saying which.
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// Whether requests of its users, the sender excepted, are rate-limited.
    pub fn is_rate_limited(&self) -> bool {
        self.registration.rate_limited
    }

    /// The third-party protocols that it provides.
    pub fn protocols(&self) -> &[String] {
        &self.registration.protocols
    }

    /// Whether it wants ephemeral data, and by which name it calls them.
    pub fn ephemeral(&self) -> Option<EphemeralKey> {
        self.registration.ephemeral
    }

    /// Whether it encrypts by what comes with transactions: messages to its devices, device lists and key counts
    /// (MSC3202, MSC4203).
    pub fn wants_encryption(&self) -> bool {
        self.registration.encryption
    }

    /// Where its registration comes from.
    pub fn source(&self) -> &AppServiceSource {
        &self.source
    }

    /// Whether a user is its sender, or a user of this server in one of its namespaces.
    pub fn owns_user(&self, user: &UserId) -> bool {
        *user == self.sender || (self.is_local(user) && self.registration.users.holds(user.as_str()))
    }

    /// Whether nobody else may make, or be, this user.
    pub fn owns_user_exclusively(&self, user: &UserId) -> bool {
        *user == self.sender || (self.is_local(user) && self.registration.users.holds_exclusively(user.as_str()))
    }

    /// Whether an alias is in one of its namespaces.
    pub fn owns_alias(&self, alias: &RoomAlias) -> bool {
        self.registration.aliases.holds(alias.as_str())
    }

    /// Whether nobody else may make this alias.
    pub fn owns_alias_exclusively(&self, alias: &RoomAlias) -> bool {
        self.registration.aliases.holds_exclusively(alias.as_str())
    }

    /// Whether it wants to hear of everything in the room by the room's id or by one of its aliases.
    pub fn wants_room(&self, room: &RoomId, aliases: &[String]) -> bool {
        self.registration.rooms.holds(room.as_str())
            || aliases.iter().any(|alias| self.registration.aliases.holds(alias))
    }

    fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.sender.server_name()
    }

    /// The registration for the administrator to read: the document with its tokens blotted out.
    pub fn describe(&self) -> String {
        let Registration { as_token, hs_token, document, .. } = &self.registration;
        document.replace(as_token.as_str(), "(hidden)").replace(hs_token.as_str(), "(hidden)")
    }
}

/// All services in force, in order of their ids.
#[derive(Debug, Default)]
pub struct AppServices {
    services: Vec<Arc<AppService>>,
    by_token: HashMap<TokenHash, Arc<AppService>>,
    since: StreamPos,
}

impl AppServices {
    /// Puts services together, at a position.
    ///
    /// # Errors
    /// The first two that cannot be in force together.
    fn new(mut services: Vec<Arc<AppService>>, since: StreamPos) -> Result<AppServices, AppServiceError> {
        services.sort_by(|a, b| a.id().cmp(b.id()));
        let mut by_token: HashMap<TokenHash, Arc<AppService>> = HashMap::with_capacity(services.len());
        let mut senders: HashMap<&UserId, &Arc<AppService>> = HashMap::with_capacity(services.len());
        let conflict = |what, a: &AppService, b: &AppService| AppServiceError::Conflict {
            what,
            first: format!("{} ({})", a.id(), a.source),
            second: format!("{} ({})", b.id(), b.source),
        };
        for pair in services.windows(2) {
            if let [a, b] = pair
                && a.id() == b.id()
            {
                return Err(conflict("id", a, b));
            }
        }
        for service in &services {
            let hash = hash_token(&service.registration.as_token);
            if let Some(other) = by_token.insert(hash, Arc::clone(service)) {
                return Err(conflict("as_token", &other, service));
            }
            if let Some(other) = senders.insert(&service.sender, service) {
                return Err(conflict("sender_localpart", other, service));
            }
        }
        Ok(AppServices { services, by_token, since })
    }

    /// What was committed up to here came before this set was in force: none of it concerns a service that is new in it.
    pub fn since(&self) -> StreamPos {
        self.since
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The services, in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<AppService>> {
        self.services.iter()
    }

    /// The service with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<AppService>> {
        self.services.iter().find(|service| service.id() == id)
    }

    /// The service that has this `as_token`. Costs nothing while there are no services.
    pub fn find_by_token(&self, token: &str) -> Option<&Arc<AppService>> {
        if self.by_token.is_empty() { None } else { self.by_token.get(&hash_token(token)) }
    }
}
