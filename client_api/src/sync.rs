//! Client-Server API §"Syncing", and simplified sliding sync (MSC4186).

use std::sync::Arc;
use std::time::Duration;

use ::sync::{Filter, SlidingRequest, Sync, SyncToken, V3Request};
use axum::extract::State;
use serde_json::value::RawValue;
use users::{PresenceState, Users};

use crate::error::ApiError;
use crate::extract::User;
use crate::json::{Answer, JsonBody, answer_bytes};
use crate::presence::parse_presence;
use crate::query::Query;

/// `GET /sync`.
pub(crate) async fn get_sync(user: User, query: Query, State(sync): State<Sync>, State(users): State<Users>) -> Answer {
    let request = V3Request {
        since: query.text("since")?.map(|since| SyncToken::parse(&since)).transpose()?,
        filter: find_filter(&user, &query, &users)?,
        full_state: query.parsed("full_state")?.unwrap_or(false),
        set_presence: presence_of(&query)?,
        timeout: timeout_of(&query)?,
        state_after: name_of_state_after(&query)?,
    };
    answer_bytes(sync.v3(&user, &request).await?)
}

/// Under which name the client wants the state at the end of timelines, if it does: that of the proposal (MSC4222) for
/// clients that ask by it.
fn name_of_state_after(query: &Query) -> Result<Option<&'static str>, ApiError> {
    let names =
        [("use_state_after", "state_after"), ("org.matrix.msc4222.use_state_after", "org.matrix.msc4222.state_after")];
    for (argument, name) in names {
        if query.parsed(argument)? == Some(true) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn timeout_of(query: &Query) -> Result<Duration, ApiError> {
    Ok(Duration::from_millis(query.parsed("timeout")?.unwrap_or(0)))
}

fn presence_of(query: &Query) -> Result<PresenceState, ApiError> {
    match query.text("set_presence")? {
        Some(text) => parse_presence(&text),
        None => Ok(PresenceState::Online),
    }
}

/// The filter: its id, or the filter itself.
fn find_filter(user: &User, query: &Query, users: &Users) -> Result<Arc<Filter>, ApiError> {
    let Some(text) = query.text("filter")? else { return Ok(Arc::default()) };
    if text.starts_with('{') {
        let filter = Filter::parse(text.as_bytes());
        return filter.map(Arc::new).map_err(|error| ApiError::bad_json(format!("filter: {error}")));
    }
    let unknown = || ApiError::invalid_param("filter is neither a filter nor the id of one");
    let json = users.filter(user.user, text.parse().map_err(|_| unknown())?)?.ok_or_else(unknown)?;
    Filter::parse(&json).map(Arc::new).map_err(|error| ApiError::bad_json(format!("filter: {error}")))
}

/// `POST /sync` of sliding sync. The draft form has `pos` and `timeout` in the query.
pub(crate) async fn post_sliding(
    user: User,
    query: Query,
    State(sync): State<Sync>,
    JsonBody(body): JsonBody<Box<RawValue>>,
) -> Answer {
    let mut request = SlidingRequest::parse(body.get().as_bytes())?;
    if let Some(pos) = query.text("pos")? {
        request.pos = Some(pos.into_owned());
    }
    if let Some(timeout) = query.parsed("timeout")? {
        request.timeout = Some(timeout);
    }
    let presence = match &request.set_presence {
        Some(text) => parse_presence(text)?,
        None => presence_of(&query)?,
    };
    answer_bytes(sync.sliding(&user, &request, presence).await?)
}
