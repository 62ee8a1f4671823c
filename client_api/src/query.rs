//! The query part of a request's address, read on demand.

use std::borrow::Cow;
use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::Uri;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::error::ApiError;

/// The query arguments of a request.
pub(crate) struct Query(Uri);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Query(parts.uri.clone()))
    }
}

impl Query {
    #[cfg(test)]
    pub fn of(uri: &str) -> Query {
        Query(uri.parse().unwrap_or_default())
    }

    /// All values of an argument, decoded.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for values that are not UTF-8.
    pub fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = Result<Cow<'a, str>, ApiError>> {
        find_arguments(self.0.query().unwrap_or_default(), name)
            .map(move |raw| decode_argument(raw).ok_or_else(|| ApiError::invalid_param(format!("{name} is not UTF-8"))))
    }

    /// All arguments with their values, decoded.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for what is not UTF-8.
    pub fn pairs(&self) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), ApiError>> {
        let pairs = self.0.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode_argument(key).zip(decode_argument(value));
            decoded.ok_or_else(|| ApiError::invalid_param("the query is not UTF-8"))
        })
    }

    /// The first value of an argument, decoded.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it is not UTF-8.
    pub fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, ApiError> {
        self.all(name).next().transpose()
    }

    /// As [`Query::text`], for arguments that must be there.
    ///
    /// # Errors
    /// `M_MISSING_PARAM`.
    pub fn required(&self, name: &'static str) -> Result<Cow<'_, str>, ApiError> {
        self.text(name)?.ok_or_else(|| ApiError::missing_param(name))
    }

    /// An argument of a type that can be parsed.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`.
    pub fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| ApiError::invalid_param(format!("{name} is malformed")))
    }

    /// How many results are wanted: `default` where nothing is said, and never more than `most`.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for what is not a positive number.
    pub fn limit(&self, default: usize, most: usize) -> Result<usize, ApiError> {
        match self.parsed::<usize>("limit")? {
            Some(0) => Err(ApiError::invalid_param("limit must be greater than zero")),
            limit => Ok(limit.unwrap_or(default).min(most)),
        }
    }
}

/// The raw values of an argument of a query string.
pub(crate) fn find_arguments<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// Decodes an argument; `None` if it is not UTF-8.
pub(crate) fn decode_argument(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('+') {
        return percent_decode_str(raw).decode_utf8().ok();
    }
    let spaced = raw.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

#[cfg(test)]
mod tests;
