//! The server-server edge: finding and trusting other servers, what they may ask of this one, taking
//! in what they send, and sending what happens here.
//!
//! Invariants:
//! - Nothing of another server is used before its signature was checked against its own key, and
//!   nothing is stored before it was bounded in size, number and depth.
//! - Every wait for another server has a time limit, and no room waits for a server that it need not.
//! - A received transaction is on the disk before it is acknowledged; what comes of its events is
//!   decided after, one room at a time.
//! - What goes out to a server is what that server may see, decided when it is sent.
//! - No connection is made to an address inside this server's network unless the operator allows it.

mod client;
mod config;
mod destinations;
mod discovery;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod inbound;
mod keys;
mod policy;
mod remote;
mod remote_calls;
mod remote_media;
mod remote_users;
mod sender;
mod serve;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::Arc;

use axum::Router;
use calls::Calls;
use media::Media;
use rooms::Rooms;
use runtime::{Clock, Metrics, Random, Tasks};
use spec::ids::ServerName;
use spec::signing::SigningKey;
use storage::{KeyspaceInfo, Store};
use users::{AppServiceQueries, Users};

pub use client::{Ask, ClientParts, FederationClient};
pub use config::FederationConfig;
pub use destinations::{Destinations, DestinationsParts};
pub use error::RemoteError;
pub use keys::{KeyError, KeyRing, KeyRingParts, OldKey, OwnKeys};
pub use policy::PolicyClient;
pub use remote_calls::CallsClient;
pub use remote_media::RemoteMediaClient;
pub use serve::{Auth, RouteInfo, route_table};
pub use transport::{AnswerBody, BodyError, HttpsTransport, Transport, TransportError};

/// What the edge is built from.
pub struct FederationParts {
    /// The store, opened with [`keyspaces`].
    pub store: Store,
    /// The rooms.
    pub rooms: Rooms,
    /// The accounts.
    pub users: Users,
    /// The content repository.
    pub media: Media,
    /// Calls, if other servers may ask for tokens for them.
    pub calls: Option<Calls>,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Where work runs.
    pub tasks: Tasks,
    /// Where it is counted.
    pub metrics: Metrics,
    /// This server.
    pub server_name: ServerName,
    /// The key that signs its events and requests.
    pub signing_key: Arc<SigningKey>,
    /// Settings.
    pub config: Arc<FederationConfig>,
    /// The way to other servers.
    pub client: FederationClient,
    /// Their keys, and ours.
    pub keys: KeyRing,
    /// Who can be reached.
    pub destinations: Destinations,
    /// Application services, asked for users and aliases that others ask for.
    pub appservices: Arc<dyn AppServiceQueries>,
}

/// The server-server edge. A cheap handle.
#[derive(Clone)]
pub struct Federation(Arc<Inner>);

/// Only this crate looks inside.
pub struct Inner {
    pub(crate) store: Store,
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) media: Media,
    pub(crate) calls: Option<Calls>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) tasks: Tasks,
    pub(crate) server_name: ServerName,
    pub(crate) signing_key: Arc<SigningKey>,
    pub(crate) config: Arc<FederationConfig>,
    pub(crate) client: FederationClient,
    pub(crate) keys: KeyRing,
    pub(crate) destinations: Destinations,
    pub(crate) appservices: Arc<dyn AppServiceQueries>,
    pub(crate) sender: sender::Sender,
    pub(crate) inbound: inbound::Inbound,
    pub(crate) remote: remote::RemoteState,
}

impl std::ops::Deref for Federation {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Federation {
    /// Builds the edge. Nothing runs until [`Federation::start`].
    #[must_use]
    pub fn new(parts: FederationParts) -> Federation {
        let sender = sender::Sender::new(&parts);
        let inbound = inbound::Inbound::new(&parts);
        parts.destinations.publish_metrics(&parts.metrics);
        parts.keys.publish_metrics(&parts.metrics);
        let FederationParts {
            store,
            rooms,
            users,
            media,
            calls,
            clock,
            random,
            tasks,
            metrics: _,
            server_name,
            signing_key,
            config,
            client,
            keys,
            destinations,
            appservices,
        } = parts;
        Federation(Arc::new(Inner {
            store,
            rooms,
            users,
            media,
            calls,
            clock,
            random,
            tasks,
            server_name,
            signing_key,
            config,
            client,
            keys,
            destinations,
            appservices,
            sender,
            inbound,
            remote: remote::RemoteState::default(),
        }))
    }

    /// What the sender keeps about rooms, for those who delete them.
    #[must_use]
    pub fn room_data(&self) -> Arc<dyn rooms::RoomData> {
        Arc::new(self.sender.clone())
    }

    /// Begins to send what waits, and goes on with what was received and is not worked off, and with what is missing of
    /// rooms.
    pub fn start(&self) {
        if self.config.enabled {
            self.sender.start();
            inbound::resume(self);
            if let Err(error) = self.resume_resyncs() {
                tracing::error!(%error, "which rooms lack some of their state cannot be read");
            }
        }
    }

    /// Whom this server may ask, now or later.
    #[must_use]
    pub fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Whether something waits to be sent to a server.
    #[must_use]
    pub fn is_pending(&self, server: &ServerName) -> bool {
        self.sender.is_pending(server)
    }

    /// The routes of this edge: with federation switched off, only the server's version and keys.
    pub fn router(&self) -> Router {
        serve::router(self.clone()).merge(keys::serve::routes(self.keys.clone()))
    }
}

/// Every keyspace of this crate.
#[must_use]
pub fn keyspaces() -> Vec<KeyspaceInfo> {
    [destinations::KEYSPACES, keys::KEYSPACES, inbound::KEYSPACES, sender::KEYSPACES].concat()
}
