//! Client-Server API §"Profiles".

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use rooms::{Rooms, UserNid};
use serde_json::{Map, Value};
use spec::ids::UserId;
use users::{AppServiceQueries, RemoteUsers, UserError, Users};

use crate::error::ApiError;
use crate::extract::{Args, OptionalUser, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::login::check_own;
use crate::profile_updates::ProfileUpdates;

/// The account whose profile this is.
fn find_subject(users: &Users, subject: &UserId) -> Result<UserNid, ApiError> {
    users.active_user(subject)?.ok_or_else(|| ApiError::not_found("no profile for this user"))
}

fn is_remote(rooms: &Rooms, subject: &UserId) -> bool {
    subject.server_name() != rooms.server_name().as_str()
}

/// Lets an application service make the user. Nobody makes this server ask without an account here.
async fn ask_services(
    caller: &OptionalUser,
    users: &Users,
    services: &dyn AppServiceQueries,
    subject: &UserId,
) -> Result<(), ApiError> {
    if caller.0.is_some() {
        users.find_or_ask_for_user(services, subject).await?;
    }
    Ok(())
}

/// Asks the user's server. Nobody makes this server ask others without an account here.
async fn ask_profile(
    caller: &OptionalUser,
    remote: &dyn RemoteUsers,
    subject: &UserId,
    field: Option<&str>,
) -> Result<Map<String, Value>, ApiError> {
    if caller.0.is_none() {
        return Err(ApiError::forbidden("profiles of other servers' users are told to those who are logged in"));
    }
    remote.profile(subject, field).await.map_err(|error| match error {
        // As far as this client is concerned, anything else is a failure of that server.
        UserError::RemoteRefused { status, .. } if !matches!(status, 403 | 404) => {
            ApiError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "the user's server did not tell the profile")
        }
        error => error.into(),
    })
}

/// `GET /profile/{userId}`.
pub(crate) async fn get_profile(
    caller: OptionalUser,
    Args(subject): Args<UserId>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    State(remote): State<Arc<dyn RemoteUsers>>,
    State(services): State<Arc<dyn AppServiceQueries>>,
) -> Answer {
    if is_remote(&rooms, &subject) {
        return answer(&ask_profile(&caller, &*remote, &subject, None).await?);
    }
    ask_services(&caller, &users, &*services, &subject).await?;
    answer(&users.profile(find_subject(&users, &subject)?)?)
}

/// `GET /profile/{userId}/{keyName}`.
pub(crate) async fn get_field(
    caller: OptionalUser,
    Args((subject, key)): Args<(UserId, String)>,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    State(remote): State<Arc<dyn RemoteUsers>>,
    State(services): State<Arc<dyn AppServiceQueries>>,
) -> Answer {
    let value = if is_remote(&rooms, &subject) {
        ask_profile(&caller, &*remote, &subject, Some(&key)).await?.remove(&key)
    } else {
        ask_services(&caller, &users, &*services, &subject).await?;
        users.profile_field(find_subject(&users, &subject)?, &key)?
    };
    let value = value.ok_or_else(|| ApiError::not_found("the profile has no such field"))?;
    answer(&Map::from_iter([(key, value)]))
}

/// `PUT /profile/{userId}/{keyName}`.
pub(crate) async fn set_field(
    user: User,
    Args((subject, key)): Args<(UserId, String)>,
    State(users): State<Users>,
    State(updates): State<ProfileUpdates>,
    JsonBody(mut body): JsonBody<Map<String, Value>>,
) -> Answer {
    check_own(&user, &subject)?;
    let value = body
        .remove(&key)
        .ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", format!("{key} is missing")))?;
    change_field(&user, &users, &updates, &key, Some(value)).await
}

/// `DELETE /profile/{userId}/{keyName}`.
pub(crate) async fn delete_field(
    user: User,
    Args((subject, key)): Args<(UserId, String)>,
    State(users): State<Users>,
    State(updates): State<ProfileUpdates>,
) -> Answer {
    check_own(&user, &subject)?;
    change_field(&user, &users, &updates, &key, None).await
}

async fn change_field(user: &User, users: &Users, updates: &ProfileUpdates, key: &str, value: Option<Value>) -> Answer {
    if user.is_guest && key != "displayname" {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "M_GUEST_ACCESS_FORBIDDEN",
            "guests may change their display name only",
        ));
    }
    let change = users.set_profile_field(user.user, key, value).await?;
    if !change.rooms.is_empty() && !user.is_shadow_banned {
        updates.start(user.user, user.user_id.clone());
    }
    answer_empty()
}

/// What member events repeat of a user's profile: nothing for users of other servers.
pub(crate) fn member_content(rooms: &Rooms, users: &Users, user: &UserId) -> Result<Map<String, Value>, ApiError> {
    let mut content = Map::new();
    let Some(nid) = rooms.user_nid(user)? else { return Ok(content) };
    if let Some(name) = users.display_name(nid)? {
        content.insert("displayname".into(), name.into());
    }
    if let Some(avatar) = users.avatar_url(nid)? {
        content.insert("avatar_url".into(), avatar.into());
    }
    Ok(content)
}
