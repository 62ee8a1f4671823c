//! The port through which media of other servers arrive.

use std::pin::Pin;
use std::time::Duration;

use crate::disk::MediaWriter;
use crate::error::MediaError;
use crate::mxc::Mxc;

/// Fetches media from other servers; implemented by the federation edge.
pub trait RemoteMedia: Send + Sync {
    /// Writes the content of `mxc` into `into`. The remote server is told to wait for at most `wait` if the content has
    /// not been uploaded yet (`timeout_ms`); bytes on their way may take longer, and whoever implements this gives up a
    /// server that stalls. Server-Server API §Content repository. The future may be dropped at any time.
    fn fetch<'a>(
        &'a self,
        mxc: &'a Mxc,
        wait: Duration,
        into: &'a mut MediaWriter,
    ) -> Pin<Box<dyn Future<Output = Result<RemoteDescription, RemoteMediaError>> + Send + 'a>>;
}

/// What the remote server says about its media.
#[derive(Clone, Debug, Default)]
pub struct RemoteDescription {
    /// The `Content-Type`.
    pub content_type: Option<String>,
    /// The file name of the `Content-Disposition`.
    pub file_name: Option<String>,
}

/// Why a remote fetch failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteMediaError {
    /// The remote server does not have it.
    #[error("the remote server does not have the media")]
    NotFound,
    /// The remote server still waits for the upload.
    #[error("the media has not been uploaded to the remote server yet")]
    NotYetUploaded,
    /// The remote server refuses to serve it for its size.
    #[error("the remote server calls the media too large")]
    TooLarge,
    /// Any other failure of the remote server or of the way to it.
    #[error("the remote server is unavailable")]
    Unavailable,
    /// The writer refused the bytes.
    #[error(transparent)]
    Writer(#[from] MediaError),
}
