//! Client-Server API §"Filtering".

use ::sync::Filter;
use axum::extract::State;
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use users::Users;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer, answer_bytes};
use crate::login::check_own;

/// `POST /user/{userId}/filter`.
pub(crate) async fn create_filter(
    user: User,
    Args(subject): Args<UserId>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    let json = spec::canonical::write(&body);
    Filter::parse(&json).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let id = users.store_filter(user, json).await?;
    answer(&json!({"filter_id": id.to_string()}))
}

/// `GET /user/{userId}/filter/{filterId}`.
pub(crate) async fn get_filter(
    user: User,
    Args((subject, id)): Args<(UserId, String)>,
    State(users): State<Users>,
) -> Answer {
    let user = check_own(&user, &subject)?;
    let json = match id.parse() {
        Ok(id) => users.filter(user, id)?,
        Err(_) => None,
    };
    answer_bytes(json.ok_or_else(|| ApiError::not_found("no such filter"))?)
}
