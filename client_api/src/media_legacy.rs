//! Downloads without an access token (Client-Server API §"Content repository", deprecated endpoints). The
//! specification has servers freeze them, so they find nothing unless `media.unauthenticated_downloads` is on.

use ::media::{Media, Mxc};
use axum::extract::State;
use http::HeaderMap;

use crate::error::ApiError;
use crate::extract::Args;
use crate::json::Answer;
use crate::media::{send_download, send_thumbnail};
use crate::query::Query;

fn check_open(media: &Media) -> Result<(), ApiError> {
    if media.config().unauthenticated_downloads {
        return Ok(());
    }
    Err(ApiError::not_found("media are served to those who are logged in, at /_matrix/client/v1/media"))
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}`.
pub(crate) async fn download(
    Args((server, id)): Args<(String, String)>,
    query: Query,
    State(media): State<Media>,
    headers: HeaderMap,
) -> Answer {
    check_open(&media)?;
    send_download(&media, &Mxc::new(&server, &id)?, None, &query, &headers).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}`.
pub(crate) async fn download_named(
    Args((server, id, name)): Args<(String, String, String)>,
    query: Query,
    State(media): State<Media>,
    headers: HeaderMap,
) -> Answer {
    check_open(&media)?;
    send_download(&media, &Mxc::new(&server, &id)?, Some(name), &query, &headers).await
}

/// `GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}`.
pub(crate) async fn get_thumbnail(
    Args((server, id)): Args<(String, String)>,
    query: Query,
    State(media): State<Media>,
    headers: HeaderMap,
) -> Answer {
    check_open(&media)?;
    send_thumbnail(&media, &Mxc::new(&server, &id)?, &query, &headers).await
}
