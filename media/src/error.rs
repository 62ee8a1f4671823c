//! Everything that can go wrong with media, and whose fault it is.

use std::sync::Arc;

use storage::{CommitError, StorageError};

/// Error of the `media` domain. An edge maps each variant to exactly one status and `errcode`. Cheap to clone,
/// because requests that wait for the same work share its failure.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MediaError {
    // The client asked for something impossible.
    /// No such media, or the reserved id has expired (404 `M_NOT_FOUND`).
    #[error("media not found")]
    NotFound,
    /// The id was reserved by another user (403 `M_FORBIDDEN`).
    #[error("this media id was reserved by another user")]
    NotYours,
    /// The id already has content (409 `M_CANNOT_OVERWRITE_MEDIA`).
    #[error("media already uploaded")]
    AlreadyUploaded,
    /// The id is reserved and its content has not come in time (504 `M_NOT_YET_UPLOADED`).
    #[error("media has not been uploaded yet")]
    NotYetUploaded,
    /// The upload exceeds the limit (413 `M_TOO_LARGE`).
    #[error("file is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The user holds too many reserved ids (429 `M_LIMIT_EXCEEDED`).
    #[error("too many pending uploads")]
    TooManyPending {
        /// When the first of them expires, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// With this upload the user, or the server, would store more than allowed (403 `M_USER_LIMIT_EXCEEDED`).
    #[error("{whose} may not store more than {limit} bytes")]
    QuotaExceeded {
        /// Whose limit it is.
        whose: QuotaOf,
        /// The limit in bytes.
        limit: u64,
        /// Where the user learns more.
        info_uri: String,
        /// Whether the user can have the limit raised.
        can_upgrade: bool,
    },
    /// The content type or the file name cannot be stored (400 `M_INVALID_PARAM`).
    #[error("invalid {0}")]
    InvalidDescription(&'static str),
    /// The size asked for makes no sense (400 `M_INVALID_PARAM`).
    #[error("thumbnail width and height must be at least 1")]
    InvalidSize,
    /// The operator has not switched previews on (404 `M_UNRECOGNIZED`).
    #[error("this server makes no previews of URLs")]
    PreviewsOff,
    /// No `http` or `https` URL, or one with a password (400 `M_INVALID_PARAM`).
    #[error("this is not a URL of the web")]
    InvalidUrl,
    /// The operator wants no preview of this page (403 `M_FORBIDDEN`).
    #[error("this server makes no preview of this URL")]
    UrlDenied,
    /// Too many pages were fetched for this user lately (429 `M_LIMIT_EXCEEDED`).
    #[error("too many previews were asked for")]
    TooManyPreviews {
        /// When there may be more, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The content is no image that can be read, or it is damaged (400 `M_UNKNOWN`).
    #[error("cannot generate thumbnails for the requested content")]
    NotThumbnailable,
    /// The image has too many pixels (413 `M_TOO_LARGE`; 502 for remote media).
    #[error("image is too large to thumbnail")]
    ImageTooLarge,

    // The remote server's fault.
    /// The remote file exceeds the limit (502 `M_TOO_LARGE`).
    #[error("remote file is larger than {limit} bytes")]
    RemoteTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The remote server could not be reached, or answered nonsense (502 `M_UNKNOWN`).
    #[error("the remote server did not deliver the media")]
    RemoteUnavailable,
    /// A page could not be fetched (502 `M_UNKNOWN`). It is not told why: what is inside this server's network is
    /// nobody's business.
    #[error("the page could not be fetched")]
    PageUnavailable,

    // Ours, or the operator's.
    /// A file could not be read or written: disk full, damaged, or not permitted.
    #[error("cannot {action}: {source}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: Arc<std::io::Error>,
    },
    /// Reading rows failed.
    #[error("reading failed: {0}")]
    Storage(#[from] StorageError),
    /// Writing rows failed.
    #[error("writing failed: {0}")]
    Commit(#[from] CommitError),
    /// A computation was lost: a bug of ours (already logged), or the server is shutting down.
    #[error("the work was interrupted")]
    Interrupted,
}

/// Whose limit of storage was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaOf {
    /// The user's who uploads.
    User,
    /// This server's.
    Server,
}

impl std::fmt::Display for QuotaOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            QuotaOf::User => "you",
            QuotaOf::Server => "this server",
        })
    }
}

impl MediaError {
    /// Wraps an error of the file system.
    pub(crate) fn disk(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Disk { action, source: Arc::new(source) }
    }
}

/// Runs file work off the async workers. Not cancel-safe: dropped, the work still runs to its end.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, MediaError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| MediaError::Interrupted)?
}
