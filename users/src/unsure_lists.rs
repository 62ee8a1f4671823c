//! Changes of device lists of which it cannot be said yet whether they concern anybody here: their user's server is in a
//! partial room, so that the user may be a member who is not known yet (MSC3902).
//!
//! Nothing is kept of such a list but that it changed. Once the room's state is here, those who share a room are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use rooms::UserNid;
use spec::ids::{ServerName, UserId};
use storage::{Batch, Keyspace, Profile, Read, Store};

use crate::{UserError, Users};

/// The users whose lists have changed.
pub(crate) const UNSURE_DEVICE_LISTS: Keyspace<UserNid, ()> = Keyspace::new("unsure_device_lists", Profile::Points);

/// Of how many users such a change is remembered.
const MAX_USERS: usize = 10_000;
/// How many users one commit settles.
const SETTLED_TOGETHER: usize = 500;

/// How many rows there are, about.
#[derive(Debug, Default)]
pub(crate) struct UnsureLists(AtomicUsize);

impl UnsureLists {
    pub(crate) fn load(store: &Store) -> Result<Self, UserError> {
        let rows = store.scan(&UNSURE_DEVICE_LISTS, &()).keys().collect::<Result<Vec<_>, _>>()?;
        Ok(Self(AtomicUsize::new(rows.len())))
    }
}

impl Users {
    /// Remembers that the list of a user who shares no room as far as is known has changed, if that may turn out to be
    /// wrong. Cancel-safe.
    pub(crate) async fn note_unsure_list(&self, server: &ServerName, user_id: &UserId) -> Result<(), UserError> {
        if !self.rooms().is_in_partial_room(server)? || self.inner.unsure_lists.0.load(Ordering::Relaxed) >= MAX_USERS {
            return Ok(());
        }
        let user = self.rooms().intern_user(user_id).await?;
        if self.store().contains(&UNSURE_DEVICE_LISTS, &user)? {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(&UNSURE_DEVICE_LISTS, &user, &());
        self.store().commit(batch).await?;
        self.inner.unsure_lists.0.fetch_add(1, Ordering::Relaxed);
        // The room may have become full while this was written.
        if self.rooms().is_in_partial_room(server)? { Ok(()) } else { self.settle_unsure_lists().await }
    }

    /// Tells those who share a room of changes that came before it was known who does, and forgets those that concern
    /// nobody. To be called when a room has got its full state, and at the start. Cancel-safe, and may be repeated.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn settle_unsure_lists(&self) -> Result<(), UserError> {
        let users: Vec<UserNid> = self.store().scan(&UNSURE_DEVICE_LISTS, &()).keys().collect::<Result<_, _>>()?;
        let mut is_still_unsure: BTreeMap<ServerName, bool> = BTreeMap::new();
        let mut left = 0;
        for part in users.chunks(SETTLED_TOGETHER) {
            let (mut changed, mut settled) = (Vec::new(), Batch::new());
            for user in part {
                if self.is_tracked(*user)? {
                    changed.push(*user);
                } else if self.may_be_in_partial_room(*user, &mut is_still_unsure)? {
                    left += 1;
                    continue;
                }
                settled.delete(&UNSURE_DEVICE_LISTS, user);
            }
            self.record_remote_device_list_changes(&changed).await?;
            if !settled.is_empty() {
                self.store().commit(settled).await?;
            }
        }
        self.inner.unsure_lists.0.store(left, Ordering::Relaxed);
        Ok(())
    }

    fn may_be_in_partial_room(&self, user: UserNid, known: &mut BTreeMap<ServerName, bool>) -> Result<bool, UserError> {
        let user_id = self.rooms().user_id(user)?;
        let Ok(server) = ServerName::parse(user_id.server_name()) else { return Ok(false) };
        if let Some(known) = known.get(&server) {
            return Ok(*known);
        }
        let found = self.rooms().is_in_partial_room(&server)?;
        known.insert(server, found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
