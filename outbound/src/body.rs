//! Bodies of answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use runtime::Clock;

/// The body of an answer, read as it arrives.
pub type AnswerBody = BoxBody<Bytes, BodyError>;

/// Why the body of an answer ended early (remote server, or the way to it).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// Reads a body of at most `limit` bytes within `timeout`. Cancel-safe in that dropping it abandons the request.
///
/// # Errors
/// [`BodyError`]; what came until then is dropped.
pub async fn read_body(body: AnswerBody, limit: usize, clock: &Clock, timeout: Duration) -> Result<Bytes, BodyError> {
    match clock.timeout(timeout, read_until(body, limit)).await.ok_or(BodyError::Timeout)?? {
        (read, true) => Ok(read),
        (_, false) => Err(BodyError::TooLarge),
    }
}

/// The first bytes of a body, `limit` at most, read within `timeout`; the rest is abandoned. Cancel-safe as
/// [`read_body`].
///
/// # Errors
/// [`BodyError::Timeout`], [`BodyError::Broken`].
pub async fn read_prefix(body: AnswerBody, limit: usize, clock: &Clock, timeout: Duration) -> Result<Bytes, BodyError> {
    let (read, _) = clock.timeout(timeout, read_until(body, limit)).await.ok_or(BodyError::Timeout)??;
    Ok(read)
}

/// Up to `limit` bytes, and whether they are all.
async fn read_until(mut body: AnswerBody, limit: usize) -> Result<(Bytes, bool), BodyError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await.transpose()? {
        // Trailers are of no use.
        let Ok(bytes) = frame.into_data() else { continue };
        let fitting = bytes.get(..limit.saturating_sub(read.len()));
        read.extend_from_slice(fitting.unwrap_or(&bytes));
        if fitting.is_some_and(|fitting| fitting.len() < bytes.len()) {
            return Ok((read.freeze(), false));
        }
    }
    Ok((read.freeze(), true))
}
