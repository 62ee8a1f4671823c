//! Deleting media, and removing what nobody uses.

use std::sync::Arc;

use storage::{Batch, CommitError, Read};

use crate::disk::Hash;
use crate::error::{MediaError, run_blocking};
use crate::media::{Inner, Media};
use crate::mxc::Mxc;
use crate::rows::{ACCESSES, FILES, MEDIA, MediaState, PENDING, THUMBNAILS};

/// What [`Media::sweep`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Reserved ids that had expired.
    pub reservations: u64,
    /// Files that no row used.
    pub files: u64,
}

impl Media {
    /// Deletes media and its thumbnails; `false` if there was nothing. Dropped half-way, a second call goes on.
    ///
    /// # Errors
    /// `Disk`, `Storage`, `Commit`.
    pub async fn delete(&self, mxc: &Mxc) -> Result<bool, MediaError> {
        let inner = &*self.0;
        let (key, mut found) = (mxc.key(), false);
        // First the media: a thumbnail made meanwhile expects its row and fails.
        while let Some(row) = inner.store.get(&MEDIA, &key)? {
            found = true;
            let mut batch = Batch::new();
            batch.expect_equals(&MEDIA, &key, &row).delete(&MEDIA, &key).delete(&ACCESSES, &key);
            inner.count_out(&mut batch, &key, &row);
            let deleted = match &row.state {
                MediaState::Pending { expires_ms } => {
                    let user = row.uploader.clone().unwrap_or_default();
                    batch.delete(&PENDING, &(user, *expires_ms, key.1.clone()));
                    inner.store.commit(batch).await.map(|_| ()).map_err(MediaError::from)
                }
                MediaState::Complete { hash, .. } => inner.commit_release(batch, hash).await,
            };
            match deleted {
                Err(MediaError::Commit(CommitError::Expectation { .. })) => {}
                other => other?,
            }
        }
        let thumbnails = inner.store.scan(&THUMBNAILS, &key).iter().collect::<Result<Vec<_>, _>>()?;
        for (key, row) in thumbnails {
            let mut batch = Batch::new();
            batch.expect_equals(&THUMBNAILS, &key, &row).delete(&THUMBNAILS, &key);
            match &row.file {
                Some((hash, _)) => inner.commit_release(batch, hash).await?,
                None => inner.store.commit(batch).await.map(|_| ())?,
            }
        }
        inner.arrival(mxc).notify_waiters();
        Ok(found)
    }

    /// Removes expired reservations and files that no row uses (left by a crash or a backup). Safe at any time; reads
    /// the whole media folder. Cancel-safe.
    ///
    /// # Errors
    /// `Disk`, `Storage`, `Commit`.
    pub async fn sweep(&self) -> Result<SweepReport, MediaError> {
        let inner = &*self.0;
        let mut report = SweepReport::default();
        let now = inner.clock.now_ms();
        let pending = inner.store.scan(&PENDING, &()).keys().collect::<Result<Vec<_>, _>>()?;
        for row in pending.into_iter().filter(|(_, expires_ms, _)| *expires_ms <= now) {
            inner.drop_reservation(row).await?;
            report.reservations += 1;
        }
        let disk = Arc::clone(&inner.disk);
        let files = run_blocking(move || {
            let mut files = Vec::new();
            disk.for_each_file(|hash| files.push(hash)).map_err(MediaError::disk("list the media folder"))?;
            Ok(files)
        })
        .await?;
        for hash in files {
            let _guard = inner.lock_file(&hash).await;
            report.files += u64::from(inner.remove_if_unused(&hash).await?);
        }
        Ok(report)
    }
}

impl Inner {
    /// Removes an expired reservation, unless its upload has arrived after all.
    pub(crate) async fn drop_reservation(&self, pending: (String, u64, String)) -> Result<(), MediaError> {
        let key = (self.server_name.as_str().to_owned(), pending.2.clone());
        let mut batch = Batch::new();
        if let Some(row) = self.store.get(&MEDIA, &key)?
            && matches!(row.state, MediaState::Pending { .. })
        {
            batch.expect_equals(&MEDIA, &key, &row).delete(&MEDIA, &key);
        }
        batch.delete(&PENDING, &pending);
        match self.store.commit(batch).await {
            // The upload arrived just now and has removed the reservation itself.
            Ok(_) | Err(CommitError::Expectation { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Commits a batch that gives up one use of a file, and removes the file after the last.
    async fn commit_release(&self, mut batch: Batch, hash: &Hash) -> Result<(), MediaError> {
        let _guard = self.lock_file(hash).await;
        batch.add(&FILES, hash, -1);
        self.store.commit(batch).await?;
        self.remove_if_unused(hash).await?;
        Ok(())
    }

    /// Removes a file that no row uses, unless files are held; says whether it did. The caller holds the file's lock.
    pub(crate) async fn remove_if_unused(&self, hash: &Hash) -> Result<bool, MediaError> {
        match self.store.get(&FILES, hash)? {
            Some(uses) if uses > 0 => return Ok(false),
            // Asked only after the row was read; a later sweep comes by again.
            _ if self.holds_files() => return Ok(false),
            Some(_) => {
                let mut batch = Batch::new();
                batch.delete(&FILES, hash);
                self.store.commit(batch).await?;
            }
            None => {}
        }
        let (disk, hash) = (Arc::clone(&self.disk), *hash);
        run_blocking(move || disk.remove(&hash).map_err(MediaError::disk("remove a media file"))).await?;
        Ok(true)
    }
}
