//! The server-server edge. So far it says which server this is and with which key it signs, so that
//! what this server signs can be checked; it exchanges no events yet.
//!
//! Invariants: what is served here is public, and is the same for whoever asks.

mod keys;
mod remote_media;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;
use runtime::Clock;
use spec::ids::ServerName;
use spec::signing::SigningKey;

pub use remote_media::NoRemoteMedia;

/// What the routes are built from.
#[derive(Clone)]
pub struct FederationParts {
    /// This server.
    pub server_name: ServerName,
    /// The key that signs its events and answers.
    pub signing_key: Arc<SigningKey>,
    /// Time.
    pub clock: Clock,
}

/// The routes of this edge.
pub fn router(parts: FederationParts) -> Router {
    Router::new()
        .route("/_matrix/federation/v1/version", get(version))
        .route("/_matrix/key/v2/server", get(keys::serve_keys))
        .with_state(parts)
}

/// `GET /_matrix/federation/v1/version` (Server-Server API §Retrieving the implementation).
async fn version() -> Response {
    respond(format!(r#"{{"server":{{"name":"Conduit","version":"{}"}}}}"#, env!("CARGO_PKG_VERSION")))
}

fn respond(body: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}
