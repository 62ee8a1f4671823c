//! When media were last asked for. Written at most once a day for each, so that downloads cost next to nothing.

use std::sync::Arc;

use storage::{Batch, CommitError, Read};

use crate::download::Complete;
use crate::error::MediaError;
use crate::media::{Inner, Media};
use crate::mxc::Mxc;
use crate::rows::{ACCESSES, MEDIA, MediaKey};

/// How old a time of access may be before it is written anew.
const GRAIN_MS: u64 = 24 * 3600 * 1000;
/// How many media may wait for their time to be written; further ones are not noted.
const MAX_NOTING: usize = 1024;

impl Media {
    /// When the media was last asked for, to within a day: milliseconds since the Unix epoch. None if never.
    ///
    /// # Errors
    /// `Storage`.
    pub fn last_access(&self, mxc: &Mxc) -> Result<Option<u64>, MediaError> {
        Ok(self.0.store.get(&ACCESSES, &mxc.key())?)
    }

    /// Notes that the media was asked for. Does not wait.
    pub(crate) fn note_access(&self, mxc: &Mxc, media: &Complete) {
        let (inner, key) = (&self.0, mxc.key());
        let now = inner.clock.now_ms();
        let is_fresh = |at: u64| now.saturating_sub(at) < GRAIN_MS;
        match inner.store.get(&ACCESSES, &key) {
            Ok(at) if at.is_some_and(is_fresh) => return,
            Ok(_) => {}
            Err(error) => return tracing::warn!(%error, "the time of an access could not be read"),
        }
        {
            let mut noting = inner.noting.lock();
            if noting.len() >= MAX_NOTING || !noting.insert(key.clone()) {
                return;
            }
        }
        let mut batch = Batch::new();
        // Media that are deleted meanwhile must not leave a time behind.
        batch.expect_equals(&MEDIA, &key, &media.row).put(&ACCESSES, &key, &now);
        let inner = Arc::clone(inner);
        drop(self.0.tasks.spawn("note an access of media", async move { inner.write_access(key, batch).await }));
    }
}

impl Inner {
    async fn write_access(&self, key: MediaKey, batch: Batch) {
        match self.store.commit(batch).await {
            Ok(_) | Err(CommitError::Expectation { .. } | CommitError::Closed) => {}
            Err(error) => tracing::warn!(%error, "the time of an access could not be written"),
        }
        self.noting.lock().remove(&key);
    }
}
