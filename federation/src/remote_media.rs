//! Media of other servers.

use std::pin::Pin;
use std::time::Duration;

use media::{MediaWriter, Mxc, RemoteDescription, RemoteMedia, RemoteMediaError};

/// The port as long as this server fetches nothing from others: every other server is out of reach.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRemoteMedia;

impl RemoteMedia for NoRemoteMedia {
    fn fetch<'a>(
        &'a self,
        _mxc: &'a Mxc,
        _timeout: Duration,
        _into: &'a mut MediaWriter,
    ) -> Pin<Box<dyn Future<Output = Result<RemoteDescription, RemoteMediaError>> + Send + 'a>> {
        Box::pin(std::future::ready(Err(RemoteMediaError::Unavailable)))
    }
}
