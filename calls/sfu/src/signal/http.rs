//! The endpoints.

use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{Query as QueryArgs, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::params::{BadJoinRequest, Hello, Query};
use super::socket;
use crate::room::JoinRefusal;
use crate::server::Shared;
use crate::token::{BadToken, Grant};

/// The largest message of a client, in bytes.
const MAX_MESSAGE: usize = 2 * 1024 * 1024;

/// Why a client is not let in, as the endpoints say it. The text of the 404 matters: any other makes clients
/// try the older protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no permissions to access the room")]
    Unauthorised,
    #[error("the participant is not in the room any more")]
    Unwelcome,
    #[error("invalid join request")]
    BadRequest,
    #[error("requested room does not exist")]
    NoRoom,
    #[error("the server has no capacity for this call")]
    Full,
    #[error("too many attempts to join")]
    TooOften,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Refusal::Unauthorised => StatusCode::UNAUTHORIZED,
            Refusal::Unwelcome => StatusCode::FORBIDDEN,
            Refusal::BadRequest => StatusCode::BAD_REQUEST,
            Refusal::NoRoom => StatusCode::NOT_FOUND,
            Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooOften => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Refusal::Unauthorised => "unauthorised",
            Refusal::Unwelcome => "unwelcome",
            Refusal::BadRequest => "bad_request",
            Refusal::NoRoom => "no_room",
            Refusal::Full => "full",
            Refusal::TooOften => "too_often",
        }
    }
}

impl From<BadToken> for Refusal {
    fn from(_: BadToken) -> Refusal {
        Refusal::Unauthorised
    }
}

impl From<BadJoinRequest> for Refusal {
    fn from(_: BadJoinRequest) -> Refusal {
        Refusal::BadRequest
    }
}

impl From<JoinRefusal> for Refusal {
    fn from(refusal: JoinRefusal) -> Refusal {
        match refusal {
            JoinRefusal::NoRoom | JoinRefusal::NoSession => Refusal::NoRoom,
            JoinRefusal::Full => Refusal::Full,
        }
    }
}

/// The routes.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/rtc/v1", get(connect_newer))
        .route("/rtc", get(connect_older))
        .route("/rtc/v1/validate", get(validate_newer))
        .route("/rtc/validate", get(validate_older))
        .route("/", get(alive))
        .fallback(alive)
        .with_state(shared)
}

/// `HEAD` on the base address is how clients ask whether the network is there.
async fn alive(method: Method) -> Response {
    if matches!(method, Method::HEAD | Method::GET) {
        plain(StatusCode::OK, "OK")
    } else {
        plain(StatusCode::NOT_FOUND, "")
    }
}

async fn connect_newer(
    State(shared): State<Arc<Shared>>,
    QueryArgs(query): QueryArgs<Query>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let hello = query.read_request();
    connect(shared, &query, &headers, upgrade, hello, true)
}

async fn connect_older(
    State(shared): State<Arc<Shared>>,
    QueryArgs(query): QueryArgs<Query>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let hello = Ok(query.read_flags());
    connect(shared, &query, &headers, upgrade, hello, false)
}

fn connect(
    shared: Arc<Shared>,
    query: &Query,
    headers: &HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    hello: Result<Hello, BadJoinRequest>,
    single: bool,
) -> Response {
    let Ok(upgrade) = upgrade else { return plain(StatusCode::NOT_FOUND, "") };
    let admitted = admit(&shared, query, headers, hello);
    let admitted = admitted.and_then(|(grant, hello)| {
        let often = !shared.joins.admit(&grant.identity, shared.clock.monotonic());
        if often { Err(Refusal::TooOften) } else { Ok((grant, hello)) }
    });
    match admitted {
        Ok((grant, hello)) => upgrade
            .max_message_size(MAX_MESSAGE)
            .max_frame_size(MAX_MESSAGE)
            .on_upgrade(move |socket| socket::serve(shared, socket, grant, hello, single)),
        Err(refusal) => {
            shared.metrics.count_refusal(refusal.name());
            plain(refusal.status(), &refusal.to_string())
        }
    }
}

async fn validate_newer(
    State(shared): State<Arc<Shared>>,
    QueryArgs(query): QueryArgs<Query>,
    headers: HeaderMap,
) -> Response {
    let hello = query.read_request();
    validate(&shared, &query, &headers, hello)
}

async fn validate_older(
    State(shared): State<Arc<Shared>>,
    QueryArgs(query): QueryArgs<Query>,
    headers: HeaderMap,
) -> Response {
    let hello = Ok(query.read_flags());
    validate(&shared, &query, &headers, hello)
}

/// Says why the WebSocket could not be opened, which browsers do not tell their pages.
fn validate(shared: &Shared, query: &Query, headers: &HeaderMap, hello: Result<Hello, BadJoinRequest>) -> Response {
    match admit(shared, query, headers, hello) {
        Ok(_) => plain(StatusCode::OK, "success"),
        Err(refusal) => plain(refusal.status(), &refusal.to_string()),
    }
}

/// Whether a client may try to join: the token is good, and there is room.
fn admit(
    shared: &Shared,
    query: &Query,
    headers: &HeaderMap,
    hello: Result<Hello, BadJoinRequest>,
) -> Result<(Grant, Hello), Refusal> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).or(query.access_token.as_deref());
    let grant = shared.key.verify(token.ok_or(Refusal::Unauthorised)?, shared.clock.now_ms())?;
    if !shared.observer.may_join(&grant.room, &grant.identity) {
        return Err(Refusal::Unwelcome);
    }
    let hello = hello?;
    if hello.resume.is_none() {
        let exists = shared.shards.has_room(&grant.room);
        if !exists && !grant.may_create {
            return Err(Refusal::NoRoom);
        }
        let (rooms, participants) = shared.shards.load();
        let full = participants >= shared.config.max_participants as usize
            || (!exists && rooms >= shared.config.max_rooms as usize)
            || shared.shards.is_crowded(&grant.room);
        if full {
            return Err(Refusal::Full);
        }
    }
    Ok((grant, hello))
}

fn plain(status: StatusCode, text: &str) -> Response {
    let headers = [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, headers, text.to_owned()).into_response()
}
