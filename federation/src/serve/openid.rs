//! Server-Server API §OpenID.

use axum::extract::State;
use http::StatusCode;
use serde_json::json;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::serve::answer::{Answer, answer};
use crate::serve::arguments::Query;

/// `GET /openid/userinfo`: for whoever was given the token; nothing is signed.
pub(crate) async fn get_user(query: Query, State(federation): State<Federation>) -> Answer {
    let missing = || ServeError::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "access_token is missing");
    let token = query.text("access_token")?.ok_or_else(missing)?;
    answer(&json!({"sub": federation.users.openid_user(&token)?}))
}
