//! Account data with their logs, and filters.

use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use storage::Read;

use super::Check;
use crate::{
    UserError,
    account_data::{GLOBAL_DATA, GLOBAL_DATA_LOG, ROOM_DATA, ROOM_DATA_LOG},
    filters::{FILTER_IDS, FILTERS},
};

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

impl Check<'_> {
    /// A row without its log entry would never be synced. Entries without a row of the same position are normal for
    /// global data, where concurrent changes do not wait for each other; readers skip them.
    pub(super) fn check_account_data(&mut self) -> Result<(), UserError> {
        for row in self.store.scan(&GLOBAL_DATA, &()).iter() {
            let ((user, kind), row) = row?;
            self.expect_of_user(self.accounts.contains_key(&user), user, || format!("has {kind}, but no account"));
            let logged = self.store.contains(&GLOBAL_DATA_LOG, &(user, row.pos, kind.clone()))?;
            self.expect_of_user(logged, user, || format!("the change of {kind} at {} is not logged", row.pos.0));
            self.expect_of_user(is_json(&row.value), user, || format!("{kind} is not JSON"));
        }
        for row in self.store.scan(&ROOM_DATA, &()).iter() {
            let ((user, room, kind), row) = row?;
            self.expect_of_user(self.accounts.contains_key(&user), user, || format!("has {kind}, but no account"));
            let logged = self.store.contains(&ROOM_DATA_LOG, &(user, row.pos, room, kind.clone()))?;
            self.expect_of_user(logged, user, || {
                format!("the change of {kind} of room {} at {} is not logged", room.0, row.pos.0)
            });
            self.expect_of_user(is_json(&row.value), user, || format!("{kind} of room {} is not JSON", room.0));
        }
        for key in self.store.scan(&ROOM_DATA_LOG, &()).keys() {
            let (user, pos, room, kind) = key?;
            let row = self.store.get(&ROOM_DATA, &(user, room, kind.clone()))?;
            let holds = row.is_some_and(|row| row.pos == pos) || !self.is_active(user);
            self.expect_of_user(holds, user, || {
                format!("the log at {} names {kind} of room {}, which has another position", pos.0, room.0)
            });
        }
        Ok(())
    }

    pub(super) fn check_filters(&mut self) -> Result<(), UserError> {
        for row in self.store.scan(&FILTERS, &()).iter() {
            let ((user, id), json) = row?;
            let hash: [u8; 32] = Sha256::digest(&json).into();
            let found = self.store.get(&FILTER_IDS, &(user, hash))?;
            self.expect_of_user(found == Some(id) || !self.is_active(user), user, || {
                format!("filter {id} is not found by its content")
            });
            self.expect_of_user(is_json(&json), user, || format!("filter {id} is not JSON"));
        }
        for row in self.store.scan(&FILTER_IDS, &()).iter() {
            let ((user, _), id) = row?;
            let there = self.store.contains(&FILTERS, &(user, id))?;
            self.expect_of_user(there || !self.is_active(user), user, || format!("filter {id} is missing"));
        }
        Ok(())
    }
}
