//! The Synapse admin API, as tools of the ecosystem speak it: every route, by family. One file a family.
//!
//! Handlers read the request, perform operations or audited work, and answer in the form that the tools expect.

mod devices;
mod federation;
mod media;
mod notices;
mod registration;
mod reports;
mod rooms;
mod server;
mod statistics;
mod tasks;
mod users;

use axum::Router;
use axum::extract::Extension;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use crate::admin::{Action, Admin};
use crate::http::{Query, Refusal, RouteNeeds};
use crate::operation::{Effect, Needs};

/// One route.
pub(crate) struct Route {
    method: Method,
    path: &'static str,
    needs: Needs,
    handler: MethodRouter<Admin>,
}

/// What can be told of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// Its method.
    pub method: Method,
    /// Its path, with arguments in braces.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Needs,
}

impl Route {
    /// Moderators may call it too.
    pub(crate) fn for_moderators(self) -> Route {
        Route { needs: Needs::Moderator, ..self }
    }
}

fn route<H: Handler<T, Admin>, T: 'static>(method: Method, path: &'static str, handler: H) -> Route {
    let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
    Route { method, path, needs: Needs::Administrator, handler: on(filter, handler) }
}

/// `GET`, for administrators.
pub(crate) fn get<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(Method::GET, path, handler)
}

/// `PUT`, for administrators.
pub(crate) fn put<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(Method::PUT, path, handler)
}

/// `POST`, for administrators.
pub(crate) fn post<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(Method::POST, path, handler)
}

/// `DELETE`, for administrators.
pub(crate) fn delete<H: Handler<T, Admin>, T: 'static>(path: &'static str, handler: H) -> Route {
    route(Method::DELETE, path, handler)
}

fn all_routes() -> Vec<Route> {
    [
        server_routes(),
        federation_routes(),
        user_routes(),
        device_routes(),
        registration_routes(),
        media_routes(),
        statistics_routes(),
        report_routes(),
        rooms_routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn server_routes() -> Vec<Route> {
    vec![
        get("/_synapse/admin/v1/server_version", server::get_version).for_moderators(),
        get("/_synapse/admin/v1/scheduled_tasks", tasks::list_scheduled),
        get("/_synapse/admin/v1/background_updates/status", tasks::get_status),
        get("/_synapse/admin/v1/background_updates/enabled", tasks::get_enabled),
        post("/_synapse/admin/v1/background_updates/enabled", tasks::set_enabled),
        post("/_synapse/admin/v1/background_updates/start_job", tasks::start_job),
        post("/_synapse/admin/v1/send_server_notice", notices::send),
        put("/_synapse/admin/v1/send_server_notice/{txnId}", notices::send_once),
    ]
}

fn federation_routes() -> Vec<Route> {
    vec![
        get("/_synapse/admin/v1/federation/destinations", federation::list),
        get("/_synapse/admin/v1/federation/destinations/{destination}", federation::get_one),
        get("/_synapse/admin/v1/federation/destinations/{destination}/rooms", federation::list_rooms),
        post("/_synapse/admin/v1/federation/destinations/{destination}/reset_connection", federation::reset),
    ]
}

fn user_routes() -> Vec<Route> {
    vec![
        get("/_synapse/admin/v2/users", users::list_v2),
        get("/_synapse/admin/v3/users", users::list_v3),
        get("/_synapse/admin/v2/users/{user_id}", users::get_user),
        put("/_synapse/admin/v2/users/{user_id}", users::put_user),
        get("/_synapse/admin/v1/whois/{user_id}", users::get_whois),
        post("/_synapse/admin/v1/deactivate/{user_id}", users::deactivate),
        post("/_synapse/admin/v1/reset_password/{user_id}", users::reset_password),
        put("/_synapse/admin/v1/suspend/{user_id}", users::suspend).for_moderators(),
        post("/_synapse/admin/v1/account_validity/validity", users::renew),
        get("/_synapse/admin/v1/auth_providers/{provider}/users/{external_id}", users::find_by_external_id),
        get("/_synapse/admin/v1/threepid/{medium}/users/{address}", users::find_by_address),
        get("/_synapse/admin/v1/experimental_features/{user_id}", users::get_experimental_features),
        put("/_synapse/admin/v1/experimental_features/{user_id}", users::set_experimental_features),
        post("/_synapse/admin/v1/user/{user_id}/redact", users::redact_user).for_moderators(),
        get("/_synapse/admin/v1/user/redact_status/{redact_id}", users::get_redact_status),
        get("/_synapse/admin/v1/users/{user_id}/admin", users::get_admin),
        put("/_synapse/admin/v1/users/{user_id}/admin", users::set_admin),
        get("/_synapse/admin/v1/users/{user_id}/joined_rooms", users::get_joined_rooms),
        get("/_synapse/admin/v1/users/{user_id}/memberships", users::get_memberships),
        get("/_synapse/admin/v1/users/{user_id}/accountdata", users::get_account_data),
        get("/_synapse/admin/v1/users/{user_id}/pushers", users::get_pushers),
        get("/_synapse/admin/v1/users/{user_id}/sent_invite_count", users::get_invite_count),
        get("/_synapse/admin/v1/users/{user_id}/cumulative_joined_room_count", users::get_joined_count),
        post("/_synapse/admin/v1/users/{user_id}/login", users::log_in),
        post("/_synapse/admin/v1/users/{user_id}/shadow_ban", users::shadow_ban).for_moderators(),
        delete("/_synapse/admin/v1/users/{user_id}/shadow_ban", users::lift_shadow_ban).for_moderators(),
        get("/_synapse/admin/v1/users/{user_id}/override_ratelimit", users::get_rate_limit),
        post("/_synapse/admin/v1/users/{user_id}/override_ratelimit", users::set_rate_limit),
        delete("/_synapse/admin/v1/users/{user_id}/override_ratelimit", users::delete_rate_limit),
        post(
            "/_synapse/admin/v1/users/{user_id}/_allow_cross_signing_replacement_without_uia",
            users::allow_cross_signing_replacement,
        ),
    ]
}

fn device_routes() -> Vec<Route> {
    vec![
        get("/_synapse/admin/v2/users/{user_id}/devices", devices::list),
        post("/_synapse/admin/v2/users/{user_id}/devices", devices::create),
        get("/_synapse/admin/v2/users/{user_id}/devices/{device_id}", devices::get_one),
        put("/_synapse/admin/v2/users/{user_id}/devices/{device_id}", devices::rename),
        delete("/_synapse/admin/v2/users/{user_id}/devices/{device_id}", devices::delete_one),
        post("/_synapse/admin/v2/users/{user_id}/delete_devices", devices::delete_many),
    ]
}

fn registration_routes() -> Vec<Route> {
    vec![
        get("/_synapse/admin/v1/registration_tokens", registration::list),
        post("/_synapse/admin/v1/registration_tokens/new", registration::create),
        get("/_synapse/admin/v1/registration_tokens/{token}", registration::get_one),
        put("/_synapse/admin/v1/registration_tokens/{token}", registration::update),
        delete("/_synapse/admin/v1/registration_tokens/{token}", registration::delete),
        get("/_synapse/admin/v1/username_available", registration::check_username),
    ]
}

fn media_routes() -> Vec<Route> {
    vec![
        post("/_synapse/admin/v1/media/delete", media::delete_by_date),
        post("/_synapse/admin/v1/media/{server_name}/delete", media::delete_by_date_of_server),
        get("/_synapse/admin/v1/media/quarantine_changes", media::quarantine_changes).for_moderators(),
        post("/_synapse/admin/v1/media/quarantine/{server_name}/{media_id}", media::quarantine).for_moderators(),
        post("/_synapse/admin/v1/media/unquarantine/{server_name}/{media_id}", media::unquarantine).for_moderators(),
        post("/_synapse/admin/v1/media/protect/{media_id}", media::protect),
        post("/_synapse/admin/v1/media/unprotect/{media_id}", media::unprotect),
        get("/_synapse/admin/v1/media/{server_name}/{media_id}", media::get_media).for_moderators(),
        delete("/_synapse/admin/v1/media/{server_name}/{media_id}", media::delete_media),
        post("/_synapse/admin/v1/purge_media_cache", media::purge_cache),
        post("/_synapse/admin/v1/quarantine_media/{room_id}", media::quarantine_room).for_moderators(),
        get("/_synapse/admin/v1/room/{room_id}/media", media::list_of_room).for_moderators(),
        post("/_synapse/admin/v1/room/{room_id}/media/quarantine", media::quarantine_room).for_moderators(),
        post("/_synapse/admin/v1/user/{user_id}/media/quarantine", media::quarantine_user).for_moderators(),
        get("/_synapse/admin/v1/users/{user_id}/media", media::list_of_user).for_moderators(),
        delete("/_synapse/admin/v1/users/{user_id}/media", media::delete_of_user),
    ]
}

fn statistics_routes() -> Vec<Route> {
    vec![
        get("/_synapse/admin/v1/statistics/users/media", statistics::users_media).for_moderators(),
        get("/_synapse/admin/v1/statistics/database/rooms", statistics::largest_rooms),
    ]
}

fn report_routes() -> Vec<Route> {
    vec![
        get("/_synapse/admin/v1/event_reports", reports::list_event_reports).for_moderators(),
        get("/_synapse/admin/v1/event_reports/{report_id}", reports::get_event_report).for_moderators(),
        delete("/_synapse/admin/v1/event_reports/{report_id}", reports::delete_event_report),
        get("/_synapse/admin/v1/user_reports", reports::list_user_reports).for_moderators(),
        get("/_synapse/admin/v1/user_reports/{report_id}", reports::get_user_report).for_moderators(),
        delete("/_synapse/admin/v1/user_reports/{report_id}", reports::delete_user_report),
    ]
}

fn rooms_routes() -> Vec<Route> {
    vec![
        get("/_synapse/admin/v1/rooms", rooms::list).for_moderators(),
        get("/_synapse/admin/v1/rooms/{room_id}", rooms::show).for_moderators(),
        delete("/_synapse/admin/v1/rooms/{room_id}", rooms::delete_now),
        delete("/_synapse/admin/v2/rooms/{room_id}", rooms::delete_soon),
        get("/_synapse/admin/v2/rooms/{room_id}/delete_status", rooms::delete_status_of_room),
        get("/_synapse/admin/v2/rooms/delete_status/{delete_id}", rooms::delete_status),
        get("/_synapse/admin/v1/rooms/{room_id}/members", rooms::get_members).for_moderators(),
        get("/_synapse/admin/v1/rooms/{room_id}/state", rooms::get_state).for_moderators(),
        get("/_synapse/admin/v1/rooms/{room_id}/messages", rooms::get_messages).for_moderators(),
        get("/_synapse/admin/v1/rooms/{room_id}/context/{event_id}", rooms::get_context).for_moderators(),
        get("/_synapse/admin/v1/rooms/{room_id}/timestamp_to_event", rooms::get_timestamp).for_moderators(),
        get("/_synapse/admin/v1/rooms/{room_id}/hierarchy", rooms::get_hierarchy).for_moderators(),
        get("/_synapse/admin/v1/rooms/{room_id}/block", rooms::get_block).for_moderators(),
        put("/_synapse/admin/v1/rooms/{room_id}/block", rooms::put_block).for_moderators(),
        post("/_synapse/admin/v1/rooms/{room_id}/make_room_admin", rooms::make_admin),
        get("/_synapse/admin/v1/rooms/{room_id}/forward_extremities", rooms::get_extremities).for_moderators(),
        delete("/_synapse/admin/v1/rooms/{room_id}/forward_extremities", rooms::delete_extremities),
        post("/_synapse/admin/v1/join/{room_id}", rooms::join),
        get("/_synapse/admin/v1/fetch_event/{event_id}", rooms::fetch_event).for_moderators(),
        post("/_synapse/admin/v1/purge_history/{room_id}", rooms::purge_history),
        post("/_synapse/admin/v1/purge_history/{room_id}/{event_id}", rooms::purge_history_before_event),
        get("/_synapse/admin/v1/purge_history_status/{purge_id}", rooms::purge_history_status),
    ]
}

/// What is recorded of a request that only reads and is no operation by itself.
fn reading(name: &str, arguments: serde_json::Value) -> Action {
    Action { name: name.to_owned(), needs: Needs::Moderator, effect: Effect::Reads, arguments }
}

/// Whether `dir` is backwards: `b`, and not `f`.
fn is_backwards(query: &Query, default: bool) -> Result<bool, Refusal> {
    match query.text("dir")?.as_deref() {
        None => Ok(default),
        Some("b") => Ok(true),
        Some("f") => Ok(false),
        Some(_) => Err(Refusal::invalid_param("dir is f or b")),
    }
}

/// Every route, in the order of the source.
#[must_use]
pub fn route_table() -> Vec<RouteInfo> {
    let describe = |Route { method, path, needs, .. }: Route| RouteInfo { method, path, needs };
    all_routes().into_iter().map(describe).collect()
}

/// The router of all routes.
pub(crate) fn router() -> Router<Admin> {
    let routes = all_routes().into_iter();
    routes.fold(Router::new(), |router, Route { path, needs, handler, .. }| {
        router.route(path, handler.layer(Extension(RouteNeeds(needs))))
    })
}
