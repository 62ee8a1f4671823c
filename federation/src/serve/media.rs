//! Server-Server API §Content Repository: media of this server's users, in the multipart form.

use std::time::Duration;

use ::media::{Download, Mxc, ThumbnailMethod, ThumbnailRequest, content_disposition};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::{Origin, PlaceHolder};
use crate::serve::answer::Answer;
use crate::serve::arguments::{Args, Query};

/// How long a download waits for an upload unless the caller says otherwise, in milliseconds.
const DEFAULT_WAIT_MS: u64 = 20_000;
const CHUNK_BYTES: usize = 64 * 1024;
/// Letters of a boundary: none of them can be guessed, so that no file can contain it on purpose.
const BOUNDARY_LETTERS: usize = 32;

fn find_media(federation: &Federation, media_id: &str) -> Result<Mxc, ServeError> {
    let malformed = |_| ServeError::not_found("the media id is malformed");
    Mxc::with_server(federation.server_name.clone(), media_id).map_err(malformed)
}

fn wait_of(query: &Query) -> Result<Duration, ServeError> {
    Ok(Duration::from_millis(query.parsed("timeout_ms")?.unwrap_or(DEFAULT_WAIT_MS)))
}

/// `GET /media/download/{mediaId}`.
pub(crate) async fn download(
    _: Origin,
    Args(media_id): Args<String>,
    query: Query,
    place: PlaceHolder,
    State(federation): State<Federation>,
) -> Answer {
    let mxc = find_media(&federation, &media_id)?;
    let download = federation.media.download(&mxc, wait_of(&query)?).await?;
    Ok(send_multipart(download, &federation.random.token(BOUNDARY_LETTERS), &place))
}

/// `GET /media/thumbnail/{mediaId}`.
pub(crate) async fn get_thumbnail(
    _: Origin,
    Args(media_id): Args<String>,
    query: Query,
    place: PlaceHolder,
    State(federation): State<Federation>,
) -> Answer {
    let mxc = find_media(&federation, &media_id)?;
    let method = match query.text("method")?.as_deref() {
        None | Some("scale") => ThumbnailMethod::Scale,
        Some("crop") => ThumbnailMethod::Crop,
        Some(_) => return Err(ServeError::invalid_param("method is scale or crop")),
    };
    let request = ThumbnailRequest {
        width: query.required_as("width")?,
        height: query.required_as("height")?,
        method,
        animated: query.parsed("animated")?.unwrap_or(false),
    };
    let thumbnail = federation.media.thumbnail(&mxc, &request, wait_of(&query)?).await?;
    Ok(send_multipart(thumbnail, &federation.random.token(BOUNDARY_LETTERS), &place))
}

/// Two parts: an empty object, where metadata may come to stand, and the file. The request's place is kept until all of
/// it is sent.
fn send_multipart(download: Download, boundary: &str, place: &PlaceHolder) -> Response {
    let place = place.take();
    let Download { file, info } = download;
    let content_type = info.content_type.as_deref().filter(|value| HeaderValue::from_str(value).is_ok());
    let disposition = content_disposition(content_type, info.file_name.as_deref());
    let mut head = format!("--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n");
    head.push_str("Content-Type: ");
    head.push_str(content_type.unwrap_or("application/octet-stream"));
    if HeaderValue::from_str(&disposition).is_ok() {
        head.push_str("\r\nContent-Disposition: ");
        head.push_str(&disposition);
    }
    head.push_str("\r\n\r\n");
    let tail = format!("\r\n--{boundary}--\r\n");
    let length = (head.len() as u64).saturating_add(info.length).saturating_add(tail.len() as u64);
    let content = ReaderStream::with_capacity(file.take(info.length), CHUNK_BYTES);
    let content = content.inspect(move |_| {
        let _held = &place;
    });
    let parts = stream::iter([Ok(Bytes::from(head))]).chain(content).chain(stream::iter([Ok(Bytes::from(tail))]));
    let mut response = Response::new(Body::from_stream(parts));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&format!("multipart/mixed; boundary={boundary}")) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}
