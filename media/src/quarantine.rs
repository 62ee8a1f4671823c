//! Quarantine: media that nobody may see, although it is kept; and protection from it.
//!
//! A quarantine is a row of its own, so that it holds for media that are not here, or not any more: remote media are not
//! fetched again. It also covers every other media with the same bytes, but for protected ones.

use serde::Serialize;
use storage::{Batch, CommitError, Read, StreamPos};

use crate::disk::Hash;
use crate::error::MediaError;
use crate::media::{Inner, Media};
use crate::mxc::Mxc;
use crate::rows::{
    MARKS, MEDIA, Mark, MarkRow, MediaKey, MediaState, QUARANTINE_LOG, QUARANTINED_FILES, QuarantineRow,
};

/// What became of a wish to quarantine media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantined {
    /// It is quarantined from now on.
    Now,
    /// It was before.
    Before,
    /// It is protected, so it is not.
    Protected,
}

/// A change of a quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuarantineChange {
    /// Its place among all changes; increasing.
    pub id: u64,
    /// Where the media is from.
    pub server: String,
    /// The media id.
    pub media_id: String,
    /// Whether it was put into quarantine, or taken out.
    pub quarantined: bool,
    /// Who did it.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Media {
    /// Hides media from everybody, its thumbnails included. Remote media need not be here, and are not fetched any
    /// more. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound` for media of this server that do not exist; `Storage`, `Commit`.
    pub async fn quarantine(&self, mxc: &Mxc, by: &str) -> Result<Quarantined, MediaError> {
        let (inner, key) = (&*self.0, mxc.key());
        loop {
            let row = inner.store.get(&MEDIA, &key)?;
            if row.is_none() && self.is_local(mxc) {
                return Err(MediaError::NotFound);
            }
            let before = inner.store.get(&MARKS, &key)?;
            let mut mark = before.clone().unwrap_or_default();
            if mark.quarantine.is_some() {
                return Ok(Quarantined::Before);
            }
            if mark.protection.is_some() {
                return Ok(Quarantined::Protected);
            }
            mark.quarantine = Some(inner.mark_by(by));
            mark.hash = row.and_then(|row| match row.state {
                MediaState::Complete { hash, .. } => Some(hash),
                MediaState::Pending { .. } => None,
            });
            let mut batch = Batch::new();
            if let Some(hash) = &mark.hash {
                batch.add(&QUARANTINED_FILES, hash, 1);
            }
            inner.log_quarantine(&mut batch, &key, true, by);
            if inner.commit_mark(batch, &key, before.as_ref(), &mark).await? {
                return Ok(Quarantined::Now);
            }
        }
    }

    /// Ends a quarantine; `false` if there was none. Cancel-safe.
    ///
    /// # Errors
    /// `Storage`, `Commit`.
    pub async fn unquarantine(&self, mxc: &Mxc, by: &str) -> Result<bool, MediaError> {
        let (inner, key) = (&*self.0, mxc.key());
        loop {
            let before = inner.store.get(&MARKS, &key)?;
            let mut mark = before.clone().unwrap_or_default();
            if mark.quarantine.take().is_none() {
                return Ok(false);
            }
            let mut batch = Batch::new();
            if let Some(hash) = mark.hash.take() {
                batch.add(&QUARANTINED_FILES, &hash, -1);
            }
            inner.log_quarantine(&mut batch, &key, false, by);
            if inner.commit_mark(batch, &key, before.as_ref(), &mark).await? {
                return Ok(true);
            }
        }
    }

    /// Protects media of this server from being quarantined, or ends that; `false` if nothing changed. A quarantine
    /// that exists goes on. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`: no such media, or it is of another server. `Storage`, `Commit`.
    pub async fn set_protected(&self, mxc: &Mxc, protected: bool, by: &str) -> Result<bool, MediaError> {
        let (inner, key) = (&*self.0, mxc.key());
        loop {
            if !self.is_local(mxc) || !inner.store.contains(&MEDIA, &key)? {
                return Err(MediaError::NotFound);
            }
            let before = inner.store.get(&MARKS, &key)?;
            let mut mark = before.clone().unwrap_or_default();
            if mark.protection.is_some() == protected {
                return Ok(false);
            }
            mark.protection = protected.then(|| inner.mark_by(by));
            if inner.commit_mark(Batch::new(), &key, before.as_ref(), &mark).await? {
                return Ok(true);
            }
        }
    }

    /// Changes of quarantines after the one with this id (0 for all), oldest first, at most `limit`.
    ///
    /// # Errors
    /// `Storage`.
    pub fn quarantine_changes(&self, after: u64, limit: usize) -> Result<Vec<QuarantineChange>, MediaError> {
        let rows = self.0.store.scan(&QUARANTINE_LOG, &()).after(&StreamPos(after)).iter().take(limit);
        rows.map(|row| {
            let (pos, row) = row?;
            let QuarantineRow { server, media_id, quarantined, by, at_ms } = row;
            Ok(QuarantineChange { id: pos.0, server, media_id, quarantined, by, at_ms })
        })
        .collect()
    }

    /// The id of the last change of a quarantine; 0 if there was none.
    ///
    /// # Errors
    /// `Storage`.
    pub fn last_quarantine_change(&self) -> Result<u64, MediaError> {
        let last = self.0.store.scan(&QUARANTINE_LOG, &()).reverse().keys().next().transpose()?;
        Ok(last.map_or(0, |pos| pos.0))
    }
}

impl Inner {
    fn mark_by(&self, by: &str) -> Mark {
        Mark { by: by.to_owned(), at_ms: self.clock.now_ms() }
    }

    fn log_quarantine(&self, batch: &mut Batch, key: &MediaKey, quarantined: bool, by: &str) {
        let Mark { by, at_ms } = self.mark_by(by);
        let row = QuarantineRow { server: key.0.clone(), media_id: key.1.clone(), quarantined, by, at_ms };
        batch.put(&QUARANTINE_LOG, &StreamPos::PENDING, &row);
    }

    /// Commits a changed mark; `false` if it has changed meanwhile.
    async fn commit_mark(
        &self,
        mut batch: Batch,
        key: &MediaKey,
        before: Option<&MarkRow>,
        mark: &MarkRow,
    ) -> Result<bool, MediaError> {
        match before {
            Some(before) => batch.expect_equals(&MARKS, key, before),
            None => batch.expect_absent(&MARKS, key),
        };
        match mark == &MarkRow::default() {
            true => batch.delete(&MARKS, key),
            false => batch.put(&MARKS, key, mark),
        };
        match self.store.commit(batch).await {
            Ok(_) => Ok(true),
            Err(CommitError::Expectation { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses media that nobody may see.
    pub(crate) fn check_shown(&self, key: &MediaKey, hash: Option<&Hash>) -> Result<(), MediaError> {
        let mark = self.store.get(&MARKS, key)?;
        if mark.as_ref().is_some_and(|mark| mark.quarantine.is_some()) {
            return Err(MediaError::NotFound);
        }
        let Some(hash) = hash.filter(|_| mark.is_none_or(|mark| mark.protection.is_none())) else { return Ok(()) };
        match self.store.get(&QUARANTINED_FILES, hash)? {
            Some(count) if count > 0 => Err(MediaError::NotFound),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
