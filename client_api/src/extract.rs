//! Who calls, and what the path says: typed extractors that refuse with Matrix errors.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Path, RawPathParams};
use http::header;
use http::request::Parts;
use serde::de::DeserializeOwned;
use users::{AppService, Session, UserError};

use crate::Edge;
use crate::error::ApiError;
use crate::limits::Caller;
use crate::query::{decode_argument, find_arguments};
use crate::routes::{Auth, Policy};

/// The logged-in caller, as far as the route lets them in: guests, suspended and locked accounts are refused unless
/// it says otherwise, and the route's rate limit has been taken from.
pub(crate) struct User(pub Arc<Session>);

impl std::ops::Deref for User {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

/// The caller, if they are logged in; otherwise their address has been counted against the route's rate limit.
pub(crate) struct OptionalUser(pub Option<User>);

/// Anybody; their address has been counted against the route's rate limit.
pub(crate) struct Anybody;

/// The address the request comes from, if that is known.
pub(crate) struct Address(pub Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Address(find_address(parts)))
    }
}

/// The parsed arguments of the path.
pub(crate) struct Args<T>(pub T);

impl FromRequestParts<Edge> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, ApiError> {
        let policy = find_policy(parts);
        let token = find_access_token(parts)?.ok_or_else(ApiError::missing_token)?;
        let session = match edge.users.appservices().find_by_token(&token) {
            Some(service) => act_as(parts, edge, service).await?,
            None => edge.users.authenticate_even_locked(&token).await?,
        };
        if session.is_locked && policy.auth != Auth::EvenLocked {
            return Err(UserError::UserLocked.into());
        }
        if policy.auth != Auth::EvenLocked {
            edge.users.check_validity(&session)?;
        }
        check_admission(policy.auth, &session)?;
        if let Some(class) = policy.limit
            && session.is_rate_limited()
        {
            edge.limits.check_session(class, &session)?;
        }
        let address = find_address(parts).map(|address| address.to_string());
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        edge.users.record_device_seen(&session, address.as_deref(), user_agent).await?;
        Ok(User(session))
    }
}

/// The session of an application service, as the user and the device that it names (Application Service API §"Identity
/// assertion").
async fn act_as(parts: &Parts, edge: &Edge, service: &Arc<AppService>) -> Result<Arc<Session>, ApiError> {
    let user_id = find_argument(parts, "user_id")?;
    // As it was called before specification v1.17.
    let device_id = match find_argument(parts, "device_id")? {
        Some(device_id) => Some(device_id),
        None => find_argument(parts, "org.matrix.msc3202.device_id")?,
    };
    Ok(edge.users.authenticate_appservice(service, user_id.as_deref(), device_id.as_deref()).await?)
}

fn find_argument<'a>(parts: &'a Parts, name: &'static str) -> Result<Option<Cow<'a, str>>, ApiError> {
    let Some(raw) = find_arguments(parts.uri.query().unwrap_or_default(), name).next() else { return Ok(None) };
    decode_argument(raw).map(Some).ok_or_else(|| ApiError::invalid_param(format!("{name} is not UTF-8")))
}

/// The application service that calls, for what only services may ask of endpoints that anybody may call.
pub(crate) enum CallingService {
    Service(Arc<AppService>),
    /// The token is no service's.
    OtherToken,
    NoToken,
}

impl CallingService {
    /// The service.
    ///
    /// # Errors
    /// `M_MISSING_TOKEN` and `M_UNKNOWN_TOKEN`, as for any token that is needed.
    pub fn required(self) -> Result<Arc<AppService>, ApiError> {
        match self {
            CallingService::Service(service) => Ok(service),
            CallingService::OtherToken => Err(UserError::UnknownToken { soft_logout: false }.into()),
            CallingService::NoToken => Err(ApiError::missing_token()),
        }
    }
}

impl FromRequestParts<Edge> for CallingService {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Infallible> {
        let Ok(Some(token)) = find_access_token(parts) else { return Ok(CallingService::NoToken) };
        let service = edge.users.appservices().find_by_token(&token).cloned();
        Ok(service.map_or(CallingService::OtherToken, CallingService::Service))
    }
}

fn check_admission(auth: Auth, session: &Session) -> Result<(), ApiError> {
    let (guests, suspended) = match auth {
        Auth::Anybody | Auth::Optional | Auth::EvenLocked | Auth::GuestReader => (true, true),
        Auth::Guest => (true, false),
        Auth::Reader => (false, true),
        Auth::User => (false, false),
        Auth::Admin => {
            if !session.is_admin {
                return Err(ApiError::forbidden("only administrators of this server may do this"));
            }
            (false, true)
        }
    };
    if session.is_guest && !guests {
        let status = http::StatusCode::FORBIDDEN;
        return Err(ApiError::new(status, "M_GUEST_ACCESS_FORBIDDEN", "guests may not do this"));
    }
    if !suspended {
        session.check_may_write()?;
    }
    Ok(())
}

impl FromRequestParts<Edge> for OptionalUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, ApiError> {
        if find_access_token(parts)?.is_some() {
            return User::from_request_parts(parts, edge).await.map(|user| OptionalUser(Some(user)));
        }
        limit_address(parts, edge)?;
        Ok(OptionalUser(None))
    }
}

impl FromRequestParts<Edge> for Anybody {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, ApiError> {
        limit_address(parts, edge).map(|()| Anybody)
    }
}

/// The caller, if they are logged in; otherwise whoever knows the id of a delayed event in the path. What is done to an
/// event has been counted as its owner's: services act from one address on the events of many.
pub(crate) struct OwnerOrHolder(pub Option<User>);

impl FromRequestParts<Edge> for OwnerOrHolder {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, ApiError> {
        if find_access_token(parts)?.is_some() {
            return User::from_request_parts(parts, edge).await.map(|user| OwnerOrHolder(Some(user)));
        }
        let arguments = RawPathParams::from_request_parts(parts, edge).await;
        let arguments = arguments.map_err(|rejection| ApiError::invalid_param(rejection.body_text()))?;
        let id = arguments.iter().find(|(name, _)| *name == "delayId").map(|(_, id)| id.to_owned());
        let event = id.map(|id| edge.rooms.delayed_event(&id)).transpose()?.flatten();
        match (event, find_policy(parts).limit) {
            (Some(event), Some(class)) => edge.limits.check(class, Caller::User(event.owner))?,
            _ => limit_address(parts, edge)?,
        }
        Ok(OwnerOrHolder(None))
    }
}

fn limit_address(parts: &Parts, edge: &Edge) -> Result<(), ApiError> {
    if let Ok(Some(token)) = find_access_token(parts)
        && edge.users.appservices().find_by_token(&token).is_some_and(|service| !service.is_rate_limited())
    {
        return Ok(());
    }
    match (find_policy(parts).limit, find_address(parts)) {
        (Some(class), Some(address)) => edge.limits.check(class, Caller::of_address(address)),
        _ => Ok(()),
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Edge> for Args<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, edge).await {
            Ok(Path(arguments)) => Ok(Args(arguments)),
            Err(rejection) => Err(ApiError::invalid_param(rejection.body_text())),
        }
    }
}

fn find_policy(parts: &Parts) -> Policy {
    parts.extensions.get::<Policy>().copied().unwrap_or_default()
}

fn find_address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip())
}

/// The token of the `Authorization` header or, as older clients send it, of the query.
fn find_access_token(parts: &Parts) -> Result<Option<Cow<'_, str>>, ApiError> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let value = value.to_str().unwrap_or_default();
        let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = token.map(|(_, token)| token.trim()).filter(|token| !token.is_empty());
        return token.map(|token| Some(Cow::Borrowed(token))).ok_or_else(ApiError::missing_token);
    }
    let Some(raw) = find_arguments(parts.uri.query().unwrap_or_default(), "access_token").next() else {
        return Ok(None);
    };
    decode_argument(raw).map(Some).ok_or_else(|| ApiError::invalid_param("access_token is not UTF-8"))
}
