//! Reading answers within their bounds.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use runtime::Clock;
use serde::Deserialize;
use spec::ids::ServerName;

use crate::error::RemoteError;
use crate::transport::{AnswerBody, BodyError};

/// The largest error that is read.
pub(super) const MAX_ERROR_BYTES: usize = 64 * 1024;
/// The longest `errcode` and `error` that are passed on, in characters.
const MAX_ERRCODE: usize = 128;
const MAX_MESSAGE: usize = 1024;

/// A body that ends with an error beyond a size or a time.
pub(crate) struct BoundedBody {
    inner: AnswerBody,
    left: usize,
    /// The lock only makes the timer shareable between threads; it is never contended.
    time: Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>,
    is_over: bool,
}

impl BoundedBody {
    /// At most `max_bytes`, until `deadline` on the monotonic clock.
    pub(crate) fn new(inner: AnswerBody, max_bytes: usize, deadline: Duration, clock: &Clock) -> BoundedBody {
        let clock = clock.clone();
        let left = deadline.saturating_sub(clock.monotonic());
        let time = Mutex::new(Box::pin(async move { clock.sleep(left).await }) as Pin<Box<_>>);
        BoundedBody { inner, left: max_bytes, time, is_over: false }
    }
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        // What has arrived counts, even if it is read late; only waiting is cut short.
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            ready!(self.time.get_mut().as_mut().poll(cx));
            self.is_over = true;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        if let Some(Ok(frame)) = &frame {
            let size = frame.data_ref().map_or(0, Buf::remaining);
            match self.left.checked_sub(size) {
                Some(left) => self.left = left,
                None => {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer other than 2xx.
pub(super) struct Refusal {
    status: StatusCode,
    errcode: String,
    message: String,
    body: String,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    errcode: Option<String>,
    error: Option<String>,
    retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Reads what the server says. What cannot be read, or is no Matrix error, says nothing.
    pub(super) async fn read(response: Response<AnswerBody>) -> Refusal {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let parsed: ErrorBody = serde_json::from_slice(&body).unwrap_or_default();
        let is_json = parsed.errcode.is_some();
        Refusal {
            status: head.status,
            errcode: shorten(parsed.errcode.unwrap_or_else(|| "M_UNKNOWN".to_owned()), MAX_ERRCODE),
            message: shorten(parsed.error.unwrap_or_default(), MAX_MESSAGE),
            body: if is_json { String::from_utf8_lossy(&body).into_owned() } else { String::new() },
            retry_after: read_retry_after(&head.headers, parsed.retry_after_ms),
        }
    }

    /// Whether the server is in trouble, rather than the request. Some codes say of one file that it
    /// cannot be had, with the status of a server error.
    pub(super) fn is_failure(&self) -> bool {
        let is_about_media = matches!(self.errcode.as_str(), "M_NOT_YET_UPLOADED" | "M_TOO_LARGE");
        let is_trouble = self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED;
        (is_trouble && !is_about_media) || self.status == StatusCode::TOO_MANY_REQUESTS
    }

    pub(super) fn into_error(self, server: ServerName) -> RemoteError {
        RemoteError::Refused {
            server,
            status: self.status,
            errcode: self.errcode,
            message: self.message,
            body: self.body,
            retry_after: self.retry_after,
        }
    }
}

fn read_retry_after(headers: &HeaderMap, retry_after_ms: Option<u64>) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map(Duration::from_secs).or_else(|| retry_after_ms.map(Duration::from_millis))
}

fn shorten(text: String, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text,
    }
}
