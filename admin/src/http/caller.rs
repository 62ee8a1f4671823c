//! Who calls over HTTP: users of this server, by their access token.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use http::request::Parts;
use http::{StatusCode, header};
use serde_json::json;

use super::reading::Query;
use super::refusal::Refusal;
use crate::admin::{Action, Admin};
use crate::caller::{Actor, Caller, Face};
use crate::operation::{Effect, Needs};

/// The caller of a route in the form of the Synapse admin API, who has the rights that the route needs. Who has not is
/// refused, and that is recorded.
pub struct SynapseCaller(pub Caller);

/// The device that the access token belongs to; put into each request when the caller is found.
#[derive(Clone, Debug)]
pub(crate) struct CallerDevice(pub Arc<str>);

/// What the route says of who may call; put into each request by the router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteNeeds(pub Needs);

impl FromRequestParts<Admin> for SynapseCaller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refusal> {
        let caller = find_caller(parts, admin, Face::Synapse).await?;
        let needs = parts.extensions.get::<RouteNeeds>().map_or(Needs::Administrator, |needs| needs.0);
        if let Err(refused) = admin.check_permission(&caller, needs) {
            let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
            let action = Action {
                name: format!("{} {path}", parts.method),
                needs,
                effect: Effect::Reads,
                arguments: json!({"path": parts.uri.path()}),
            };
            admin.record_refusal(&caller, action, &refused).await?;
            return Err(refused.into());
        }
        Ok(SynapseCaller(caller))
    }
}

/// Whoever the access token belongs to. Cancel-safe.
///
/// # Errors
/// `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`, `M_USER_LOCKED`.
pub async fn find_caller(parts: &mut Parts, admin: &Admin, face: Face) -> Result<Caller, Refusal> {
    let missing = || Refusal::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "an access token is required");
    let token = match parts.headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let value = value.to_str().unwrap_or_default().split_once(' ');
            let token =
                value.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
            token.filter(|token| !token.is_empty()).ok_or_else(missing)?.to_owned()
        }
        None => {
            let Ok(query) = Query::from_request_parts(parts, admin).await;
            query.text("access_token")?.ok_or_else(missing)?.into_owned()
        }
    };
    let session = admin.users().authenticate(&token).await?;
    parts.extensions.insert(CallerDevice(session.device_id.clone()));
    Ok(Caller::new(Actor::User(session.user, session.user_id.clone()), face))
}
