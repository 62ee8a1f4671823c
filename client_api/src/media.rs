//! Client-Server API §"Content repository". Downloads without an access token are in `media_legacy`.

use std::io::SeekFrom;
use std::time::Duration;

use ::media::{
    CONTENT_SECURITY_POLICY, Description, Download, InvalidMxc, Media, MediaWriter, Mxc, RangeRequest, ThumbnailMethod,
    ThumbnailRequest, content_disposition, parse_range,
};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use users::{Right, SpamRule};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, answer};
use crate::newcomers::Newcomers;
use crate::query::Query;

/// How long a download waits for content unless the client says otherwise, in milliseconds.
const DEFAULT_WAIT_MS: u64 = 20_000;
const CHUNK_BYTES: usize = 64 * 1024;

impl From<InvalidMxc> for ApiError {
    fn from(_: InvalidMxc) -> Self {
        ApiError::invalid_param("the server name or the media id is malformed")
    }
}

/// `GET /media/config`, with what the caller may store in all and stores already (MSC4034).
pub(crate) async fn get_config(user: User, State(media): State<Media>) -> Answer {
    let mut limits = json!({
        "m.upload.size": media.config().max_upload.bytes(),
        "org.matrix.msc4034.storage.used": media.user_usage(user.user_id.as_str())?.bytes,
    });
    if let Some(quota) = media.quota(&user.user_id)? {
        limits["org.matrix.msc4034.storage.size"] = quota.into();
    }
    answer(&limits)
}

fn describe_upload(headers: &HeaderMap, query: &Query) -> Result<Description, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().map(str::to_owned));
    let content_type =
        content_type.transpose().map_err(|_| ApiError::invalid_param("the content type is not ASCII"))?;
    Ok(Description { content_type, file_name: query.text("filename")?.map(Into::into) })
}

/// Writes a body as it arrives.
async fn receive_upload(user: &User, media: &Media, headers: &HeaderMap, body: Body) -> Result<MediaWriter, ApiError> {
    let limit = media.config().max_upload.bytes();
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(::media::MediaError::TooLarge { limit }.into());
    }
    media.check_quota(&user.user_id, announced.unwrap_or(0))?;
    let mut upload = media.new_upload();
    let mut body = body;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body could not be read"))?;
        if let Ok(bytes) = frame.into_data() {
            upload.write(&bytes).await?;
        }
    }
    Ok(upload)
}

/// `POST /media/upload`.
pub(crate) async fn upload(
    user: User,
    query: Query,
    State(media): State<Media>,
    State(newcomers): State<Newcomers>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    user.check_may(Right::Upload)?;
    newcomers.check(&user, SpamRule::Uploads).await?;
    let about = describe_upload(&headers, &query)?;
    let upload = receive_upload(&user, &media, &headers, body).await?;
    let mxc = media.upload(&user.user_id, upload, about).await?;
    answer(&json!({"content_uri": mxc.to_string()}))
}

/// `POST /media/create`.
pub(crate) async fn reserve(user: User, State(media): State<Media>, State(newcomers): State<Newcomers>) -> Answer {
    user.check_may(Right::Upload)?;
    newcomers.check(&user, SpamRule::Uploads).await?;
    let reserved = media.reserve(&user.user_id).await?;
    answer(&json!({"content_uri": reserved.mxc.to_string(), "unused_expires_at": reserved.expires_ms}))
}

/// `PUT /media/upload/{serverName}/{mediaId}`.
pub(crate) async fn upload_reserved(
    user: User,
    Args((server, id)): Args<(String, String)>,
    query: Query,
    State(media): State<Media>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let mxc = Mxc::new(&server, &id)?;
    let about = describe_upload(&headers, &query)?;
    media.check_reserved(&user.user_id, &mxc)?;
    let upload = receive_upload(&user, &media, &headers, body).await?;
    media.upload_reserved(&user.user_id, &mxc, upload, about).await?;
    answer(&json!({}))
}

fn wait_of(query: &Query) -> Result<Duration, ApiError> {
    Ok(Duration::from_millis(query.parsed("timeout_ms")?.unwrap_or(DEFAULT_WAIT_MS)))
}

fn check_remote(media: &Media, mxc: &Mxc, query: &Query) -> Result<(), ApiError> {
    if query.parsed::<bool>("allow_remote")? == Some(false) && !media.is_local(mxc) {
        return Err(ApiError::not_found("the media is on another server"));
    }
    Ok(())
}

/// `GET /media/download/{serverName}/{mediaId}`.
pub(crate) async fn download(
    _: User,
    Args((server, id)): Args<(String, String)>,
    query: Query,
    State(media): State<Media>,
    headers: HeaderMap,
) -> Answer {
    send_download(&media, &Mxc::new(&server, &id)?, None, &query, &headers).await
}

/// Answers with the file, under a name of the client's or its own.
pub(crate) async fn send_download(
    media: &Media,
    mxc: &Mxc,
    name: Option<String>,
    query: &Query,
    headers: &HeaderMap,
) -> Answer {
    check_remote(media, mxc, query)?;
    send_file(media.download(mxc, wait_of(query)?).await?, name, headers).await
}

/// `GET /media/download/{serverName}/{mediaId}/{fileName}`.
pub(crate) async fn download_named(
    _: User,
    Args((server, id, name)): Args<(String, String, String)>,
    query: Query,
    State(media): State<Media>,
    headers: HeaderMap,
) -> Answer {
    send_download(&media, &Mxc::new(&server, &id)?, Some(name), &query, &headers).await
}

/// `GET /media/thumbnail/{serverName}/{mediaId}`.
pub(crate) async fn get_thumbnail(
    _: User,
    Args((server, id)): Args<(String, String)>,
    query: Query,
    State(media): State<Media>,
    headers: HeaderMap,
) -> Answer {
    send_thumbnail(&media, &Mxc::new(&server, &id)?, &query, &headers).await
}

/// Answers with the thumbnail that the query asks for.
pub(crate) async fn send_thumbnail(media: &Media, mxc: &Mxc, query: &Query, headers: &HeaderMap) -> Answer {
    check_remote(media, mxc, query)?;
    let method = match query.text("method")?.as_deref() {
        None | Some("scale") => ThumbnailMethod::Scale,
        Some("crop") => ThumbnailMethod::Crop,
        Some(_) => return Err(ApiError::invalid_param("method is scale or crop")),
    };
    let side = |name| query.parsed::<u32>(name)?.ok_or_else(|| ApiError::missing_param(name));
    let request = ThumbnailRequest {
        width: side("width")?,
        height: side("height")?,
        method,
        animated: query.parsed::<bool>("animated")?.unwrap_or(false),
    };
    send_file(media.thumbnail(mxc, &request, wait_of(query)?).await?, None, headers).await
}

/// Answers with a file, or the part of it that was asked for.
async fn send_file(download: Download, name: Option<String>, request: &HeaderMap) -> Answer {
    let Download { mut file, info } = download;
    let range = request.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, first, length) = match parse_range(range, info.length) {
        RangeRequest::Whole => (StatusCode::OK, 0, info.length),
        RangeRequest::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        RangeRequest::Unsatisfiable => return Ok(refuse_range(info.length)),
    };
    if first > 0 {
        file.seek(SeekFrom::Start(first)).await.map_err(|error| ApiError::internal(&error))?;
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), CHUNK_BYTES));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let content_type = info.content_type.as_deref();
    let shown = content_type.and_then(|value| HeaderValue::from_str(value).ok());
    headers.insert(header::CONTENT_TYPE, shown.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    let disposition = content_disposition(content_type, name.as_deref().or(info.file_name.as_deref()));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    // A media id names one content for ever.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{}", first + length - 1, info.length);
        if let Ok(range) = HeaderValue::from_str(&range) {
            headers.insert(header::CONTENT_RANGE, range);
        }
    }
    Ok(response)
}

fn refuse_range(length: u64) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{length}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}
