//! Media of other servers (Server-Server API §Content Repository): the implementation of [`media::RemoteMedia`].
//!
//! What arrives is written as it arrives, and never more than the writer takes. A server that stalls is given up; one that
//! redirects is followed once, to an address outside this server's network only.

mod multipart;
mod parameters;

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use media::{MediaWriter, Mxc, RemoteDescription, RemoteMedia, RemoteMediaError};
use runtime::Clock;
use serde_json::{Map, Value};

use crate::client::{Ask, FederationClient, encode_path, encode_query};
use crate::error::RemoteError;
use crate::transport::{AnswerBody, BodyError};
use multipart::PartHead;
pub(crate) use multipart::{Multipart, MultipartError, Piece};
pub(crate) use parameters::find_file_name;

/// How much longer than it was told to wait for an upload another server may take for the head of its answer.
const HEAD_GRACE: Duration = Duration::from_secs(15);
/// How long the next bytes may take.
const STALL: Duration = Duration::from_secs(30);
/// How long all of it may take.
const WHOLE: Duration = Duration::from_secs(600);
/// What an answer may have beside the content, in bytes: heads, boundaries, metadata.
const OVERHEAD: u64 = 64 * 1024;
/// The largest metadata.
const MAX_METADATA: usize = 16 * 1024;

/// Fetches media from other servers.
#[derive(Clone)]
pub struct RemoteMediaClient {
    client: FederationClient,
}

impl RemoteMediaClient {
    /// The port over a client.
    #[must_use]
    pub fn new(client: FederationClient) -> RemoteMediaClient {
        RemoteMediaClient { client }
    }
}

impl RemoteMedia for RemoteMediaClient {
    fn fetch<'a>(
        &'a self,
        mxc: &'a Mxc,
        wait: Duration,
        into: &'a mut MediaWriter,
    ) -> Pin<Box<dyn Future<Output = Result<RemoteDescription, RemoteMediaError>> + Send + 'a>> {
        Box::pin(async move {
            let fetched = match self.fetch_signed(mxc, wait, into).await {
                Err(FetchError::Unsupported) => self.fetch_unsigned(mxc, wait, into).await,
                fetched => fetched,
            };
            fetched.map_err(|error| explain_failure(mxc, error))
        })
    }
}

/// Why one way of fetching failed.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    /// The server does not know the endpoint.
    #[error("the server does not know the endpoint")]
    Unsupported,
    #[error(transparent)]
    Remote(RemoteError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Multipart(#[from] MultipartError),
    /// The answer ends before its content does, has other parts than it should, or stalls.
    #[error("{0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Writer(#[from] media::MediaError),
}

impl From<RemoteError> for FetchError {
    fn from(error: RemoteError) -> Self {
        FetchError::Remote(error)
    }
}

/// What a failure is to whoever wanted the media.
fn explain_failure(mxc: &Mxc, error: FetchError) -> RemoteMediaError {
    tracing::debug!(origin = mxc.server().as_str(), media_id = mxc.media_id(), %error, "fetching media failed");
    match error {
        FetchError::Writer(error) => RemoteMediaError::Writer(error),
        FetchError::Body(BodyError::TooLarge) | FetchError::Remote(RemoteError::TooLarge(_)) => {
            RemoteMediaError::TooLarge
        }
        FetchError::Remote(RemoteError::Refused { status, errcode, .. }) => match errcode.as_str() {
            "M_NOT_YET_UPLOADED" => RemoteMediaError::NotYetUploaded,
            "M_TOO_LARGE" => RemoteMediaError::TooLarge,
            _ if status == StatusCode::NOT_FOUND => RemoteMediaError::NotFound,
            _ => RemoteMediaError::Unavailable,
        },
        FetchError::Unsupported => RemoteMediaError::NotFound,
        FetchError::Remote(_)
        | FetchError::Body(BodyError::Timeout | BodyError::Broken(_))
        | FetchError::Multipart(_)
        | FetchError::Malformed(_) => RemoteMediaError::Unavailable,
    }
}

/// Where the content turned out to be.
enum Content {
    /// In the answer; it has been written.
    Written(RemoteDescription),
    /// At an address that the answer names.
    Elsewhere(String),
}

impl RemoteMediaClient {
    /// `GET /_matrix/federation/v1/media/download/{mediaId}`.
    async fn fetch_signed(
        &self,
        mxc: &Mxc,
        wait: Duration,
        into: &mut MediaWriter,
    ) -> Result<RemoteDescription, FetchError> {
        let mut path = encode_path(&["_matrix", "federation", "v1", "media", "download", mxc.media_id()]);
        path.push_str(&encode_query(&[("timeout_ms", &wait.as_millis().to_string())]));
        let answer = match self.ask(mxc, path, wait, into).await {
            Err(FetchError::Remote(error)) if is_unsupported(&error) => return Err(FetchError::Unsupported),
            answer => answer?,
        };
        match read_multipart(answer, self.clock(), into).await? {
            Content::Written(description) => Ok(description),
            Content::Elsewhere(url) => {
                let head = self.client.fetch_url(&url, WHOLE, max_bytes(into));
                let answer = self.clock().timeout(HEAD_GRACE, head).await.ok_or(FetchError::Malformed(STALLED))??;
                read_plain(answer, self.clock(), into).await
            }
        }
    }

    /// `GET /_matrix/media/v3/download/{serverName}/{mediaId}`, for servers older than the other endpoint.
    async fn fetch_unsigned(
        &self,
        mxc: &Mxc,
        wait: Duration,
        into: &mut MediaWriter,
    ) -> Result<RemoteDescription, FetchError> {
        let server = mxc.server().as_str();
        let mut path = encode_path(&["_matrix", "media", "v3", "download", server, mxc.media_id()]);
        let wait_ms = wait.as_millis().to_string();
        path.push_str(&encode_query(&[("allow_remote", "false"), ("timeout_ms", &wait_ms)]));
        read_plain(self.ask(mxc, path, wait, into).await?, self.clock(), into).await
    }

    async fn ask(
        &self,
        mxc: &Mxc,
        path: String,
        wait: Duration,
        into: &MediaWriter,
    ) -> Result<Response<AnswerBody>, FetchError> {
        let ask = Ask { timeout: WHOLE, max_bytes: max_bytes(into), ..Ask::get(path) };
        self.ask_within(mxc, ask, wait).await
    }

    /// Asks, and waits for the head of the answer no longer than an upload may be waited for, and a little.
    async fn ask_within(&self, mxc: &Mxc, ask: Ask, wait: Duration) -> Result<Response<AnswerBody>, FetchError> {
        let head = self.client.ask_stream(mxc.server(), ask);
        let answer = self.clock().timeout(wait.saturating_add(HEAD_GRACE), head).await;
        Ok(answer.ok_or_else(|| FetchError::Remote(RemoteError::Timeout(mxc.server().clone())))??)
    }

    fn clock(&self) -> &Clock {
        self.client.clock()
    }
}

const STALLED: &str = "no bytes came for too long";

fn max_bytes(into: &MediaWriter) -> usize {
    usize::try_from(into.limit().saturating_add(OVERHEAD)).unwrap_or(usize::MAX)
}

/// Whether the endpoint is not there, as opposed to the media.
fn is_unsupported(error: &RemoteError) -> bool {
    let RemoteError::Refused { status, errcode, .. } = error else { return false };
    errcode == "M_UNRECOGNIZED"
        || (*status == StatusCode::NOT_FOUND && errcode != "M_NOT_FOUND")
        || *status == StatusCode::METHOD_NOT_ALLOWED
}

/// The next bytes of a body; `None` at its end.
async fn next_bytes(body: &mut AnswerBody, clock: &Clock) -> Result<Option<Bytes>, FetchError> {
    loop {
        let frame = clock.timeout(STALL, body.frame()).await.ok_or(FetchError::Malformed(STALLED))?;
        match frame.transpose()?.map(|frame| frame.into_data()) {
            None => return Ok(None),
            Some(Ok(bytes)) => return Ok(Some(bytes)),
            // Trailers.
            Some(Err(_)) => {}
        }
    }
}

fn header_text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

fn describe(content_type: Option<&str>, disposition: Option<&str>) -> RemoteDescription {
    RemoteDescription { content_type: content_type.map(str::to_owned), file_name: disposition.and_then(find_file_name) }
}

/// Writes a body that is the content.
async fn read_plain(
    answer: Response<AnswerBody>,
    clock: &Clock,
    into: &mut MediaWriter,
) -> Result<RemoteDescription, FetchError> {
    let (head, mut body) = answer.into_parts();
    while let Some(bytes) = next_bytes(&mut body, clock).await? {
        into.write(&bytes).await?;
    }
    let disposition = header_text(&head.headers, &header::CONTENT_DISPOSITION);
    Ok(describe(header_text(&head.headers, &header::CONTENT_TYPE), disposition))
}

/// Reads an answer of two parts: metadata, and the content or where it is. Content is written as it comes.
async fn read_multipart(
    answer: Response<AnswerBody>,
    clock: &Clock,
    into: &mut MediaWriter,
) -> Result<Content, FetchError> {
    let (head, mut body) = answer.into_parts();
    let content_type = header_text(&head.headers, &header::CONTENT_TYPE).unwrap_or_default();
    let mut parts = Parts::new(Multipart::of_content_type(content_type)?);
    while let Some(bytes) = next_bytes(&mut body, clock).await? {
        parts.multipart.feed(&bytes);
        while let Some(piece) = parts.multipart.next_piece()? {
            if let Some(data) = parts.take(piece)? {
                into.write(&data).await?;
            }
        }
        if parts.is_complete {
            break;
        }
    }
    parts.finish()
}

/// What has come of the two parts.
struct Parts {
    multipart: Multipart,
    metadata: Vec<u8>,
    /// How many parts have begun.
    begun: usize,
    content: PartHead,
    is_complete: bool,
}

impl Parts {
    fn new(multipart: Multipart) -> Parts {
        Parts { multipart, metadata: Vec::new(), begun: 0, content: PartHead::default(), is_complete: false }
    }

    /// Takes a piece in; gives what is to be written.
    fn take(&mut self, piece: Piece) -> Result<Option<Bytes>, FetchError> {
        match piece {
            Piece::Head(head) => {
                self.begun = self.begun.saturating_add(1);
                match self.begun {
                    1 => {}
                    2 => self.content = head,
                    _ => return Err(FetchError::Malformed("the answer has more than two parts")),
                }
            }
            Piece::Data(data) if self.begun < 2 => {
                self.metadata.extend_from_slice(&data);
                if self.metadata.len() > MAX_METADATA {
                    return Err(FetchError::Malformed("the metadata are too large"));
                }
            }
            // What stands beside a redirect is of no use.
            Piece::Data(_) if self.content.location.is_some() => {}
            Piece::Data(data) => return Ok(Some(data)),
            Piece::EndOfPart if self.begun == 1 => {
                // Nothing in it is of use yet; but it must be what it says.
                serde_json::from_slice::<Map<String, Value>>(&self.metadata)
                    .map_err(|_| FetchError::Malformed("the metadata are no JSON object"))?;
            }
            Piece::EndOfPart => {}
            Piece::End => self.is_complete = true,
        }
        Ok(None)
    }

    fn finish(self) -> Result<Content, FetchError> {
        if !self.is_complete || self.begun != 2 {
            return Err(FetchError::Malformed("the answer ended too early"));
        }
        let PartHead { content_type, content_disposition, location } = self.content;
        match location {
            Some(url) => Ok(Content::Elsewhere(url)),
            None => Ok(Content::Written(describe(content_type.as_deref(), content_disposition.as_deref()))),
        }
    }
}

#[cfg(test)]
mod tests;
