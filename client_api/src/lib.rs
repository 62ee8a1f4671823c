//! The client-server HTTP edge: reads a request, calls one domain, and answers.
//!
//! Invariants:
//! - [`routes`] is the only list of endpoints: the router, the endpoint tests and `docs/endpoints.md` come from it.
//! - Who may call an endpoint stands in its route, and the extractors enforce it: a handler that takes a
//!   [`extract::User`] has one.
//! - Every answer is JSON with a Matrix error code unless it is media. No rejection of the HTTP framework reaches a
//!   client.
//! - Errors of the domains become statuses and error codes in [`error`] alone, by matches without a wildcard.
//! - No rule of Matrix is decided here beyond the shape of requests; what is decided lies in the domains.

mod account;
mod account_data;
mod admin;
mod aliases;
mod appservices;
mod backup_keys;
mod calls;
mod capabilities;
mod config;
mod context;
mod create_room;
mod delayed;
mod devices;
mod error;
mod extract;
mod filter;
mod guests;
mod hierarchy;
mod json;
mod keys;
mod limits;
mod login;
mod media;
mod media_legacy;
mod members;
mod membership;
mod messages;
mod newcomers;
mod notifications;
mod old_sync;
mod openid;
mod presence;
mod profile;
mod profile_updates;
mod public_rooms;
mod push_rules;
mod pushers;
mod query;
mod receipts;
mod registration;
mod relations;
mod report;
mod room_keys;
mod routes;
mod search;
mod send;
mod shadow_ban;
mod shared_secret;
mod state;
mod succession;
mod sync;
mod tags;
mod thread_subscriptions;
mod threads;
mod to_device;
mod trace;
mod typing;
mod uia;
mod upgrade;
mod url_preview;
mod user_directory;
mod versions;
mod well_known;

use std::sync::Arc;

use ::calls::Calls;
use ::media::{Media, Previews};
use ::search::Search;
use ::sync::Sync;
use axum::Router;
use axum::extract::FromRef;
use rooms::{RemoteRooms, Rooms};
use runtime::config::Live;
use runtime::{Clock, Tasks};
use users::{AppServiceQueries, RemoteUsers, Users};

pub use config::{ClientApiConfig, RateLimitsConfig, SpamAction, SpamConfig};
pub use limits::LimitClass;
pub use routes::{Auth, RouteInfo, route_table};

use limits::RateLimits;
use newcomers::Newcomers;
use profile_updates::ProfileUpdates;

/// What the edge is built from.
pub struct ClientApiParts {
    /// The rooms.
    pub rooms: Rooms,
    /// The accounts.
    pub users: Users,
    /// The content repository.
    pub media: Media,
    /// Previews of URLs.
    pub previews: Previews,
    /// Sync.
    pub sync: Sync,
    /// Calls.
    pub calls: Calls,
    /// The search in messages, if it is enabled.
    pub search: Option<Search>,
    /// Other servers, asked about rooms.
    pub remote_rooms: Arc<dyn RemoteRooms>,
    /// Other servers, asked about their users.
    pub remote_users: Arc<dyn RemoteUsers>,
    /// Application services, asked what only they know.
    pub appservices: Arc<dyn AppServiceQueries>,
    /// Time, for rate limits.
    pub clock: Clock,
    /// Where work runs that goes on after its request.
    pub tasks: Tasks,
    /// Settings.
    pub config: ClientApiConfig,
    /// How often clients may do things.
    pub rate_limits: Live<RateLimitsConfig>,
    /// How often new accounts may do things.
    pub spam: Live<SpamConfig>,
}

/// What handlers take their [`axum::extract::State`] from.
#[derive(Clone)]
pub(crate) struct Edge(Arc<EdgeParts>);

pub(crate) struct EdgeParts {
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) media: Media,
    pub(crate) previews: Previews,
    pub(crate) sync: Sync,
    pub(crate) calls: Calls,
    pub(crate) search: Option<Search>,
    pub(crate) remote_rooms: Arc<dyn RemoteRooms>,
    pub(crate) remote_users: Arc<dyn RemoteUsers>,
    pub(crate) appservices: Arc<dyn AppServiceQueries>,
    pub(crate) tasks: Tasks,
    pub(crate) config: Arc<ClientApiConfig>,
    pub(crate) limits: Arc<RateLimits>,
    pub(crate) newcomers: Newcomers,
    pub(crate) profile_updates: ProfileUpdates,
}

impl std::ops::Deref for Edge {
    type Target = EdgeParts;

    fn deref(&self) -> &EdgeParts {
        &self.0
    }
}

macro_rules! states {
    ($($field:ident: $type:ty),* $(,)?) => {
        $(impl FromRef<Edge> for $type {
            fn from_ref(edge: &Edge) -> $type {
                edge.$field.clone()
            }
        })*
    };
}

states! {
    rooms: Rooms,
    users: Users,
    media: Media,
    previews: Previews,
    sync: Sync,
    calls: Calls,
    search: Option<Search>,
    remote_rooms: Arc<dyn RemoteRooms>,
    remote_users: Arc<dyn RemoteUsers>,
    appservices: Arc<dyn AppServiceQueries>,
    tasks: Tasks,
    config: Arc<ClientApiConfig>,
    limits: Arc<RateLimits>,
    newcomers: Newcomers,
    profile_updates: ProfileUpdates,
}

/// The router of all client-server endpoints, with the answers for unknown paths and methods. Other edges' routers
/// can be merged into it as long as they have no fallback of their own.
pub fn router(parts: ClientApiParts) -> Router {
    let ClientApiParts {
        rooms,
        users,
        media,
        previews,
        sync,
        calls,
        search,
        remote_rooms,
        remote_users,
        appservices,
        clock,
        tasks,
        config,
        rate_limits,
        spam,
    } = parts;
    let profile_updates = ProfileUpdates::new(rooms.clone(), users.clone(), tasks.clone());
    let limits = Arc::new(RateLimits::new(clock.clone(), rate_limits));
    let newcomers = Newcomers { limits: limits.clone(), users: users.clone(), clock, config: spam };
    let config = Arc::new(config);
    let edge = Edge(Arc::new(EdgeParts {
        rooms,
        users,
        media,
        previews,
        sync,
        calls,
        search,
        remote_rooms,
        remote_users,
        appservices,
        tasks,
        config,
        limits,
        newcomers,
        profile_updates,
    }));
    routes::build_router(edge)
}
