//! Carrying one request to another server and its answer back.
//!
//! [`Transport`] is the seam between what is said and how it travels: [`HttpsTransport`] finds the
//! server and speaks HTTPS with it, a simulation carries the request elsewhere.

mod connect;
mod https;

use bytes::Bytes;
use http::{Request, Uri};
use spec::ids::ServerName;

pub use https::HttpsTransport;
pub(crate) use https::redirect_target;
pub use outbound::{AnswerBody, BodyError, Sending, WebError as TransportError};

/// Carries requests to other servers. No redirect is followed and no time limit is kept: that is the
/// caller's part. Dropping a future or a body abandons the request.
pub trait Transport: Send + Sync {
    /// Sends a request to a server, found by its name. The request's URI is path and query alone.
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_>;

    /// Asks for an `https` address outside of federation, unsigned, with the same guard against
    /// addresses inside.
    fn get_url(&self, url: Uri) -> Sending<'_>;
}
