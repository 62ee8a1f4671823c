//! Every endpoint of the edge: method, path, who may call it, how often, and what answers.
//!
//! Paths are written as in the specification, in their newest version; [`build_router`] also serves `/v3` under `/r0`.

use axum::Router;
use axum::extract::Extension;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{HeaderValue, Method, StatusCode, header};
use tower::ServiceBuilder;
use tower::util::MapResponseLayer;

use crate::Edge;
use crate::error::ApiError;
use crate::limits::LimitClass;
use crate::trace::TraceRequests;
use crate::{
    account, account_data, admin, aliases, appservices, backup_keys, calls, capabilities, context, create_room,
    delayed, devices, filter, hierarchy, keys, login, media, media_legacy, members, membership, messages,
    notifications, old_sync, openid, presence, profile, public_rooms, push_rules, pushers, receipts, registration,
    relations, report, room_keys, search, send, shared_secret, state, sync, tags, thread_subscriptions, threads,
    to_device, typing, upgrade, url_preview, user_directory, versions, well_known,
};

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anybody: no token is looked at.
    Anybody,
    /// Anybody; a token, if there is one, must be good.
    Optional,
    /// Every session, also of guests and of locked or suspended accounts.
    EvenLocked,
    /// Guests too, and suspended accounts.
    GuestReader,
    /// Guests too; not suspended accounts.
    Guest,
    /// Accounts, also suspended ones.
    #[default]
    Reader,
    /// Accounts that are not suspended.
    User,
    /// Administrators of this server.
    Admin,
}

impl Auth {
    /// Whether a request without a token is refused.
    #[must_use]
    pub fn needs_token(self) -> bool {
        !matches!(self, Auth::Anybody | Auth::Optional)
    }
}

/// What extractors need to know of the route.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy {
    pub auth: Auth,
    pub limit: Option<LimitClass>,
}

/// One endpoint.
struct Route {
    method: Method,
    path: &'static str,
    policy: Policy,
    handler: MethodRouter<Edge>,
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
    /// What its calls are counted as.
    pub limit: Option<LimitClass>,
}

impl Route {
    fn limited(mut self, class: LimitClass) -> Route {
        self.policy.limit = Some(class);
        self
    }
}

fn route<H, T>(method: MethodFilter, name: Method, path: &'static str, auth: Auth, handler: H) -> Route
where
    H: Handler<T, Edge>,
    T: 'static,
{
    Route { method: name, path, policy: Policy { auth, limit: None }, handler: on(method, handler) }
}

fn get<H: Handler<T, Edge>, T: 'static>(path: &'static str, auth: Auth, handler: H) -> Route {
    route(MethodFilter::GET, Method::GET, path, auth, handler)
}

fn put<H: Handler<T, Edge>, T: 'static>(path: &'static str, auth: Auth, handler: H) -> Route {
    route(MethodFilter::PUT, Method::PUT, path, auth, handler)
}

fn post<H: Handler<T, Edge>, T: 'static>(path: &'static str, auth: Auth, handler: H) -> Route {
    route(MethodFilter::POST, Method::POST, path, auth, handler)
}

fn delete<H: Handler<T, Edge>, T: 'static>(path: &'static str, auth: Auth, handler: H) -> Route {
    route(MethodFilter::DELETE, Method::DELETE, path, auth, handler)
}

fn all_routes() -> Vec<Route> {
    [
        server_routes(),
        account_routes(),
        key_routes(),
        user_data_routes(),
        room_routes(),
        timeline_routes(),
        membership_routes(),
        delayed_routes(),
        call_routes(),
        appservice_routes(),
        media_routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn server_routes() -> Vec<Route> {
    vec![
        get("/.well-known/matrix/client", Auth::Anybody, well_known::get_client),
        get("/.well-known/matrix/support", Auth::Anybody, well_known::get_support),
        get("/_matrix/client/versions", Auth::Anybody, versions::get_versions),
        get("/_matrix/client/v3/capabilities", Auth::GuestReader, capabilities::get_capabilities),
        get("/_matrix/client/v1/admin/lock/{userId}", Auth::Admin, admin::get_lock),
        put("/_matrix/client/v1/admin/lock/{userId}", Auth::Admin, admin::set_lock),
        get("/_matrix/client/v1/admin/suspend/{userId}", Auth::Admin, admin::get_suspension),
        put("/_matrix/client/v1/admin/suspend/{userId}", Auth::Admin, admin::set_suspension),
        get("/_matrix/client/v3/admin/whois/{userId}", Auth::Reader, admin::get_whois),
        get("/_synapse/admin/v1/register", Auth::Anybody, shared_secret::get_nonce),
        post("/_synapse/admin/v1/register", Auth::Anybody, shared_secret::register).limited(LimitClass::Registration),
    ]
}

fn account_routes() -> Vec<Route> {
    vec![
        get("/_matrix/client/v3/login", Auth::Anybody, login::get_login_types),
        post("/_matrix/client/v3/login", Auth::Anybody, login::log_in).limited(LimitClass::Login),
        post("/_matrix/client/v1/login/get_token", Auth::User, login::create_login_token).limited(LimitClass::Login),
        post("/_matrix/client/v3/refresh", Auth::Anybody, login::refresh).limited(LimitClass::Login),
        post("/_matrix/client/v3/logout", Auth::EvenLocked, login::log_out),
        post("/_matrix/client/v3/logout/all", Auth::EvenLocked, login::log_out_everywhere),
        post("/_matrix/client/v3/register", Auth::Anybody, registration::register).limited(LimitClass::Registration),
        get("/_matrix/client/v3/register/available", Auth::Anybody, registration::check_available)
            .limited(LimitClass::Search),
        get(
            "/_matrix/client/v1/register/m.login.registration_token/validity",
            Auth::Anybody,
            registration::check_token,
        )
        .limited(LimitClass::Registration),
        get("/_matrix/client/v3/account/whoami", Auth::GuestReader, account::get_whoami),
        get("/_matrix/client/v3/account/3pid", Auth::Reader, account::get_threepids),
        post("/_matrix/client/v3/account/password", Auth::Reader, account::change_password).limited(LimitClass::Login),
        post("/_matrix/client/v3/account/deactivate", Auth::Reader, account::deactivate).limited(LimitClass::Login),
        get("/_matrix/client/v3/devices", Auth::GuestReader, devices::get_devices),
        get("/_matrix/client/v3/devices/{deviceId}", Auth::GuestReader, devices::get_device),
        put("/_matrix/client/v3/devices/{deviceId}", Auth::GuestReader, devices::rename_device),
        delete("/_matrix/client/v3/devices/{deviceId}", Auth::Reader, devices::delete_device),
        post("/_matrix/client/v3/delete_devices", Auth::Reader, devices::delete_devices),
        get("/_matrix/client/v3/pushers", Auth::Reader, pushers::get_pushers),
        post("/_matrix/client/v3/pushers/set", Auth::Reader, pushers::set_pusher),
        get("/_matrix/client/v3/notifications", Auth::Reader, notifications::get_notifications)
            .limited(LimitClass::Search),
        post("/_matrix/client/v3/user/{userId}/openid/request_token", Auth::Reader, openid::create_token),
    ]
}

fn key_routes() -> Vec<Route> {
    vec![
        post("/_matrix/client/v3/keys/upload", Auth::GuestReader, keys::upload_keys),
        post("/_matrix/client/v3/keys/query", Auth::GuestReader, keys::query_keys),
        post("/_matrix/client/v3/keys/claim", Auth::GuestReader, keys::claim_keys),
        get("/_matrix/client/v3/keys/changes", Auth::GuestReader, keys::get_changes),
        post("/_matrix/client/v3/keys/device_signing/upload", Auth::Reader, keys::upload_cross_signing),
        post("/_matrix/client/v3/keys/signatures/upload", Auth::Reader, keys::upload_signatures),
        put("/_matrix/client/v3/sendToDevice/{eventType}/{txnId}", Auth::GuestReader, to_device::send_to_device),
        get("/_matrix/client/v3/room_keys/version", Auth::Reader, room_keys::get_current),
        post("/_matrix/client/v3/room_keys/version", Auth::Reader, room_keys::create),
        get("/_matrix/client/v3/room_keys/version/{version}", Auth::Reader, room_keys::get_version),
        put("/_matrix/client/v3/room_keys/version/{version}", Auth::Reader, room_keys::update),
        delete("/_matrix/client/v3/room_keys/version/{version}", Auth::Reader, room_keys::delete),
        get("/_matrix/client/v3/room_keys/keys", Auth::Reader, backup_keys::get_all),
        put("/_matrix/client/v3/room_keys/keys", Auth::Reader, backup_keys::put_all),
        delete("/_matrix/client/v3/room_keys/keys", Auth::Reader, backup_keys::delete_all),
        get("/_matrix/client/v3/room_keys/keys/{roomId}", Auth::Reader, backup_keys::get_room),
        put("/_matrix/client/v3/room_keys/keys/{roomId}", Auth::Reader, backup_keys::put_room),
        delete("/_matrix/client/v3/room_keys/keys/{roomId}", Auth::Reader, backup_keys::delete_room),
        get("/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}", Auth::Reader, backup_keys::get_one),
        put("/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}", Auth::Reader, backup_keys::put_one),
        delete("/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}", Auth::Reader, backup_keys::delete_one),
    ]
}

fn user_data_routes() -> Vec<Route> {
    vec![
        get("/_matrix/client/v3/sync", Auth::GuestReader, sync::get_sync),
        get("/_matrix/client/v3/events", Auth::GuestReader, old_sync::get_events).limited(LimitClass::Events),
        get("/_matrix/client/v3/events/{eventId}", Auth::GuestReader, old_sync::get_event),
        get("/_matrix/client/v3/initialSync", Auth::GuestReader, old_sync::get_initial)
            .limited(LimitClass::InitialSync),
        get("/_matrix/client/v3/rooms/{roomId}/initialSync", Auth::GuestReader, old_sync::get_room)
            .limited(LimitClass::InitialSync),
        post("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", Auth::GuestReader, sync::post_sliding),
        post("/_matrix/client/v4/sync", Auth::GuestReader, sync::post_sliding),
        post("/_matrix/client/v3/user/{userId}/filter", Auth::GuestReader, filter::create_filter),
        get("/_matrix/client/v3/user/{userId}/filter/{filterId}", Auth::GuestReader, filter::get_filter),
        get("/_matrix/client/v3/user/{userId}/account_data/{type}", Auth::GuestReader, account_data::get_global),
        put("/_matrix/client/v3/user/{userId}/account_data/{type}", Auth::GuestReader, account_data::set_global),
        get(
            "/_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}",
            Auth::GuestReader,
            account_data::get_of_room,
        ),
        put(
            "/_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}",
            Auth::GuestReader,
            account_data::set_of_room,
        ),
        delete(
            "/_matrix/client/unstable/org.matrix.msc3391/user/{userId}/account_data/{type}",
            Auth::GuestReader,
            account_data::delete_global,
        ),
        delete(
            "/_matrix/client/unstable/org.matrix.msc3391/user/{userId}/rooms/{roomId}/account_data/{type}",
            Auth::GuestReader,
            account_data::delete_of_room,
        ),
        get("/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags", Auth::GuestReader, tags::get_tags),
        put("/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}", Auth::GuestReader, tags::set_tag),
        delete("/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}", Auth::GuestReader, tags::delete_tag),
        get("/_matrix/client/v3/pushrules/", Auth::GuestReader, push_rules::get_all),
        get("/_matrix/client/v3/pushrules/global/", Auth::GuestReader, push_rules::get_global),
        get("/_matrix/client/v3/pushrules/global/{kind}/{ruleId}", Auth::GuestReader, push_rules::get_rule),
        put("/_matrix/client/v3/pushrules/global/{kind}/{ruleId}", Auth::GuestReader, push_rules::put_rule),
        delete("/_matrix/client/v3/pushrules/global/{kind}/{ruleId}", Auth::GuestReader, push_rules::delete_rule),
        get("/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions", Auth::GuestReader, push_rules::get_actions),
        put("/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions", Auth::GuestReader, push_rules::set_actions),
        get("/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled", Auth::GuestReader, push_rules::get_enabled),
        put("/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled", Auth::GuestReader, push_rules::set_enabled),
        get("/_matrix/client/v3/profile/{userId}", Auth::Optional, profile::get_profile),
        get("/_matrix/client/v3/profile/{userId}/{keyName}", Auth::Optional, profile::get_field),
        put("/_matrix/client/v3/profile/{userId}/{keyName}", Auth::Guest, profile::set_field)
            .limited(LimitClass::Profile),
        delete("/_matrix/client/v3/profile/{userId}/{keyName}", Auth::Guest, profile::delete_field)
            .limited(LimitClass::Profile),
        get("/_matrix/client/v3/presence/{userId}/status", Auth::GuestReader, presence::get_status),
        put("/_matrix/client/v3/presence/{userId}/status", Auth::GuestReader, presence::set_status),
        post("/_matrix/client/v3/search", Auth::Reader, search::search).limited(LimitClass::Search),
        post("/_matrix/client/v3/user_directory/search", Auth::Reader, user_directory::search)
            .limited(LimitClass::Search),
        get("/_matrix/client/v1/mutual_rooms", Auth::Reader, user_directory::get_mutual_rooms),
        post("/_matrix/client/v3/users/{userId}/report", Auth::Reader, report::report_user)
            .limited(LimitClass::Message),
    ]
}

fn room_routes() -> Vec<Route> {
    vec![
        post("/_matrix/client/v3/createRoom", Auth::User, create_room::create_room).limited(LimitClass::CreateRoom),
        post("/_matrix/client/v3/rooms/{roomId}/upgrade", Auth::User, upgrade::upgrade_room)
            .limited(LimitClass::CreateRoom),
        get("/_matrix/client/v3/rooms/{roomId}/state", Auth::GuestReader, state::get_all),
        get("/_matrix/client/v3/rooms/{roomId}/state/{eventType}", Auth::GuestReader, state::get_without_key),
        get("/_matrix/client/v3/rooms/{roomId}/state/{eventType}/", Auth::GuestReader, state::get_without_key),
        get("/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}", Auth::GuestReader, state::get_one),
        put("/_matrix/client/v3/rooms/{roomId}/state/{eventType}", Auth::Guest, state::set_without_key)
            .limited(LimitClass::Message),
        put("/_matrix/client/v3/rooms/{roomId}/state/{eventType}/", Auth::Guest, state::set_without_key)
            .limited(LimitClass::Message),
        put("/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}", Auth::Guest, state::set_one)
            .limited(LimitClass::Message),
        get("/_matrix/client/v3/rooms/{roomId}/aliases", Auth::GuestReader, aliases::get_of_room),
        get("/_matrix/client/v3/directory/room/{roomAlias}", Auth::Anybody, aliases::find_room)
            .limited(LimitClass::Search),
        put("/_matrix/client/v3/directory/room/{roomAlias}", Auth::User, aliases::create),
        delete("/_matrix/client/v3/directory/room/{roomAlias}", Auth::User, aliases::delete),
        get("/_matrix/client/v3/directory/list/room/{roomId}", Auth::Anybody, public_rooms::get_visibility),
        put("/_matrix/client/v3/directory/list/room/{roomId}", Auth::User, public_rooms::set_visibility),
        get("/_matrix/client/v3/publicRooms", Auth::Optional, public_rooms::list).limited(LimitClass::Search),
        post("/_matrix/client/v3/publicRooms", Auth::GuestReader, public_rooms::search).limited(LimitClass::Search),
        get("/_matrix/client/v1/rooms/{roomId}/hierarchy", Auth::GuestReader, hierarchy::get_hierarchy),
        get("/_matrix/client/v1/room_summary/{roomIdOrAlias}", Auth::Optional, hierarchy::get_summary),
        get(
            "/_matrix/client/unstable/im.nheko.summary/summary/{roomIdOrAlias}",
            Auth::Optional,
            hierarchy::get_summary,
        ),
        get(
            "/_matrix/client/unstable/im.nheko.summary/rooms/{roomIdOrAlias}/summary",
            Auth::Optional,
            hierarchy::get_summary,
        ),
        post("/_matrix/client/v3/rooms/{roomId}/report", Auth::Reader, report::report_room)
            .limited(LimitClass::Message),
        post("/_matrix/client/v3/rooms/{roomId}/report/{eventId}", Auth::Reader, report::report_event)
            .limited(LimitClass::Message),
    ]
}

fn timeline_routes() -> Vec<Route> {
    vec![
        put("/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}", Auth::Guest, send::send_message)
            .limited(LimitClass::Message),
        put("/_matrix/client/v3/rooms/{roomId}/delayed_event/{eventType}/{txnId}", Auth::Guest, delayed::put_delayed)
            .limited(LimitClass::Message),
        put(
            "/_matrix/client/unstable/org.matrix.msc4140/rooms/{roomId}/delayed_event/{eventType}/{txnId}",
            Auth::Guest,
            delayed::put_delayed,
        )
        .limited(LimitClass::Message),
        put("/_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}", Auth::GuestReader, send::redact_event)
            .limited(LimitClass::Message),
        get("/_matrix/client/v3/rooms/{roomId}/messages", Auth::GuestReader, messages::get_messages),
        get("/_matrix/client/v3/rooms/{roomId}/event/{eventId}", Auth::GuestReader, context::get_event),
        get("/_matrix/client/v3/rooms/{roomId}/context/{eventId}", Auth::GuestReader, context::get_context),
        get("/_matrix/client/v1/rooms/{roomId}/timestamp_to_event", Auth::GuestReader, context::get_by_timestamp),
        get("/_matrix/client/v1/rooms/{roomId}/relations/{eventId}", Auth::GuestReader, relations::get_all),
        get(
            "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}",
            Auth::GuestReader,
            relations::get_of_type,
        ),
        get(
            "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}",
            Auth::GuestReader,
            relations::get_of_types,
        ),
        get("/_matrix/client/v1/rooms/{roomId}/threads", Auth::GuestReader, threads::get_threads),
        put(
            "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription",
            Auth::GuestReader,
            thread_subscriptions::subscribe,
        )
        .limited(LimitClass::Message),
        get(
            "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription",
            Auth::GuestReader,
            thread_subscriptions::get_subscription,
        ),
        delete(
            "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription",
            Auth::GuestReader,
            thread_subscriptions::unsubscribe,
        ),
        get(
            "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
            Auth::GuestReader,
            thread_subscriptions::get_changes,
        ),
        post(
            "/_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}",
            Auth::GuestReader,
            receipts::set_receipt,
        ),
        post("/_matrix/client/v3/rooms/{roomId}/read_markers", Auth::GuestReader, receipts::set_read_markers),
        put("/_matrix/client/v3/rooms/{roomId}/typing/{userId}", Auth::Guest, typing::set_typing),
    ]
}

fn membership_routes() -> Vec<Route> {
    vec![
        get("/_matrix/client/v3/joined_rooms", Auth::GuestReader, members::get_joined_rooms),
        get("/_matrix/client/v3/rooms/{roomId}/joined_members", Auth::GuestReader, members::get_joined_members),
        get("/_matrix/client/v3/rooms/{roomId}/members", Auth::GuestReader, members::get_members),
        post("/_matrix/client/v3/join/{roomIdOrAlias}", Auth::Guest, membership::join_any).limited(LimitClass::Join),
        post("/_matrix/client/v3/rooms/{roomId}/join", Auth::Guest, membership::join).limited(LimitClass::Join),
        post("/_matrix/client/v3/knock/{roomIdOrAlias}", Auth::User, membership::knock).limited(LimitClass::Join),
        post("/_matrix/client/v3/rooms/{roomId}/leave", Auth::GuestReader, membership::leave),
        post("/_matrix/client/v3/rooms/{roomId}/forget", Auth::GuestReader, membership::forget),
        post("/_matrix/client/v3/rooms/{roomId}/invite", Auth::User, membership::invite).limited(LimitClass::Invite),
        post("/_matrix/client/v3/rooms/{roomId}/kick", Auth::User, membership::kick).limited(LimitClass::Message),
        post("/_matrix/client/v3/rooms/{roomId}/ban", Auth::User, membership::ban).limited(LimitClass::Message),
        post("/_matrix/client/v3/rooms/{roomId}/unban", Auth::User, membership::unban).limited(LimitClass::Message),
    ]
}

fn delayed_routes() -> Vec<Route> {
    vec![
        get("/_matrix/client/unstable/org.matrix.msc4140/delayed_events", Auth::GuestReader, delayed::list),
        get(
            "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}",
            Auth::GuestReader,
            delayed::get_one,
        ),
        get("/_matrix/client/v1/delayed_events/{delayId}", Auth::GuestReader, delayed::get_one),
        post(
            "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}",
            Auth::Optional,
            delayed::act_by_body,
        )
        .limited(LimitClass::DelayedEvents),
        post(
            "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}/{action}",
            Auth::Optional,
            delayed::act_by_id,
        )
        .limited(LimitClass::DelayedEvents),
        post("/_matrix/client/v1/delayed_events/{delayId}/{action}", Auth::GuestReader, delayed::act_as_owner)
            .limited(LimitClass::DelayedEvents),
    ]
}

/// Under `/_rtc/jwt` is what clients of all servers use (MSC4195, with OpenID).
fn call_routes() -> Vec<Route> {
    vec![
        get("/_matrix/client/v3/voip/turnServer", Auth::GuestReader, calls::get_turn_server).limited(LimitClass::Calls),
        get("/_matrix/client/v1/rtc/transports", Auth::GuestReader, calls::get_transports).limited(LimitClass::Calls),
        get("/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", Auth::GuestReader, calls::get_transports)
            .limited(LimitClass::Calls),
        post("/_matrix/client/v1/rtc/livekit/get_token", Auth::Guest, calls::get_token).limited(LimitClass::Calls),
        post("/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token", Auth::Guest, calls::get_token)
            .limited(LimitClass::Calls),
        post("/_matrix/client/v1/rtc/livekit/delegate_delayed_leave", Auth::Guest, calls::delegate_leave)
            .limited(LimitClass::Calls),
        post(
            "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave",
            Auth::Guest,
            calls::delegate_leave,
        )
        .limited(LimitClass::Calls),
        get("/_conduit/client/v1/rooms/{roomId}/call/recording", Auth::Reader, calls::recording::get_state)
            .limited(LimitClass::Calls),
        post("/_conduit/client/v1/rooms/{roomId}/call/recording", Auth::User, calls::recording::change)
            .limited(LimitClass::Calls),
        post("/_rtc/jwt/sfu/get", Auth::Anybody, calls::service::get_for_device).limited(LimitClass::Calls),
        post("/_rtc/jwt/get_token", Auth::Anybody, calls::service::get_for_member).limited(LimitClass::Calls),
        post("/_rtc/jwt/delegate_delayed_leave", Auth::Anybody, calls::service::delegate_leave)
            .limited(LimitClass::Calls),
        get("/_rtc/jwt/healthz", Auth::Anybody, calls::service::get_health),
    ]
}

fn appservice_routes() -> Vec<Route> {
    vec![
        post("/_matrix/client/v1/appservice/{appserviceId}/ping", Auth::Reader, appservices::ping),
        put("/_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}", Auth::User, appservices::list_room),
        get("/_matrix/client/v3/thirdparty/protocols", Auth::Reader, appservices::get_protocols)
            .limited(LimitClass::Search),
        get("/_matrix/client/v3/thirdparty/protocol/{protocol}", Auth::Reader, appservices::get_protocol)
            .limited(LimitClass::Search),
        get("/_matrix/client/v3/thirdparty/location/{protocol}", Auth::Reader, appservices::find_locations)
            .limited(LimitClass::Search),
        get("/_matrix/client/v3/thirdparty/user/{protocol}", Auth::Reader, appservices::find_users)
            .limited(LimitClass::Search),
        get("/_matrix/client/v3/thirdparty/location", Auth::Reader, appservices::find_locations_of)
            .limited(LimitClass::Search),
        get("/_matrix/client/v3/thirdparty/user", Auth::Reader, appservices::find_users_of).limited(LimitClass::Search),
    ]
}

fn media_routes() -> Vec<Route> {
    vec![
        post("/_matrix/media/v3/upload", Auth::User, media::upload).limited(LimitClass::MediaUpload),
        put("/_matrix/media/v3/upload/{serverName}/{mediaId}", Auth::User, media::upload_reserved)
            .limited(LimitClass::MediaUpload),
        post("/_matrix/media/v1/create", Auth::User, media::reserve).limited(LimitClass::MediaUpload),
        get("/_matrix/media/v3/download/{serverName}/{mediaId}", Auth::Anybody, media_legacy::download),
        get(
            "/_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}",
            Auth::Anybody,
            media_legacy::download_named,
        ),
        get("/_matrix/media/v3/thumbnail/{serverName}/{mediaId}", Auth::Anybody, media_legacy::get_thumbnail),
        get("/_matrix/media/v3/config", Auth::GuestReader, media::get_config),
        get("/_matrix/media/v3/preview_url", Auth::Reader, url_preview::preview_url).limited(LimitClass::UrlPreview),
        get("/_matrix/client/v1/media/preview_url", Auth::Reader, url_preview::preview_url)
            .limited(LimitClass::UrlPreview),
        get("/_matrix/client/v1/media/config", Auth::GuestReader, media::get_config),
        get("/_matrix/client/v1/media/download/{serverName}/{mediaId}", Auth::GuestReader, media::download),
        get(
            "/_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}",
            Auth::GuestReader,
            media::download_named,
        ),
        get("/_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}", Auth::GuestReader, media::get_thumbnail),
    ]
}

/// Every endpoint, in the order of the source.
#[must_use]
pub fn route_table() -> Vec<RouteInfo> {
    let describe = |route: Route| {
        let Route { method, path, policy, .. } = route;
        RouteInfo { method, path, auth: policy.auth, limit: policy.limit }
    };
    all_routes().into_iter().map(describe).collect()
}

/// The router of all routes. Requests that no route takes, by path or by method, get `M_UNRECOGNIZED`, and `OPTIONS`
/// an empty answer (Client-Server API §"Web Browser Clients").
pub(crate) fn build_router(edge: Edge) -> Router {
    let mut router = Router::new();
    for Route { path, policy, handler, .. } in all_routes() {
        let handler = handler.layer(Extension(policy));
        if let Some(rest) = path.strip_prefix("/_matrix/client/v3/") {
            router = router.route(&format!("/_matrix/client/r0/{rest}"), handler.clone());
        } else if let Some(rest) = path.strip_prefix("/_matrix/media/v3/") {
            router = router.route(&format!("/_matrix/media/r0/{rest}"), handler.clone());
        }
        router = router.route(path, handler);
    }
    router
        .fallback(refuse_path)
        .method_not_allowed_fallback(refuse_method)
        .layer(ServiceBuilder::new().layer(TraceRequests).layer(MapResponseLayer::new(allow_all_origins)))
        .with_state(edge)
}

async fn refuse_path(method: Method) -> Response {
    if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        ApiError::unrecognized().into_response()
    }
}

async fn refuse_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "this method is not supported here").into_response()
}

/// The headers that let web clients of any origin in (Client-Server API §"Web Browser Clients").
fn allow_all_origins(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let methods = HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS, HEAD");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let names = HeaderValue::from_static("X-Requested-With, Content-Type, Authorization");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    response
}
