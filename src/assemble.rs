//! Connecting the parts of a server: the store, the domains and the edges.

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use storage::{Durability, KeyspaceInfo, Options, Store};

use crate::config::{Config, DurabilityMode};
use crate::server::{Environment, StartError};

/// The parts that [`crate::Server`] needs to know.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) router: Router,
}

/// Opens the store and builds everything on top of it.
pub(crate) fn assemble_parts(config: &Config, environment: &Environment) -> Result<Parts, StartError> {
    let store = open_store(config, environment, Vec::new())?;
    Ok(Parts { store, router: Router::new().fallback(refuse_unknown_path) })
}

fn open_store(config: &Config, environment: &Environment, keyspaces: Vec<KeyspaceInfo>) -> Result<Store, StartError> {
    let mut options = Options::new(environment.backend.clone(), keyspaces);
    options.durability = match config.durability {
        DurabilityMode::Always => Durability::Always,
        DurabilityMode::Interval => Durability::Interval(config.durability_interval.duration()),
    };
    options.cache_bytes = usize::try_from(config.cache_bytes.bytes()).unwrap_or(usize::MAX);
    Ok(Store::open(options)?)
}

/// What a path that no endpoint has is answered with (Client-Server API §"Unsupported endpoints").
async fn refuse_unknown_path() -> Response {
    let body = r#"{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}"#;
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
