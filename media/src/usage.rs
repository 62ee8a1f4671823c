//! How much there is: media by uploader, and sums that are kept with every change, so that reading them is cheap.

use std::collections::BTreeMap;

use storage::{Batch, Read, Store};

use crate::error::MediaError;
use crate::media::{Inner, Media};
use crate::rows::{BY_USER, COUNTED, MEDIA, MediaKey, MediaRow, MediaState, TOTALS, TotalKey};

mod days;

const LOCAL: u8 = 0;
const REMOTE: u8 = 1;
const USER: u8 = 2;
const COUNT: u8 = 0;
const BYTES: u8 = 1;

/// How many rows are written at a time when the sums are made for the first time.
const CHUNK: usize = 2000;

/// A number of media and their bytes. Equal files count each time, although they are stored once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many media.
    pub count: u64,
    /// How many bytes they have together, thumbnails not counted.
    pub bytes: u64,
}

/// What the whole server stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerUsage {
    /// Media of this server's users, and images of previews.
    pub local: Usage,
    /// Copies of media of other servers.
    pub remote: Usage,
}

impl Usage {
    fn add(&mut self, length: u64) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(length);
    }
}

impl Media {
    /// What a user of this server has uploaded and is still here.
    ///
    /// # Errors
    /// `Storage`.
    pub fn user_usage(&self, user_id: &str) -> Result<Usage, MediaError> {
        self.0.usage(USER, user_id)
    }

    /// What the whole server stores.
    ///
    /// # Errors
    /// `Storage`.
    pub fn server_usage(&self) -> Result<ServerUsage, MediaError> {
        Ok(ServerUsage { local: self.0.usage(LOCAL, "")?, remote: self.0.usage(REMOTE, "")? })
    }

    /// What each user who has media has, by user id.
    ///
    /// # Errors
    /// `Storage`.
    pub fn all_usage(&self) -> Result<BTreeMap<String, Usage>, MediaError> {
        let mut users: BTreeMap<String, Usage> = BTreeMap::new();
        for row in self.0.store.scan(&TOTALS, &USER).iter() {
            let ((_, user, what), amount) = row?;
            let Ok(amount) = u64::try_from(amount) else { continue };
            if amount == 0 {
                continue;
            }
            let usage = users.entry(user).or_default();
            match what {
                COUNT => usage.count = amount,
                _ => usage.bytes = amount,
            }
        }
        users.retain(|_, usage| usage.count > 0);
        Ok(users)
    }

    /// As [`Media::all_usage`], of what was uploaded from `from_ms` to `until_ms` (milliseconds since the Unix epoch,
    /// both included). Reads a row for each media of this server.
    ///
    /// # Errors
    /// `Storage`.
    pub fn usage_between(&self, from_ms: u64, until_ms: u64) -> Result<BTreeMap<String, Usage>, MediaError> {
        let mut users: BTreeMap<String, Usage> = BTreeMap::new();
        for row in self.0.store.scan(&BY_USER, &()).iter() {
            let ((user, created_ms, _), length) = row?;
            if (from_ms..=until_ms).contains(&created_ms) {
                users.entry(user).or_default().add(length);
            }
        }
        Ok(users)
    }
}

fn change(batch: &mut Batch, whose: u8, user: &str, length: u64, sign: i64) {
    let bytes = i64::try_from(length).unwrap_or(i64::MAX).saturating_mul(sign);
    batch.add(&TOTALS, &(whose, user.to_owned(), COUNT), sign);
    batch.add(&TOTALS, &(whose, user.to_owned(), BYTES), bytes);
}

impl Inner {
    /// Adds the rows about a media that is stored by this batch.
    pub(crate) fn count_in(&self, batch: &mut Batch, key: &MediaKey, row: &MediaRow) {
        let MediaState::Complete { length, .. } = row.state else { return };
        let is_local = key.0 == self.server_name.as_str();
        change(batch, if is_local { LOCAL } else { REMOTE }, "", length, 1);
        days::count(batch, row.created_ms, is_local, length);
        if let (true, Some(user)) = (is_local, &row.uploader) {
            batch.put(&BY_USER, &(user.clone(), row.created_ms, key.1.clone()), &length);
            change(batch, USER, user, length, 1);
        }
    }

    /// Takes back [`Inner::count_in`] for a media that is deleted by this batch.
    pub(crate) fn count_out(&self, batch: &mut Batch, key: &MediaKey, row: &MediaRow) {
        let MediaState::Complete { length, .. } = row.state else { return };
        let is_local = key.0 == self.server_name.as_str();
        change(batch, if is_local { LOCAL } else { REMOTE }, "", length, -1);
        if let (true, Some(user)) = (is_local, &row.uploader) {
            batch.delete(&BY_USER, &(user.clone(), row.created_ms, key.1.clone()));
            change(batch, USER, user, length, -1);
        }
    }

    /// The bytes of a user's media.
    pub(crate) fn user_bytes(&self, user: &str) -> Result<u64, MediaError> {
        Ok(self.usage(USER, user)?.bytes)
    }

    /// The bytes of all media of this server.
    pub(crate) fn local_bytes(&self) -> Result<u64, MediaError> {
        Ok(self.usage(LOCAL, "")?.bytes)
    }

    fn usage(&self, whose: u8, user: &str) -> Result<Usage, MediaError> {
        let read = |what| -> Result<u64, MediaError> {
            let amount = self.store.get(&TOTALS, &(whose, user.to_owned(), what))?;
            Ok(u64::try_from(amount.unwrap_or(0)).unwrap_or(0))
        };
        Ok(Usage { count: read(COUNT)?, bytes: read(BYTES)? })
    }

    /// Counts what a release without these sums has left. Called before anything else changes media; begun again from
    /// the start if it was interrupted. Blocks.
    pub(crate) fn count_once(&self) -> Result<(), MediaError> {
        if self.store.contains(&COUNTED, &())? {
            return Ok(());
        }
        let mut sums: BTreeMap<(u8, String), Usage> = BTreeMap::new();
        let mut batch = Batch::new();
        let mut written = 0;
        for row in self.store.scan(&MEDIA, &()).iter() {
            let (key, row) = row?;
            let MediaState::Complete { length, .. } = row.state else { continue };
            let is_local = key.0 == self.server_name.as_str();
            sums.entry((if is_local { LOCAL } else { REMOTE }, String::new())).or_default().add(length);
            if let (true, Some(user)) = (is_local, row.uploader) {
                batch.put(&BY_USER, &(user.clone(), row.created_ms, key.1), &length);
                sums.entry((USER, user)).or_default().add(length);
                written += 1;
            }
            if written == CHUNK {
                written = 0;
                self.store.commit_blocking(std::mem::take(&mut batch))?;
            }
        }
        for ((whose, user), usage) in sums {
            let parts: [(TotalKey, u64); 2] =
                [((whose, user.clone(), COUNT), usage.count), ((whose, user, BYTES), usage.bytes)];
            for (key, amount) in parts {
                batch.put(&TOTALS, &key, &i64::try_from(amount).unwrap_or(i64::MAX));
            }
            written += 1;
            if written >= CHUNK {
                written = 0;
                self.store.commit_blocking(std::mem::take(&mut batch))?;
            }
        }
        batch.put(&COUNTED, &(), &self.clock.now_ms());
        self.store.commit_blocking(batch)?;
        Ok(())
    }
}

/// Where the sums and the media by user are not what the media say: place and what is wrong. None if they were not made
/// yet.
pub(crate) fn find_wrong(store: &Store) -> Result<Vec<(String, String)>, MediaError> {
    let mut wrong = Vec::new();
    if !store.contains(&COUNTED, &())? {
        return Ok(wrong);
    }
    let mut users: BTreeMap<String, Usage> = BTreeMap::new();
    let mut all = Usage::default();
    for row in store.scan(&MEDIA, &()).iter() {
        let ((server, media_id), row) = row?;
        let MediaState::Complete { length, .. } = row.state else { continue };
        all.add(length);
        let Some(user) = row.uploader else { continue };
        if store.get(&BY_USER, &(user.clone(), row.created_ms, media_id.clone()))? != Some(length) {
            wrong.push((format!("mxc://{server}/{media_id}"), format!("is not listed as uploaded by {user}")));
        }
        users.entry(user).or_default().add(length);
    }
    let listed = store.scan(&BY_USER, &()).keys().count();
    let expected: u64 = users.values().map(|usage| usage.count).sum();
    if u64::try_from(listed).ok() != Some(expected) {
        wrong.push(("media by user".to_owned(), format!("{listed} are listed, and there are {expected}")));
    }
    let mut counted = Usage::default();
    for row in store.scan(&TOTALS, &()).iter() {
        let ((whose, user, what), amount) = row?;
        let amount = u64::try_from(amount).unwrap_or(0);
        if whose != USER {
            match what {
                COUNT => counted.count = counted.count.saturating_add(amount),
                _ => counted.bytes = counted.bytes.saturating_add(amount),
            }
            continue;
        }
        let usage = users.get(&user).copied().unwrap_or_default();
        let real = if what == COUNT { usage.count } else { usage.bytes };
        if amount != real {
            wrong.push((user, format!("{amount} media or bytes are counted, and there are {real}")));
        }
    }
    if counted != all {
        wrong.push(("all media".to_owned(), format!("{counted:?} is counted, and there is {all:?}")));
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests;
