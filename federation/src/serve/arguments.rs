//! What stands in a request's address: path arguments and the query, decoded, with Matrix errors.

use std::borrow::Cow;
use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use http::Uri;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::inbound::error::ServeError;

/// The longest event id that is looked at, in bytes (Appendices §Common Identifier Format).
const MAX_ID: usize = 255;

/// The arguments in the path, decoded.
pub(crate) struct Args<T>(pub T);

impl<S, T> FromRequestParts<S> for Args<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = ServeError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ServeError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(args)) => Ok(Args(args)),
            Err(error) => Err(ServeError::invalid_param(error.body_text())),
        }
    }
}

/// The query of a request, read on demand.
pub(crate) struct Query(Uri);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Query(parts.uri.clone()))
    }
}

impl Query {
    /// All values of an argument, decoded.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for values that are not UTF-8.
    pub fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = Result<Cow<'a, str>, ServeError>> {
        let pairs = self.0.query().unwrap_or_default().split('&');
        let values = pairs.filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        });
        values.map(move |raw| {
            decode_argument(raw).ok_or_else(|| ServeError::invalid_param(format!("{name} is not UTF-8")))
        })
    }

    /// The first value of an argument.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it is not UTF-8.
    pub fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, ServeError> {
        self.all(name).next().transpose()
    }

    /// As [`Query::text`], for arguments that must be there.
    ///
    /// # Errors
    /// `M_MISSING_PARAM`.
    pub fn required(&self, name: &'static str) -> Result<Cow<'_, str>, ServeError> {
        self.text(name)?.ok_or_else(|| ServeError::missing_param(format!("{name} is missing")))
    }

    /// An argument of a type that can be parsed.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`.
    pub fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ServeError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if text.len() > MAX_ID {
            return Err(ServeError::invalid_param(format!("{name} is too long")));
        }
        text.parse().map(Some).map_err(|_| ServeError::invalid_param(format!("{name} is malformed")))
    }

    /// As [`Query::parsed`], for arguments that must be there.
    ///
    /// # Errors
    /// `M_MISSING_PARAM`, `M_INVALID_PARAM`.
    pub fn required_as<T: FromStr>(&self, name: &'static str) -> Result<T, ServeError> {
        self.parsed(name)?.ok_or_else(|| ServeError::missing_param(format!("{name} is missing")))
    }

    /// A query for tests.
    #[cfg(test)]
    pub fn of(uri: &str) -> Query {
        Query(uri.parse().unwrap_or_default())
    }
}

/// Decodes an argument; `None` if it is not UTF-8.
fn decode_argument(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('+') {
        return percent_decode_str(raw).decode_utf8().ok();
    }
    let spaced = raw.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

#[cfg(test)]
mod tests;
