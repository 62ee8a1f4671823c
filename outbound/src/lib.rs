//! Requests to addresses that others named, with one guard.
//!
//! Invariants of this crate:
//! - Every connection that the server opens is opened by [`Network::connect`], which asks one guard. What was looked up
//!   is what is connected to: no second lookup can bring in another address.
//! - Connections that may lead inside are never used for requests that may not: each [`Reach`] has a pool of its own.
//! - It knows nothing of Matrix. What a name of Matrix leads to is decided by the caller, who implements [`FindRoute`].
//! - No redirect is followed here: whoever follows one asks again, through the guard.

mod address;
mod body;
mod names;
mod network;
mod pool;
mod stream;
mod tls;
mod web;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response, Uri};

pub use address::{is_own, is_public};
pub use body::{AnswerBody, BodyError, read_body, read_prefix};
pub use names::{Lookup, LookupError, Names, Search, SrvRecord, system_names};
pub use network::{Host, Network, Route, Target};
pub use pool::{FindRoute, Finding, MAX_HEAD_BYTES, MAX_HEADERS, Pool};
pub use tls::build_tls;
pub use web::{StartError, WebClient, WebParts};

/// An answer of which the head has arrived.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, WebError>> + Send + 'a>>;

/// Where a request may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To public addresses only, unless the operator allows private ones: strangers wrote the URL.
    Guarded,
    /// Wherever the operator's configuration points.
    Anywhere,
}

/// Carries one HTTP request to an absolute `http` or `https` URL. No redirect is followed. Only connecting has a time
/// limit: how long the head and the body may take is the caller's part ([`read_body`]). Dropping a future or a body
/// abandons the request.
pub trait Web: Send + Sync {
    /// Sends a request. `Host` is taken from the URL; `User-Agent` is added where the request has none.
    fn send(&self, request: Request<Bytes>, reach: Reach) -> Sending<'_>;
}

/// Why there is no answer (remote server, or the way to it).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// No connection: name, address, TLS, or a broken connection.
    #[error("{0}")]
    Unreachable(String),
    /// The name leads to an address inside this server's network (remote server).
    #[error("{0} leads to no address outside this server's own network")]
    PrivateAddress(String),
    /// The address is not one that can be asked: no HTTP, no host, a password in it (whoever named it).
    #[error("{0} cannot be asked")]
    BadAddress(String),
}

impl WebError {
    /// [`WebError::Unreachable`] for a reason.
    pub fn unreachable(reason: impl std::fmt::Display) -> WebError {
        WebError::Unreachable(reason.to_string())
    }

    /// [`WebError::BadAddress`] of an address, without what in it may be secret: name and password, path and query.
    fn bad_address(address: &Uri) -> WebError {
        WebError::BadAddress(format!(
            "{}://{}",
            address.scheme_str().unwrap_or_default(),
            address.host().unwrap_or_default()
        ))
    }
}
