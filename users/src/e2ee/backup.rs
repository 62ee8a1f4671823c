//! Server-side key backup: versions, and the encrypted room keys in them.
//!
//! Spec: Client-Server API §"Server-side key backups".

use std::collections::BTreeMap;

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage::{Batch, Keyspace, Profile, Read, stored};

use crate::{UserError, Users};

/// Owner and version → its description. Deleted versions stay as a mark, so that numbers are not reused.
pub(crate) const BACKUP_VERSIONS: Keyspace<(UserNid, u64), BackupRow> =
    Keyspace::new("backup_versions", Profile::Points);
/// Owner, version, room ID, session ID → key as JSON.
pub(crate) const BACKUP_KEYS: Keyspace<(UserNid, u64, String, String), Vec<u8>> =
    Keyspace::new("backup_keys", Profile::Points);

const MAX_AUTH_DATA_BYTES: usize = 64 * 1024;
const MAX_KEY_BYTES: usize = 64 * 1024;
const MAX_ID_BYTES: usize = 255;
/// Uploads are committed in parts of about this size.
const BATCH_BYTES: usize = 512 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupRow {
    algorithm: String,
    auth_data: String,
    etag: u64,
    pub(crate) count: u64,
    pub(crate) is_deleted: bool,
}
stored!(BackupRow, 1);

/// A backup version.
#[derive(Clone, Debug)]
pub struct BackupVersion {
    /// Its number.
    pub version: u64,
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What clients need to use it.
    pub auth_data: Box<RawValue>,
    /// State of its content.
    pub etag: BackupEtag,
}

/// What changes whenever the keys in a backup change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupEtag {
    /// Opaque for clients.
    pub etag: u64,
    /// How many keys it holds.
    pub count: u64,
}

/// One key in a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyBackupData {
    /// First message that it decrypts.
    pub first_message_index: u64,
    /// How often it was forwarded.
    pub forwarded_count: u64,
    /// Whether the device that backed it up trusted its origin.
    pub is_verified: bool,
    /// The encrypted key.
    pub session_data: Box<RawValue>,
}

impl KeyBackupData {
    /// Whether this one should replace `old`.
    fn is_better_than(&self, old: &Self) -> bool {
        let rank = |key: &Self| {
            (key.is_verified, std::cmp::Reverse(key.first_message_index), std::cmp::Reverse(key.forwarded_count))
        };
        rank(self) > rank(old)
    }
}

/// Room ID → session ID → key.
pub type RoomKeys = BTreeMap<String, BTreeMap<String, KeyBackupData>>;

impl Users {
    /// Creates the next backup version, which becomes the current one. Cancel-safe.
    ///
    /// # Errors
    /// `BadJson`, `TooLarge`.
    pub async fn create_backup(&self, user: UserNid, algorithm: &str, auth_data: &RawValue) -> Result<u64, UserError> {
        check_auth_data(algorithm, auth_data)?;
        loop {
            let last = self.store().scan(&BACKUP_VERSIONS, &user).reverse().iter().next().transpose()?;
            let version = last.map_or(0, |((_, version), _)| version) + 1;
            let mut batch = Batch::new();
            batch.expect_absent(&BACKUP_VERSIONS, &(user, version));
            let row = BackupRow {
                algorithm: algorithm.to_owned(),
                auth_data: auth_data.get().to_owned(),
                etag: 0,
                count: 0,
                is_deleted: false,
            };
            batch.put(&BACKUP_VERSIONS, &(user, version), &row);
            if self.try_commit(batch).await?.is_some() {
                return Ok(version);
            }
        }
    }

    /// The current version: the newest that is not deleted.
    pub fn current_backup(&self, user: UserNid) -> Result<Option<BackupVersion>, UserError> {
        for row in self.store().scan(&BACKUP_VERSIONS, &user).reverse().iter() {
            let ((_, version), row) = row?;
            if !row.is_deleted {
                return version_view(version, row).map(Some);
            }
        }
        Ok(None)
    }

    /// One version.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn backup(&self, user: UserNid, version: u64) -> Result<BackupVersion, UserError> {
        version_view(version, self.backup_row(user, version)?)
    }

    fn backup_row(&self, user: UserNid, version: u64) -> Result<BackupRow, UserError> {
        self.store()
            .get(&BACKUP_VERSIONS, &(user, version))?
            .filter(|row| !row.is_deleted)
            .ok_or(UserError::NotFound("backup version"))
    }

    /// Replaces the `auth_data` of a version. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`, `InvalidParam` for another algorithm, `BadJson`, `TooLarge`.
    pub async fn update_backup(
        &self,
        user: UserNid,
        version: u64,
        algorithm: &str,
        auth_data: &RawValue,
    ) -> Result<(), UserError> {
        check_auth_data(algorithm, auth_data)?;
        self.change_backup(user, version, |row, _| {
            if row.algorithm != algorithm {
                return Err(UserError::InvalidParam("the algorithm of a backup cannot be changed"));
            }
            auth_data.get().clone_into(&mut row.auth_data);
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Deletes a version with its keys; deleting it again succeeds. Cancel-safe: a cancelled call may leave keys
    /// behind that nobody can reach, which the next call removes.
    ///
    /// # Errors
    /// `NotFound` if there never was such a version.
    pub async fn delete_backup(&self, user: UserNid, version: u64) -> Result<(), UserError> {
        let row = self.store().get(&BACKUP_VERSIONS, &(user, version))?;
        if !row.ok_or(UserError::NotFound("backup version"))?.is_deleted {
            self.change_backup(user, version, |row, _| {
                row.is_deleted = true;
                row.auth_data = "{}".to_owned();
                row.count = 0;
                Ok(())
            })
            .await?;
        }
        self.erase_rows(&BACKUP_KEYS, &(user, version)).await
    }

    /// Stores keys in the current version, keeping the better one where there is one already. Committed in parts;
    /// a cancelled call has stored some of them, and repeating it is harmless.
    ///
    /// # Errors
    /// `NotFound`, `WrongRoomKeysVersion`, `TooLarge`.
    pub async fn put_backup_keys(&self, user: UserNid, version: u64, keys: &RoomKeys) -> Result<BackupEtag, UserError> {
        self.check_current_version(user, version)?;
        let mut part = Vec::new();
        let mut bytes = 0;
        for (room_id, sessions) in keys {
            for (session_id, key) in sessions {
                let json = render_key(room_id, session_id, key)?;
                bytes += json.len();
                part.push((room_id, session_id, key, json));
                if bytes > BATCH_BYTES {
                    self.put_part(user, version, &part).await?;
                    part.clear();
                    bytes = 0;
                }
            }
        }
        self.put_part(user, version, &part).await
    }

    async fn put_part(
        &self,
        user: UserNid,
        version: u64,
        part: &[(&String, &String, &KeyBackupData, Vec<u8>)],
    ) -> Result<BackupEtag, UserError> {
        self.change_backup(user, version, |row, batch| {
            let mut changed = false;
            for (room_id, session_id, key, json) in part {
                let row_key = (user, version, (*room_id).clone(), (*session_id).clone());
                match self.store().get(&BACKUP_KEYS, &row_key)? {
                    Some(old) if !key.is_better_than(&parse_key(&old)?) => continue,
                    Some(_) => {}
                    None => row.count += 1,
                }
                batch.put(&BACKUP_KEYS, &row_key, json);
                changed = true;
            }
            row.etag += u64::from(changed);
            Ok(())
        })
        .await
    }

    fn check_current_version(&self, user: UserNid, version: u64) -> Result<(), UserError> {
        let current = self.current_backup(user)?.ok_or(UserError::NotFound("backup version"))?.version;
        if current == version { Ok(()) } else { Err(UserError::WrongRoomKeysVersion { current }) }
    }

    /// Keys of a version: all, those of one room, or one.
    ///
    /// # Errors
    /// `NotFound` for the version.
    pub fn backup_keys(
        &self,
        user: UserNid,
        version: u64,
        room_id: Option<&str>,
        session_id: Option<&str>,
    ) -> Result<RoomKeys, UserError> {
        self.backup_row(user, version)?;
        let mut keys = RoomKeys::new();
        self.visit_keys(user, version, room_id, session_id, |(_, _, room_id, session_id), json| {
            keys.entry(room_id).or_default().insert(session_id, parse_key(&json)?);
            Ok(())
        })?;
        Ok(keys)
    }

    /// Deletes keys of a version: all, those of one room, or one. Cancel-safe: a cancelled call has deleted some.
    ///
    /// # Errors
    /// `NotFound` for the version.
    pub async fn delete_backup_keys(
        &self,
        user: UserNid,
        version: u64,
        room_id: Option<&str>,
        session_id: Option<&str>,
    ) -> Result<BackupEtag, UserError> {
        let mut doomed = Vec::new();
        self.visit_keys(user, version, room_id, session_id, |key, _| {
            doomed.push(key);
            Ok(())
        })?;
        let mut etag = self.backup(user, version)?.etag;
        for page in doomed.chunks(1_000) {
            etag = self
                .change_backup(user, version, |row, batch| {
                    for key in page {
                        if self.store().contains(&BACKUP_KEYS, key)? {
                            batch.delete(&BACKUP_KEYS, key);
                            row.count = row.count.saturating_sub(1);
                        }
                    }
                    row.etag += 1;
                    Ok(())
                })
                .await?;
        }
        Ok(etag)
    }

    fn visit_keys(
        &self,
        user: UserNid,
        version: u64,
        room_id: Option<&str>,
        session_id: Option<&str>,
        mut visit: impl FnMut((UserNid, u64, String, String), Vec<u8>) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        match (room_id.map(str::to_owned), session_id.map(str::to_owned)) {
            (Some(room_id), Some(session_id)) => {
                let key = (user, version, room_id, session_id);
                if let Some(json) = self.store().get(&BACKUP_KEYS, &key)? {
                    visit(key, json)?;
                }
            }
            (Some(room_id), None) => {
                for row in self.store().scan(&BACKUP_KEYS, &(user, version, room_id)).iter() {
                    let (key, json) = row?;
                    visit(key, json)?;
                }
            }
            (None, _) => {
                for row in self.store().scan(&BACKUP_KEYS, &(user, version)).iter() {
                    let (key, json) = row?;
                    visit(key, json)?;
                }
            }
        }
        Ok(())
    }

    /// Changes a version's row and, in the same commit, what `change` adds to the batch; again if somebody else was
    /// faster: the row is what orders concurrent uploads.
    async fn change_backup(
        &self,
        user: UserNid,
        version: u64,
        mut change: impl FnMut(&mut BackupRow, &mut Batch) -> Result<(), UserError>,
    ) -> Result<BackupEtag, UserError> {
        let row_key = (user, version);
        loop {
            let old = self.backup_row(user, version)?;
            let mut row = old.clone();
            let mut batch = Batch::new();
            change(&mut row, &mut batch)?;
            let etag = BackupEtag { etag: row.etag, count: row.count };
            if row == old {
                return Ok(etag);
            }
            batch.expect_equals(&BACKUP_VERSIONS, &row_key, &old);
            batch.put(&BACKUP_VERSIONS, &row_key, &row);
            if self.try_commit(batch).await?.is_some() {
                return Ok(etag);
            }
        }
    }
}

fn version_view(version: u64, row: BackupRow) -> Result<BackupVersion, UserError> {
    Ok(BackupVersion {
        version,
        algorithm: row.algorithm,
        auth_data: RawValue::from_string(row.auth_data)
            .map_err(|_| UserError::Inconsistent("stored auth_data is not JSON"))?,
        etag: BackupEtag { etag: row.etag, count: row.count },
    })
}

fn check_auth_data(algorithm: &str, auth_data: &RawValue) -> Result<(), UserError> {
    if algorithm.is_empty() || algorithm.len() > MAX_ID_BYTES {
        return Err(UserError::InvalidParam("an algorithm has 1 to 255 bytes"));
    }
    if !auth_data.get().starts_with('{') {
        return Err(UserError::BadJson("auth_data is an object"));
    }
    if auth_data.get().len() > MAX_AUTH_DATA_BYTES { Err(UserError::TooLarge("auth_data")) } else { Ok(()) }
}

fn render_key(room_id: &str, session_id: &str, key: &KeyBackupData) -> Result<Vec<u8>, UserError> {
    if room_id.len() > MAX_ID_BYTES || session_id.len() > MAX_ID_BYTES {
        return Err(UserError::InvalidParam("a room or session ID has at most 255 bytes"));
    }
    if !key.session_data.get().starts_with('{') {
        return Err(UserError::BadJson("session_data is an object"));
    }
    let json = serde_json::to_vec(key).map_err(|_| UserError::Inconsistent("a backed-up key does not serialise"))?;
    if json.len() > MAX_KEY_BYTES { Err(UserError::TooLarge("the backed-up key")) } else { Ok(json) }
}

fn parse_key(json: &[u8]) -> Result<KeyBackupData, UserError> {
    serde_json::from_slice(json).map_err(|_| UserError::Inconsistent("a backed-up key is not readable"))
}

#[cfg(test)]
mod tests;
