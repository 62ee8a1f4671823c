//! Uploads: at once, and asynchronous (an id is reserved first and filled later).

use spec::ids::UserId;
use storage::{Batch, CommitError, Read};

use crate::disk::MediaWriter;
use crate::error::MediaError;
use crate::media::{Inner, Media};
use crate::mxc::Mxc;
use crate::render::sniff_content_type;
use crate::rows::{FILES, MEDIA, MediaKey, MediaRow, MediaState, PENDING};

/// The longest content type and file name, in bytes.
const MAX_CONTENT_TYPE_BYTES: usize = 255;
const MAX_FILE_NAME_BYTES: usize = 1024;

/// What an uploader says about a file.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The `Content-Type`. Without it, images are recognised by their first bytes.
    pub content_type: Option<String>,
    /// The `filename`.
    pub file_name: Option<String>,
}

/// A reserved media id.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// The address that the content will have.
    pub mxc: Mxc,
    /// Until when it must be uploaded: milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

fn is_header_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_CONTENT_TYPE_BYTES && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

impl Description {
    fn check(self) -> Result<Self, MediaError> {
        if self.content_type.as_deref().is_some_and(|text| !is_header_text(text)) {
            return Err(MediaError::InvalidDescription("content type"));
        }
        if self.file_name.as_deref().is_some_and(|name| name.len() > MAX_FILE_NAME_BYTES) {
            return Err(MediaError::InvalidDescription("file name"));
        }
        Ok(self)
    }

    /// Drops what cannot be stored.
    pub(crate) fn keep_valid(self) -> Self {
        Self {
            content_type: self.content_type.filter(|text| is_header_text(text)),
            file_name: self.file_name.filter(|name| name.len() <= MAX_FILE_NAME_BYTES),
        }
    }
}

impl Media {
    /// Begins an upload: write the bytes into the result as they arrive, then hand it to [`Media::upload`] or
    /// [`Media::upload_reserved`]. It refuses more than the configured limit.
    pub fn new_upload(&self) -> MediaWriter {
        self.0.new_writer(self.config().max_upload.bytes())
    }

    /// As [`Media::new_upload`], with another limit in bytes: for files that the server itself makes.
    pub fn new_upload_within(&self, limit: u64) -> MediaWriter {
        self.0.new_writer(limit)
    }

    /// Stores an upload under a new id. Client-Server API §`POST /media/v3/upload`.
    /// Cancel-safe: dropped, the upload is either stored as a whole or not at all.
    ///
    /// # Errors
    /// `InvalidDescription`, `QuotaExceeded`, `Disk`, `Storage`, `Commit`.
    pub async fn upload(&self, user: &UserId, upload: MediaWriter, about: Description) -> Result<Mxc, MediaError> {
        let about = about.check()?;
        let mxc = self.0.new_mxc();
        self.0.store_media(&mxc.key(), Some(user.as_str()), None, upload, about).await?;
        Ok(mxc)
    }

    /// Reserves an id to be filled later. Client-Server API §`POST /media/v1/create`. Cancel-safe.
    ///
    /// # Errors
    /// `TooManyPending`, `Storage`, `Commit`.
    pub async fn reserve(&self, user: &UserId) -> Result<Reserved, MediaError> {
        let config = self.config();
        let inner = &*self.0;
        let _guard = inner.lock_reservations(user.as_str()).await;
        let now = inner.clock.now_ms();
        let user_id = user.as_str().to_owned();
        let rows = inner.store.scan(&PENDING, &user_id).keys().collect::<Result<Vec<_>, _>>()?;
        let (expired, live): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, expires_ms, _)| *expires_ms <= now);
        for row in expired {
            inner.drop_reservation(row).await?;
        }
        if live.len() >= usize::try_from(config.max_pending_uploads).unwrap_or(usize::MAX) {
            let first = live.first().map_or(now, |(_, expires_ms, _)| *expires_ms);
            return Err(MediaError::TooManyPending { retry_after_ms: first.saturating_sub(now) });
        }
        let lifetime = u64::try_from(config.pending_lifetime.duration().as_millis()).unwrap_or(u64::MAX);
        let expires_ms = now.saturating_add(lifetime);
        let mxc = inner.new_mxc();
        let row =
            MediaRow { uploader: Some(user_id.clone()), created_ms: now, state: MediaState::Pending { expires_ms } };
        let mut batch = Batch::new();
        batch.expect_absent(&MEDIA, &mxc.key()).put(&MEDIA, &mxc.key(), &row);
        batch.put(&PENDING, &(user_id, expires_ms, mxc.media_id().to_owned()), &());
        inner.store.commit(batch).await?;
        Ok(Reserved { mxc, expires_ms })
    }

    /// Whether [`Media::upload_reserved`] would accept an upload now; to be asked before the body is read.
    ///
    /// # Errors
    /// `NotFound` (not reserved here, or expired), `NotYours`, `AlreadyUploaded`, `Storage`.
    pub fn check_reserved(&self, user: &UserId, mxc: &Mxc) -> Result<(), MediaError> {
        self.0.find_reservation(self.is_local(mxc), user, mxc).map(|_| ())
    }

    /// Fills a reserved id and wakes whoever waits for it. Client-Server API
    /// §`PUT /media/v3/upload/{serverName}/{mediaId}`. Cancel-safe as [`Media::upload`].
    ///
    /// # Errors
    /// As [`Media::check_reserved`] and [`Media::upload`].
    pub async fn upload_reserved(
        &self,
        user: &UserId,
        mxc: &Mxc,
        upload: MediaWriter,
        about: Description,
    ) -> Result<(), MediaError> {
        let about = about.check()?;
        let row = self.0.find_reservation(self.is_local(mxc), user, mxc)?;
        let stored = self.0.store_media(&mxc.key(), Some(user.as_str()), Some(row), upload, about).await;
        self.0.arrival(mxc).notify_waiters();
        stored.map(|_| ())
    }
}

impl Inner {
    fn find_reservation(&self, is_local: bool, user: &UserId, mxc: &Mxc) -> Result<MediaRow, MediaError> {
        let row = if is_local { self.store.get(&MEDIA, &mxc.key())? } else { None };
        let row = row.ok_or(MediaError::NotFound)?;
        if row.uploader.as_deref() != Some(user.as_str()) {
            return Err(MediaError::NotYours);
        }
        match row.state {
            MediaState::Complete { .. } => Err(MediaError::AlreadyUploaded),
            MediaState::Pending { expires_ms } if expires_ms <= self.clock.now_ms() => Err(MediaError::NotFound),
            MediaState::Pending { .. } => Ok(row),
        }
    }

    /// Puts the file in place and commits its row over `reserved` (none: the id must be new).
    pub(crate) async fn store_media(
        &self,
        key: &MediaKey,
        uploader: Option<&str>,
        reserved: Option<MediaRow>,
        upload: MediaWriter,
        about: Description,
    ) -> Result<MediaRow, MediaError> {
        let (hash, length) = (upload.hash(), upload.length());
        let content_type = about.content_type.or_else(|| sniff_content_type(upload.head()).map(str::to_owned));
        let state = MediaState::Complete { hash, length, content_type, file_name: about.file_name };
        let row = MediaRow { uploader: uploader.map(str::to_owned), created_ms: self.clock.now_ms(), state };
        let mut batch = Batch::new();
        match &reserved {
            None => {
                batch.expect_absent(&MEDIA, key);
            }
            Some(before) => {
                batch.expect_equals(&MEDIA, key, before);
                if let (MediaState::Pending { expires_ms }, Some(user)) = (&before.state, uploader) {
                    batch.delete(&PENDING, &(user.to_owned(), *expires_ms, key.1.clone()));
                }
            }
        }
        batch.put(&MEDIA, key, &row).add(&FILES, &hash, 1);
        self.count_in(&mut batch, key, &row);

        let _share = self.check_room(key, uploader, length).await?;

        let _guard = self.lock_file(&hash).await;
        upload.place(hash).await?;
        match self.store.commit(batch).await {
            Ok(_) => {
                self.meters.count_stored(uploader.is_some(), length);
                Ok(row)
            }
            Err(CommitError::Expectation { .. }) => {
                self.remove_if_unused(&hash).await?;
                Err(MediaError::AlreadyUploaded)
            }
            Err(error) => Err(error.into()),
        }
    }
}
