//! What administrators see of media: one with all that is known, and lists.

use storage::Read;

use crate::disk::hex;
use crate::error::MediaError;
use crate::media::{Inner, Media};
use crate::mxc::Mxc;
use crate::rows::{ACCESSES, BY_USER, MARKS, MEDIA, MediaKey, MediaRow, MediaState, QUARANTINED_FILES};

/// All that is known of one media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRecord {
    /// Its address.
    pub mxc: Mxc,
    /// The user of this server who uploaded or reserved it.
    pub uploader: Option<String>,
    /// When it was uploaded, reserved, or copied from its server: milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Its content; none while the id is only reserved.
    pub content: Option<MediaContent>,
    /// When it was last asked for, to within a day.
    pub last_access_ms: Option<u64>,
    /// Who put it into quarantine.
    pub quarantined_by: Option<String>,
    /// Whether it is hidden since other media with the same bytes are in quarantine.
    pub is_hidden_by_content: bool,
    /// Whether it is protected from quarantine.
    pub is_protected: bool,
}

/// The content of a media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaContent {
    /// Its length in bytes.
    pub length: u64,
    /// The content type.
    pub content_type: Option<String>,
    /// The file name.
    pub file_name: Option<String>,
    /// The SHA-256 in hexadecimal.
    pub sha256: String,
}

/// By what a list is ordered. Ties are in the order of media ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaOrder {
    /// When it was uploaded.
    #[default]
    Created,
    /// When it was last asked for; never first.
    LastAccess,
    /// The media id.
    MediaId,
    /// The length.
    Length,
    /// The content type.
    ContentType,
    /// The file name.
    FileName,
    /// Who put it into quarantine.
    QuarantinedBy,
    /// Whether it is protected.
    Protected,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPage {
    /// The media.
    pub items: Vec<MediaRecord>,
    /// How many the whole list has.
    pub total: u64,
}

impl Media {
    /// All that is known of a media that is here, or reserved here; in quarantine too.
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    pub fn describe(&self, mxc: &Mxc) -> Result<MediaRecord, MediaError> {
        let row = self.0.store.get(&MEDIA, &mxc.key())?.ok_or(MediaError::NotFound)?;
        self.0.describe(mxc.clone(), row)
    }

    /// Who put the media into quarantine, whether it is here or not.
    ///
    /// # Errors
    /// `Storage`.
    pub fn quarantined_by(&self, mxc: &Mxc) -> Result<Option<String>, MediaError> {
        let mark = self.0.store.get(&MARKS, &mxc.key())?;
        Ok(mark.and_then(|mark| mark.quarantine).map(|mark| mark.by))
    }

    /// A part of what a user of this server has uploaded. By time of upload it reads what it returns and what is before
    /// it; in any other order all media of the user.
    ///
    /// # Errors
    /// `Storage`.
    pub fn user_media(
        &self,
        user_id: &str,
        order: MediaOrder,
        newest_first: bool,
        from: usize,
        limit: usize,
    ) -> Result<MediaPage, MediaError> {
        let total = self.user_usage(user_id)?.count;
        let user = user_id.to_owned();
        let scan = self.0.store.scan(&BY_USER, &user);
        if order == MediaOrder::Created {
            let scan = if newest_first { scan.reverse() } else { scan };
            let mut items = Vec::new();
            for key in scan.keys().skip(from).take(limit) {
                items.extend(self.0.describe_indexed(key?.2)?);
            }
            return Ok(MediaPage { items, total });
        }
        let mut items = Vec::new();
        for key in scan.keys() {
            items.extend(self.0.describe_indexed(key?.2)?);
        }
        sort(&mut items, order);
        if newest_first {
            items.reverse();
        }
        Ok(MediaPage { items: items.into_iter().skip(from).take(limit).collect(), total })
    }

    /// The media of a user that come after the one uploaded at a time, oldest first, at most `limit`, each with its time:
    /// for work that goes through all of them in steps.
    ///
    /// # Errors
    /// `Storage`.
    pub fn user_media_after(
        &self,
        user_id: &str,
        after: Option<(u64, &str)>,
        limit: usize,
    ) -> Result<Vec<(u64, Mxc)>, MediaError> {
        let user = user_id.to_owned();
        let mut scan = self.0.store.scan(&BY_USER, &user);
        if let Some((created_ms, media_id)) = after {
            scan = scan.after(&(user.clone(), created_ms, media_id.to_owned()));
        }
        let mut found = Vec::new();
        for key in scan.keys().take(limit) {
            let (_, created_ms, media_id) = key?;
            if let Ok(mxc) = Mxc::with_server(self.0.server_name.clone(), &media_id) {
                found.push((created_ms, mxc));
            }
        }
        Ok(found)
    }

    /// Every media that is here after one in the order of servers and ids, at most `limit`.
    ///
    /// # Errors
    /// `Storage`.
    pub fn media_after(&self, after: Option<&Mxc>, limit: usize) -> Result<Vec<MediaRecord>, MediaError> {
        let scan = self.0.store.scan(&MEDIA, &());
        let scan = match after {
            Some(mxc) => scan.after(&mxc.key()),
            None => scan,
        };
        let mut found = Vec::new();
        for row in scan.iter().take(limit) {
            let ((server, media_id), row) = row?;
            if let Ok(mxc) = Mxc::new(&server, &media_id) {
                found.push(self.0.describe(mxc, row)?);
            }
        }
        Ok(found)
    }
}

fn sort(items: &mut [MediaRecord], order: MediaOrder) {
    let content = |record: &MediaRecord| record.content.clone();
    items.sort_by(|a, b| a.mxc.media_id().cmp(b.mxc.media_id()));
    match order {
        MediaOrder::Created => items.sort_by_key(|record| record.created_ms),
        MediaOrder::LastAccess => items.sort_by_key(|record| record.last_access_ms),
        MediaOrder::MediaId => {}
        MediaOrder::Length => items.sort_by_key(|record| record.content.as_ref().map_or(0, |content| content.length)),
        MediaOrder::ContentType => items.sort_by_cached_key(|record| content(record).map(|it| it.content_type)),
        MediaOrder::FileName => items.sort_by_cached_key(|record| content(record).map(|it| it.file_name)),
        MediaOrder::QuarantinedBy => items.sort_by_cached_key(|record| record.quarantined_by.clone()),
        MediaOrder::Protected => items.sort_by_key(|record| record.is_protected),
    }
}

impl Inner {
    fn describe_indexed(&self, media_id: String) -> Result<Option<MediaRecord>, MediaError> {
        let key: MediaKey = (self.server_name.as_str().to_owned(), media_id);
        let Ok(mxc) = Mxc::with_server(self.server_name.clone(), &key.1) else { return Ok(None) };
        // Deleted since the list was read, if it is not there.
        self.store.get(&MEDIA, &key)?.map(|row| self.describe(mxc, row)).transpose()
    }

    fn describe(&self, mxc: Mxc, row: MediaRow) -> Result<MediaRecord, MediaError> {
        let key = mxc.key();
        let mark = self.store.get(&MARKS, &key)?.unwrap_or_default();
        let mut is_hidden_by_content = false;
        let content = match row.state {
            MediaState::Pending { .. } => None,
            MediaState::Complete { hash, length, content_type, file_name } => {
                let is_blocked = self.store.get(&QUARANTINED_FILES, &hash)?.is_some_and(|count| count > 0);
                is_hidden_by_content = is_blocked && mark.quarantine.is_none() && mark.protection.is_none();
                Some(MediaContent { length, content_type, file_name, sha256: hex(&hash) })
            }
        };
        Ok(MediaRecord {
            mxc,
            uploader: row.uploader,
            created_ms: row.created_ms,
            content,
            last_access_ms: self.store.get(&ACCESSES, &key)?,
            quarantined_by: mark.quarantine.map(|mark| mark.by),
            is_hidden_by_content,
            is_protected: mark.protection.is_some(),
        })
    }
}

#[cfg(test)]
mod tests;
