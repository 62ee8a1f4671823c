//! Downloads: waiting for reserved ids, and fetching from other servers.

use std::pin::pin;
use std::time::Duration;

use storage::Read;
use tokio::fs::File;

use crate::disk::{Hash, hex};
use crate::error::MediaError;
use crate::media::{Inner, Media};
use crate::mxc::Mxc;
use crate::remote::RemoteMediaError;
use crate::rows::{MEDIA, MediaInfo, MediaRow, MediaState};
use crate::upload::Description;

/// How long the bytes of remote media may be on their way, beyond the wait for the first of them.
const MAX_TRANSFER: Duration = Duration::from_secs(600);

/// A file that is open for reading; it stays readable if the media is deleted meanwhile.
#[derive(Debug)]
pub struct Download {
    /// The content, from its beginning.
    pub file: File,
    /// What is known about it.
    pub info: MediaInfo,
}

/// A row whose state is complete.
pub(crate) struct Complete {
    pub(crate) row: MediaRow,
    pub(crate) hash: Hash,
    pub(crate) info: MediaInfo,
}

impl Complete {
    fn read(row: MediaRow) -> Option<Self> {
        let MediaState::Complete { hash, length, content_type, file_name } = &row.state else { return None };
        let info = MediaInfo {
            content_type: content_type.clone(),
            file_name: file_name.clone(),
            length: *length,
            sha256: hex(hash),
            created_ms: row.created_ms,
            uploader: row.uploader.clone(),
        };
        Some(Self { hash: *hash, info, row })
    }
}

impl Media {
    /// Opens media for reading. Waits at most `wait` (and the configured maximum) for a reserved id to be filled, here
    /// or on a remote server; remote media that are on their way are waited for. Cancel-safe. Client-Server API §`GET /media/download`.
    ///
    /// # Errors
    /// `NotFound`, `NotYetUploaded`, `RemoteTooLarge`, `RemoteUnavailable`, `Disk`, `Storage`, `Commit`.
    pub async fn download(&self, mxc: &Mxc, wait: Duration) -> Result<Download, MediaError> {
        let complete = self.find_complete(mxc, wait).await?;
        self.note_access(mxc, &complete);
        let download = self.0.open_file(&complete.hash, complete.info).await?;
        self.0.meters.count_download(download.info.length);
        Ok(download)
    }

    /// What is known about media that is here, without waiting and without asking other servers.
    ///
    /// # Errors
    /// `NotFound` (also for a reserved id, and in quarantine), `Storage`.
    pub fn info(&self, mxc: &Mxc) -> Result<MediaInfo, MediaError> {
        let complete = self.0.read_complete(mxc)?.ok_or(MediaError::NotFound)?;
        self.0.check_shown(&mxc.key(), Some(&complete.hash))?;
        Ok(complete.info)
    }

    pub(crate) async fn find_complete(&self, mxc: &Mxc, wait: Duration) -> Result<Complete, MediaError> {
        let wait = wait.min(self.config().max_wait.duration());
        let key = mxc.key();
        // What is hidden is neither waited for nor fetched.
        self.0.check_shown(&key, None)?;
        let found = self.find_or_fetch(mxc, wait).await?;
        self.0.check_shown(&key, Some(&found.hash))?;
        Ok(found)
    }

    async fn find_or_fetch(&self, mxc: &Mxc, wait: Duration) -> Result<Complete, MediaError> {
        if self.is_local(mxc) {
            return self.0.wait_for_upload(mxc, wait).await;
        }
        let limit = self.config().max_remote.bytes();
        let find = || self.0.read_complete(mxc);
        let fetch = self.0.fetch_remote(mxc, wait, limit);
        self.0.remote_flights.find_or_make(mxc.clone(), find, fetch).await
    }
}

impl Inner {
    pub(crate) fn read_complete(&self, mxc: &Mxc) -> Result<Option<Complete>, MediaError> {
        Ok(self.store.get(&MEDIA, &mxc.key())?.and_then(Complete::read))
    }

    pub(crate) async fn open_file(&self, hash: &Hash, info: MediaInfo) -> Result<Download, MediaError> {
        let file = File::open(self.disk.path(hash)).await.map_err(MediaError::disk("open a media file"))?;
        Ok(Download { file, info })
    }

    async fn wait_for_upload(&self, mxc: &Mxc, wait: Duration) -> Result<Complete, MediaError> {
        let deadline = self.clock.monotonic().saturating_add(wait);
        loop {
            // Registered before the row is read, so that no arrival is missed.
            let mut arrival = pin!(self.arrival(mxc).notified());
            arrival.as_mut().enable();
            let row = self.store.get(&MEDIA, &mxc.key())?.ok_or(MediaError::NotFound)?;
            if let MediaState::Pending { expires_ms } = row.state {
                if expires_ms <= self.clock.now_ms() {
                    return Err(MediaError::NotFound);
                }
                let left = deadline.saturating_sub(self.clock.monotonic());
                if left.is_zero() {
                    return Err(MediaError::NotYetUploaded);
                }
                // When the time is over, the row is read once more.
                let _ = self.clock.timeout(left, arrival).await;
                continue;
            }
            return Complete::read(row).ok_or(MediaError::NotFound);
        }
    }

    async fn fetch_remote(&self, mxc: &Mxc, wait: Duration, limit: u64) -> Result<Complete, MediaError> {
        let mut writer = self.new_writer(limit);
        let limit_all = wait.saturating_add(MAX_TRANSFER);
        let fetched = self.clock.timeout(limit_all, self.remote.fetch(mxc, wait, &mut writer)).await;
        let about = match fetched.unwrap_or(Err(RemoteMediaError::Unavailable)) {
            Ok(about) => about,
            Err(RemoteMediaError::NotFound) => return Err(MediaError::NotFound),
            Err(RemoteMediaError::NotYetUploaded) => return Err(MediaError::NotYetUploaded),
            Err(RemoteMediaError::TooLarge | RemoteMediaError::Writer(MediaError::TooLarge { .. })) => {
                return Err(MediaError::RemoteTooLarge { limit });
            }
            Err(RemoteMediaError::Unavailable) => return Err(MediaError::RemoteUnavailable),
            Err(RemoteMediaError::Writer(error)) => return Err(error),
        };
        let about = Description { content_type: about.content_type, file_name: about.file_name }.keep_valid();
        let row = self.store_media(&mxc.key(), None, None, writer, about).await?;
        Complete::read(row).ok_or(MediaError::NotFound)
    }
}
