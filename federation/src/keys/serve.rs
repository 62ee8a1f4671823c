//! What others ask about keys: ours, and as a notary those of others (Server-Server API §Publishing
//! Keys, §Querying Keys Through Another Server). Nothing here is signed by who asks: it is public.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::canonical;
use spec::ids::ServerName;

use super::KeyRing;
use super::document::describe_own;
use super::known::{DocumentRow, keep_own_signature};

/// How long others may rely on our keys, in milliseconds: a day.
const VALID_MS: u64 = 24 * 60 * 60 * 1000;
/// The largest question to the notary, and how many servers it may be about.
const MAX_QUERY_BYTES: usize = 64 * 1024;
const MAX_SERVERS: usize = 100;
/// How long those who ask wait for servers that have to be asked in their turn.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The routes about keys, for everybody.
pub(crate) fn routes(keys: KeyRing) -> Router {
    Router::new()
        .route("/_matrix/key/v2/server", get(serve_keys))
        .route("/_matrix/key/v2/server/", get(serve_keys))
        .route("/_matrix/key/v2/server/{key_id}", get(serve_keys))
        .route("/_matrix/key/v2/query", post(query_keys))
        .route("/_matrix/key/v2/query/{server_name}", get(query_server_keys))
        .method_not_allowed_fallback(refuse_method)
        .layer(DefaultBodyLimit::max(MAX_QUERY_BYTES))
        .with_state(keys)
}

/// `GET /_matrix/key/v2/server`, and with a key id, which changes nothing. The body is canonical
/// JSON: some check the signature over its raw bytes.
pub(crate) async fn serve_keys(State(keys): State<KeyRing>) -> Response {
    match keys.describe_own_keys() {
        Some(object) => respond(&object),
        None => refuse(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal server error"),
    }
}

#[derive(Deserialize)]
struct KeyQuery {
    server_keys: BTreeMap<String, BTreeMap<String, Criteria>>,
}

#[derive(Deserialize)]
struct Criteria {
    minimum_valid_until_ts: Option<u64>,
}

/// `POST /_matrix/key/v2/query`.
pub(crate) async fn query_keys(State(keys): State<KeyRing>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "The query is too large");
        }
        Err(rejection) => return refuse(rejection.status(), "M_UNKNOWN", &rejection.body_text()),
    };
    let query: KeyQuery = match serde_json::from_slice(&body) {
        Ok(query) => query,
        Err(error) if error.is_data() => return refuse(StatusCode::BAD_REQUEST, "M_BAD_JSON", &error.to_string()),
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "M_NOT_JSON", &error.to_string()),
    };
    if query.server_keys.len() > MAX_SERVERS {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "Too many servers in one query");
    }
    let now = keys.0.clock.now_ms();
    // Names that are none have no keys.
    let wanted = query.server_keys.into_iter().filter_map(|(server, keys)| {
        let valid_until = keys.values().map(|criteria| criteria.minimum_valid_until_ts.unwrap_or(now)).max();
        ServerName::parse(server).ok().map(|server| (server, valid_until.unwrap_or(now)))
    });
    keys.answer_query(wanted.collect()).await
}

/// `GET /_matrix/key/v2/query/{serverName}`.
pub(crate) async fn query_server_keys(
    State(keys): State<KeyRing>,
    server: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Response {
    let Some(server) = server.ok().and_then(|Path(server)| ServerName::parse(server).ok()) else {
        return refuse(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", "That is no server name");
    };
    let mut arguments = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let minimum = arguments.find(|(name, _)| *name == "minimum_valid_until_ts");
    let Ok(minimum) = minimum.map(|(_, text)| text.parse()).transpose() else {
        return refuse(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", "minimum_valid_until_ts is no timestamp");
    };
    let valid_until = minimum.unwrap_or_else(|| keys.0.clock.now_ms());
    keys.answer_query(vec![(server, valid_until)]).await
}

impl KeyRing {
    /// The signed description of this server's keys; `None` only if it could not be signed.
    pub(crate) fn describe_own_keys(&self) -> Option<Map<String, Value>> {
        let valid_until = self.0.clock.now_ms().saturating_add(VALID_MS);
        describe_own(&self.0.own, &self.0.server_name, valid_until).ok()
    }

    /// The documents of servers, each with our signature; `wanted` says until when they should be
    /// valid. A server that does not answer has the last document it was heard to sign.
    async fn answer_query(&self, wanted: Vec<(ServerName, u64)>) -> Response {
        self.refresh_documents(&wanted).await;
        let servers: BTreeSet<ServerName> = wanted.into_iter().map(|(server, _)| server).collect();
        let documents: Vec<Value> = servers.iter().filter_map(|server| self.countersigned(server)).collect();
        respond(&json!({ "server_keys": documents }))
    }

    /// Asks the servers whose last document does not do. Whoever finds all places taken gets what is there.
    async fn refresh_documents(&self, wanted: &[(ServerName, u64)]) {
        let now = self.0.clock.now_ms();
        let is_due = |(server, valid_until): &&(ServerName, u64)| {
            *server != self.0.server_name
                && !self.last_document(server).is_some_and(|row| does(&row, *valid_until, now))
        };
        let due: BTreeSet<ServerName> = wanted.iter().filter(is_due).map(|(server, _)| server.clone()).collect();
        if due.is_empty() {
            return;
        }
        let Ok(_place) = self.0.notary_places.try_acquire() else { return };
        self.fetch_servers(due, FETCH_TIMEOUT).await;
    }

    fn last_document(&self, server: &ServerName) -> Option<DocumentRow> {
        self.kept_document(server).unwrap_or_else(|error| {
            tracing::error!(%server, %error, "the keys of a server cannot be read");
            None
        })
    }

    fn countersigned(&self, server: &ServerName) -> Option<Value> {
        if *server == self.0.server_name {
            return self.describe_own_keys().map(Value::Object);
        }
        let mut object: Map<String, Value> = serde_json::from_slice(&self.last_document(server)?.json).ok()?;
        keep_own_signature(&mut object, server.as_str());
        self.0.own.current.sign_json(&mut object, self.0.server_name.as_str()).ok()?;
        Some(Value::Object(object))
    }
}

/// Whether a document is good enough to be passed on: valid for long enough, and not in the second
/// half of its life.
fn does(row: &DocumentRow, valid_until: u64, now_ms: u64) -> bool {
    let half = row.fetched_ms.saturating_add(row.valid_until.saturating_sub(row.fetched_ms) / 2);
    row.valid_until >= valid_until && half > now_ms
}

async fn refuse_method() -> Response {
    refuse(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "This method is not supported here")
}

fn respond(body: &impl serde::Serialize) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], canonical::write(body)).into_response()
}

fn refuse(status: StatusCode, errcode: &str, error: &str) -> Response {
    (status, respond(&json!({ "errcode": errcode, "error": error }))).into_response()
}
