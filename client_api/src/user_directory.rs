//! Client-Server API §"User Directory", and rooms in common.

use axum::extract::State;
use rooms::Rooms;
use serde::Deserialize;
use serde_json::json;
use spec::ids::UserId;
use users::Users;

use crate::error::ApiError;
use crate::extract::User;
use crate::json::{Answer, JsonBody, answer};
use crate::query::Query;

const DEFAULT_RESULTS: usize = 10;
const MAX_RESULTS: usize = 100;

#[derive(Deserialize)]
pub(crate) struct SearchBody {
    search_term: String,
    limit: Option<usize>,
}

/// `POST /user_directory/search`.
pub(crate) async fn search(user: User, State(users): State<Users>, JsonBody(body): JsonBody<SearchBody>) -> Answer {
    let limit = body.limit.unwrap_or(DEFAULT_RESULTS).min(MAX_RESULTS);
    let (results, limited) = users.search_users(user.user, &body.search_term, limit)?;
    answer(&json!({"results": results, "limited": limited}))
}

/// `GET /mutual_rooms`: all at once.
pub(crate) async fn get_mutual_rooms(user: User, query: Query, State(rooms): State<Rooms>) -> Answer {
    let other = UserId::parse(query.required("user_id")?.as_ref())
        .map_err(|error| ApiError::invalid_param(format!("user_id: {error}")))?;
    if other == user.user_id {
        return Err(ApiError::invalid_param("user_id is your own"));
    }
    if query.text("from")?.is_some() {
        return Err(ApiError::invalid_param("from is not a token of this server"));
    }
    let mut joined = Vec::new();
    if let Some(other) = rooms.user_nid(&other)? {
        let theirs = rooms.joined_rooms(other)?;
        for room in rooms.joined_rooms(user.user)? {
            if theirs.contains(&room) {
                joined.push(rooms.room_id(room)?);
            }
        }
    }
    answer(&json!({"count": joined.len(), "joined": joined}))
}
