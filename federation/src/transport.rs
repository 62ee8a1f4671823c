//! Carrying one request to another server and its answer back.
//!
//! [`Transport`] is the seam between what is said and how it travels: [`HttpsTransport`] finds the
//! server and speaks HTTPS with it, a simulation carries the request elsewhere.

mod address;
mod connect;
mod https;
mod stream;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::combinators::BoxBody;
use spec::ids::ServerName;

pub(crate) use address::is_public;
pub(crate) use https::redirect_target;
pub use https::{HttpsParts, HttpsTransport, TransportStartError};

/// The body of an answer, read as it arrives.
pub type AnswerBody = BoxBody<Bytes, BodyError>;

/// What a transport returns: an answer of which the head has arrived.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, TransportError>> + Send + 'a>>;

/// Why there is no answer (remote server, or the way to it).
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection: name, address, TLS, or a broken connection.
    #[error("{0}")]
    Unreachable(String),
    /// The name leads to an address inside this server's network (remote server).
    #[error("{0} leads to no address outside this server's own network")]
    PrivateAddress(String),
    /// The address is not one that can be asked: no HTTPS, no host (whoever named it).
    #[error("{0} cannot be asked")]
    BadAddress(String),
}

/// Why the body of an answer ended early (remote server, or the way to it).
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyError {
    /// More than was allowed.
    #[error("the answer is too large")]
    TooLarge,
    /// The time for the whole exchange is over.
    #[error("the answer took too long")]
    Timeout,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Carries requests to other servers. No redirect is followed and no time limit is kept: that is the
/// caller's part. Dropping a future or a body abandons the request.
pub trait Transport: Send + Sync {
    /// Sends a request to a server, found by its name. The request's URI is path and query alone.
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_>;

    /// Asks for an `https` address outside of federation, unsigned, with the same guard against
    /// addresses inside.
    fn get_url(&self, url: Uri) -> Sending<'_>;
}
