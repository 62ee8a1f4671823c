//! Client-Server API §"Server discovery".

use std::sync::Arc;

use axum::extract::State;
use serde_json::json;

use crate::config::ClientApiConfig;
use crate::error::ApiError;
use crate::json::{Answer, answer};

/// `GET /.well-known/matrix/client`.
pub(crate) async fn get_client(State(config): State<Arc<ClientApiConfig>>) -> Answer {
    let base_url =
        config.public_baseurl.as_ref().ok_or_else(|| ApiError::not_found("no public_baseurl is configured"))?;
    answer(&json!({"m.homeserver": {"base_url": base_url}}))
}
