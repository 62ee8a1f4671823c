//! Application services and the networks that they lead to (Client-Server API §"Third-party networks"; Application
//! Service API §"Pinging", §"Published room directories").

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use rooms::Rooms;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::ids::{RoomAlias, RoomId, UserId};
use users::{AppServiceFailure, AppServiceQueries, ThirdPartyQuestion, Users};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::public_rooms::RoomVisibility;
use crate::query::Query;

/// The longest id of a ping, in bytes.
const MAX_PING_ID: usize = 255;
/// The most fields of a search, and the longest of them in bytes.
const MAX_FIELDS: usize = 20;
const MAX_FIELD_BYTES: usize = 1024;

#[derive(Deserialize)]
pub(crate) struct PingBody {
    transaction_id: Option<String>,
}

/// `POST /appservice/{appserviceId}/ping`: for the service itself.
pub(crate) async fn ping(
    user: User,
    Args(id): Args<String>,
    State(services): State<Arc<dyn AppServiceQueries>>,
    JsonBody(body): JsonBody<PingBody>,
) -> Answer {
    let service = user.appservice.as_ref().filter(|service| service.id() == id);
    let service = service.ok_or_else(|| ApiError::forbidden("the access token is not the application service's"))?;
    if body.transaction_id.as_ref().is_some_and(|id| id.len() > MAX_PING_ID) {
        return Err(ApiError::invalid_param("transaction_id is longer than 255 bytes"));
    }
    let took = services.ping(service, body.transaction_id.as_deref()).await.map_err(describe_failure)?;
    answer(&json!({"duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX)}))
}

fn describe_failure(failure: AppServiceFailure) -> ApiError {
    let message = failure.to_string();
    let coded = |status, errcode| ApiError::new(status, errcode, message);
    match failure {
        AppServiceFailure::NoUrl => coded(StatusCode::BAD_REQUEST, "M_URL_NOT_SET"),
        AppServiceFailure::Timeout => coded(StatusCode::GATEWAY_TIMEOUT, "M_CONNECTION_TIMEOUT"),
        AppServiceFailure::Unreachable(_) | AppServiceFailure::Malformed => {
            coded(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED")
        }
        AppServiceFailure::BadStatus { status, body } => {
            coded(StatusCode::BAD_GATEWAY, "M_BAD_STATUS").with("status", status).with("body", body)
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct ListBody {
    visibility: RoomVisibility,
}

/// `PUT /directory/list/appservice/{networkId}/{roomId}`: for services, in the lists of their own networks.
pub(crate) async fn list_room(
    user: User,
    Args((network, room)): Args<(String, RoomId)>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<ListBody>,
) -> Answer {
    let service = user.appservice.as_ref();
    let service = service.ok_or_else(|| ApiError::forbidden("only application services have lists of rooms"))?;
    if network.len() > MAX_PING_ID {
        return Err(ApiError::invalid_param("the network id is longer than 255 bytes"));
    }
    let listed = body.visibility == RoomVisibility::Public;
    rooms.set_listed_in_network(&service.network_instance(&network), &room, listed).await?;
    answer_empty()
}

/// `GET /thirdparty/protocols`.
pub(crate) async fn get_protocols(
    _: User,
    State(users): State<Users>,
    State(services): State<Arc<dyn AppServiceQueries>>,
) -> Answer {
    answer(&users.third_party_protocols(&*services).await)
}

/// `GET /thirdparty/protocol/{protocol}`.
pub(crate) async fn get_protocol(
    _: User,
    Args(protocol): Args<String>,
    State(users): State<Users>,
    State(services): State<Arc<dyn AppServiceQueries>>,
) -> Answer {
    let described = users.third_party_protocol(&*services, &protocol).await;
    answer(&described.ok_or_else(|| ApiError::not_found("no application service provides this protocol"))?)
}

/// `GET /thirdparty/location/{protocol}`.
pub(crate) async fn find_locations(
    _: User,
    Args(protocol): Args<String>,
    query: Query,
    State(users): State<Users>,
    State(services): State<Arc<dyn AppServiceQueries>>,
) -> Answer {
    let question = ThirdPartyQuestion::Locations(protocol, read_fields(&query)?);
    answer_found(users.ask_third_parties(&*services, &question).await)
}

/// `GET /thirdparty/user/{protocol}`.
pub(crate) async fn find_users(
    _: User,
    Args(protocol): Args<String>,
    query: Query,
    State(users): State<Users>,
    State(services): State<Arc<dyn AppServiceQueries>>,
) -> Answer {
    let question = ThirdPartyQuestion::Users(protocol, read_fields(&query)?);
    answer_found(users.ask_third_parties(&*services, &question).await)
}

/// `GET /thirdparty/location`.
pub(crate) async fn find_locations_of(
    _: User,
    query: Query,
    State(users): State<Users>,
    State(services): State<Arc<dyn AppServiceQueries>>,
) -> Answer {
    let alias = RoomAlias::parse(query.required("alias")?);
    let alias = alias.map_err(|error| ApiError::invalid_param(format!("alias: {error}")))?;
    answer_found(users.ask_third_parties(&*services, &ThirdPartyQuestion::LocationsOf(alias)).await)
}

/// `GET /thirdparty/user`.
pub(crate) async fn find_users_of(
    _: User,
    query: Query,
    State(users): State<Users>,
    State(services): State<Arc<dyn AppServiceQueries>>,
) -> Answer {
    let user = UserId::parse(query.required("userid")?);
    let user = user.map_err(|error| ApiError::invalid_param(format!("userid: {error}")))?;
    answer_found(users.ask_third_parties(&*services, &ThirdPartyQuestion::UsersOf(user)).await)
}

fn answer_found(found: Vec<Value>) -> Answer {
    if found.is_empty() {
        return Err(ApiError::not_found("nothing was found"));
    }
    answer(&found)
}

/// The fields of a search: every argument but those that authenticate.
fn read_fields(query: &Query) -> Result<Vec<(String, String)>, ApiError> {
    let own = ["access_token", "user_id", "device_id", "org.matrix.msc3202.device_id"];
    let mut fields = Vec::new();
    for pair in query.pairs() {
        let (key, value) = pair?;
        if own.contains(&&*key) {
            continue;
        }
        if fields.len() >= MAX_FIELDS || key.len().max(value.len()) > MAX_FIELD_BYTES {
            return Err(ApiError::invalid_param("too many fields, or one that is too long"));
        }
        fields.push((key.into_owned(), value.into_owned()));
    }
    Ok(fields)
}
