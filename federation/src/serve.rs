//! What other servers may ask of this one, but for transactions (`inbound`) and keys (`keys`): the only list of the
//! endpoints of this edge, and one file for each family of them, as the specification groups them.
//!
//! Invariants:
//! - Whoever asks has proven its name ([`Origin`](crate::inbound::origin::Origin)), but for the few endpoints that the
//!   specification leaves open.
//! - Whatever is about a room begins in `access.rs`: with the room's access control list, and with what the other
//!   server is to it.
//! - No answer holds a large room in memory.

use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, StatusCode};

use crate::inbound::error::ServeError;
use crate::inbound::origin::hold_place;
use crate::{Federation, inbound};

mod access;
mod answer;
mod arguments;
mod calls;
mod devices;
mod events;
mod handshake;
mod invites;
mod joins;
mod knocks;
mod leaves;
mod media;
mod openid;
mod outline;
mod public_rooms;
mod queries;
mod server_info;
mod spaces;
mod third_party;

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Anybody.
    Anybody,
    /// Servers, which sign what they ask (Server-Server API §Request Authentication).
    Server,
}

/// One endpoint.
struct Route {
    method: Method,
    path: &'static str,
    auth: Auth,
    /// None if the module that it belongs to has a router of its own.
    handler: Option<MethodRouter<Federation>>,
}

/// What can be told of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// Its method.
    pub method: Method,
    /// Its path, with arguments in braces.
    pub path: &'static str,
    /// Who may call it.
    pub auth: Auth,
}

fn route<H, T>(filter: MethodFilter, method: Method, path: &'static str, auth: Auth, handler: H) -> Route
where
    H: Handler<T, Federation>,
    T: 'static,
{
    Route { method, path, auth, handler: Some(on(filter, handler)) }
}

fn get<H: Handler<T, Federation>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(MethodFilter::GET, Method::GET, path, Auth::Server, handler)
}

fn put<H: Handler<T, Federation>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(MethodFilter::PUT, Method::PUT, path, Auth::Server, handler)
}

fn post<H: Handler<T, Federation>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(MethodFilter::POST, Method::POST, path, Auth::Server, handler)
}

/// An endpoint of another module's router.
fn elsewhere(method: Method, path: &'static str, auth: Auth) -> Route {
    Route { method, path, auth, handler: None }
}

impl Route {
    /// Opens the endpoint to everybody.
    fn unsigned(mut self) -> Route {
        self.auth = Auth::Anybody;
        self
    }
}

fn all_routes() -> Vec<Route> {
    [server_routes(), event_routes(), membership_routes(), query_routes(), media_routes(), call_routes()]
        .into_iter()
        .flatten()
        .collect()
}

fn server_routes() -> Vec<Route> {
    vec![
        get("/.well-known/matrix/server", server_info::get_well_known).unsigned(),
        get("/_matrix/federation/v1/version", server_info::get_version).unsigned(),
        get("/_matrix/federation/v1/openid/userinfo", openid::get_user).unsigned(),
        elsewhere(Method::GET, "/_matrix/key/v2/server", Auth::Anybody),
        elsewhere(Method::GET, "/_matrix/key/v2/query/{serverName}", Auth::Anybody),
        elsewhere(Method::POST, "/_matrix/key/v2/query", Auth::Anybody),
    ]
}

fn event_routes() -> Vec<Route> {
    vec![
        elsewhere(Method::PUT, "/_matrix/federation/v1/send/{txnId}", Auth::Server),
        get("/_matrix/federation/v1/event/{eventId}", events::get_event),
        get("/_matrix/federation/v1/state/{roomId}", events::get_state),
        get("/_matrix/federation/v1/state_ids/{roomId}", events::get_state_ids),
        get("/_matrix/federation/v1/event_auth/{roomId}/{eventId}", events::get_event_auth),
        get("/_matrix/federation/v1/backfill/{roomId}", events::backfill),
        post("/_matrix/federation/v1/get_missing_events/{roomId}", events::get_missing_events),
        get("/_matrix/federation/v1/timestamp_to_event/{roomId}", events::get_by_timestamp),
    ]
}

fn membership_routes() -> Vec<Route> {
    vec![
        get("/_matrix/federation/v1/make_join/{roomId}/{userId}", joins::make_join),
        put("/_matrix/federation/v1/send_join/{roomId}/{eventId}", joins::send_join_v1),
        put("/_matrix/federation/v2/send_join/{roomId}/{eventId}", joins::send_join),
        get("/_matrix/federation/v1/make_leave/{roomId}/{userId}", leaves::make_leave),
        put("/_matrix/federation/v1/send_leave/{roomId}/{eventId}", leaves::send_leave_v1),
        put("/_matrix/federation/v2/send_leave/{roomId}/{eventId}", leaves::send_leave),
        get("/_matrix/federation/v1/make_knock/{roomId}/{userId}", knocks::make_knock),
        put("/_matrix/federation/v1/send_knock/{roomId}/{eventId}", knocks::send_knock),
        put("/_matrix/federation/v1/invite/{roomId}/{eventId}", invites::invite_v1),
        put("/_matrix/federation/v2/invite/{roomId}/{eventId}", invites::invite),
        put("/_matrix/federation/v1/exchange_third_party_invite/{roomId}", third_party::exchange_invite),
        put("/_matrix/federation/v1/3pid/onbind", third_party::take_binding).unsigned(),
        // As identity servers call it.
        post("/_matrix/federation/v1/3pid/onbind", third_party::take_binding).unsigned(),
    ]
}

fn query_routes() -> Vec<Route> {
    vec![
        get("/_matrix/federation/v1/hierarchy/{roomId}", spaces::get_hierarchy),
        get("/_matrix/federation/v1/publicRooms", public_rooms::list),
        post("/_matrix/federation/v1/publicRooms", public_rooms::search),
        get("/_matrix/federation/v1/query/directory", queries::find_room),
        get("/_matrix/federation/v1/query/profile", queries::get_profile),
        get("/_matrix/federation/v1/query/{queryType}", queries::refuse_unknown),
        get("/_matrix/federation/v1/user/devices/{userId}", devices::get_devices),
        post("/_matrix/federation/v1/user/keys/claim", devices::claim_keys),
        post("/_matrix/federation/v1/user/keys/query", devices::query_keys),
    ]
}

fn media_routes() -> Vec<Route> {
    vec![
        get("/_matrix/federation/v1/media/download/{mediaId}", media::download),
        get("/_matrix/federation/v1/media/thumbnail/{mediaId}", media::get_thumbnail),
    ]
}

fn call_routes() -> Vec<Route> {
    vec![
        post("/_matrix/federation/v1/rtc/livekit/get_token", calls::get_token),
        post("/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token", calls::get_token),
    ]
}

/// Every endpoint, in the order of the source.
#[must_use]
pub fn route_table() -> Vec<RouteInfo> {
    let describe = |Route { method, path, auth, .. }: Route| RouteInfo { method, path, auth };
    all_routes().into_iter().map(describe).collect()
}

/// The router of all endpoints but those about keys. Paths that it does not know are left to whoever it is merged into;
/// methods that a path does not have get `M_UNRECOGNIZED` (Server-Server API §Unsupported endpoints).
pub(crate) fn router(federation: Federation) -> Router {
    let mut router = inbound::router(&federation).route_layer(from_fn(hold_place));
    for Route { path, auth, handler, .. } in all_routes() {
        let Some(handler) = handler else { continue };
        let handler = match auth {
            Auth::Anybody => handler,
            Auth::Server => handler.layer(from_fn(hold_place)),
        };
        router = router.route(path, handler);
    }
    router
        .method_not_allowed_fallback(refuse_method)
        .route_layer(from_fn_with_state(federation.clone(), log_request))
        .with_state(federation)
}

async fn refuse_method() -> Response {
    ServeError::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "this method is not supported here")
        .into_response()
}

/// How long an answer may take before that is worth telling.
const SLOW: Duration = Duration::from_secs(5);

/// Logs what was asked and how it ended: the pattern of the path, never its arguments or the query.
async fn log_request(State(federation): State<Federation>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let begun = federation.clock.monotonic();
    let response = next.run(request).await;
    let elapsed = federation.clock.monotonic().saturating_sub(begun);
    let (path, status) = (path.as_ref().map_or("", MatchedPath::as_str), response.status().as_u16());
    if elapsed >= SLOW {
        tracing::info!(%method, path, status, ?elapsed, "a request of another server took long");
    } else {
        tracing::debug!(%method, path, status, ?elapsed, "a request of another server");
    }
    response
}

#[cfg(test)]
mod tests;
