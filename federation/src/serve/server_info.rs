//! What may be known of this server without a signature: its software, and where it is to be found.

use axum::extract::State;
use serde_json::json;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::serve::answer::{Answer, answer};

/// `GET /version` (Server-Server API §Server implementation).
pub(crate) async fn get_version() -> Answer {
    answer(&json!({"server": {"name": "Conduit", "version": env!("CARGO_PKG_VERSION")}}))
}

/// `GET /.well-known/matrix/server` (§Resolving server names).
pub(crate) async fn get_well_known(State(federation): State<Federation>) -> Answer {
    let server = federation.config.well_known_server.as_ref();
    let server = server.ok_or_else(|| ServeError::not_found("no well_known_server is configured"))?;
    answer(&json!({"m.server": server}))
}
