//! Numbers for users and rooms.

use spec::ids::{RoomId, UserId};
use storage::{Batch, CommitError, Read};

use crate::error::RoomError;
use crate::ids::{RoomNid, UserNid};
use crate::keyspaces::{DELETING, HEADS, ROOM_NIDS, USER_IDS, USER_NIDS};
use crate::rooms::Rooms;

impl Rooms {
    /// The user's number, if the user was ever seen here.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn user_nid(&self, user: &UserId) -> Result<Option<UserNid>, RoomError> {
        if let Some(nid) = self.memory.user_nids.get(user.as_str()) {
            return Ok(Some(nid));
        }
        let nid = self.store.get(&USER_NIDS, &user.as_str().to_owned())?;
        if let Some(nid) = nid {
            self.memory.user_nids.insert(user.as_str().into(), nid);
        }
        Ok(nid)
    }

    /// The user's number; gives one to a user never seen before. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn intern_user(&self, user: &UserId) -> Result<UserNid, RoomError> {
        loop {
            if let Some(nid) = self.user_nid(user)? {
                return Ok(nid);
            }
            let nid = self.new_user_nid();
            let mut batch = Batch::new();
            batch.expect_absent(&USER_NIDS, &user.as_str().to_owned()).expect_absent(&USER_IDS, &nid);
            batch.put(&USER_NIDS, &user.as_str().to_owned(), &nid).put(&USER_IDS, &nid, &user.as_str().to_owned());
            match self.store.commit(batch).await {
                // Someone else was faster, with this user or with this number: look again.
                Ok(_) | Err(CommitError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives numbers to all of these users who have none. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn intern_users(&self, users: impl IntoIterator<Item = &UserId>) -> Result<(), RoomError> {
        let mut unknown = std::collections::BTreeSet::new();
        for user in users {
            if self.user_nid(user)?.is_none() {
                unknown.insert(user.clone());
            }
        }
        if unknown.len() > 1 {
            let mut batch = Batch::new();
            for user in &unknown {
                let nid = self.new_user_nid();
                batch.expect_absent(&USER_NIDS, &user.as_str().to_owned()).expect_absent(&USER_IDS, &nid);
                batch.put(&USER_NIDS, &user.as_str().to_owned(), &nid).put(&USER_IDS, &nid, &user.as_str().to_owned());
            }
            match self.store.commit(batch).await {
                Ok(_) => return Ok(()),
                // Someone else was faster with one of them: one at a time, then.
                Err(CommitError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for user in &unknown {
            self.intern_user(user).await?;
        }
        Ok(())
    }

    /// The id behind a number.
    ///
    /// # Errors
    /// [`RoomError::Inconsistent`] for a number that was never given.
    pub fn user_id(&self, nid: UserNid) -> Result<UserId, RoomError> {
        if let Some(user) = self.memory.user_ids.get(&nid) {
            return Ok(user);
        }
        let id = self.store.get(&USER_IDS, &nid)?.ok_or(RoomError::Inconsistent("unknown user number"))?;
        let user = UserId::parse(id).map_err(|_| RoomError::Inconsistent("malformed user id"))?;
        self.memory.user_ids.insert(nid, user.clone());
        Ok(user)
    }

    /// Users that were ever seen here, whose numbers come after one: in the order of their numbers, at most `limit`.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn users_after(&self, after: UserNid, limit: usize) -> Result<Vec<(UserNid, UserId)>, RoomError> {
        let mut users = Vec::new();
        for row in self.store.scan(&USER_IDS, &()).after(&after).iter().take(limit) {
            let (nid, id) = row?;
            users.push((nid, UserId::parse(id).map_err(|_| RoomError::Inconsistent("malformed user id"))?));
        }
        Ok(users)
    }

    /// The ids of all rooms that this server knows.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn room_ids(&self) -> Result<Vec<RoomId>, RoomError> {
        let ids = self.store.scan(&ROOM_NIDS, &()).keys();
        ids.map(|id| RoomId::parse(id?).map_err(|_| RoomError::Inconsistent("malformed room id"))).collect()
    }

    /// The room's number, if this server knows the room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn room_nid(&self, room: &RoomId) -> Result<Option<RoomNid>, RoomError> {
        let is_here = |nid: &RoomNid| !self.memory.gone.read().contains(nid);
        if let Some(nid) = self.memory.room_nids.get(room.as_str()).filter(is_here) {
            return Ok(Some(nid));
        }
        let nid = self.store.get(&ROOM_NIDS, &room.as_str().to_owned())?.filter(is_here);
        if let Some(nid) = nid {
            self.memory.room_nids.insert(room.as_str().into(), nid);
        }
        Ok(nid)
    }

    /// The room's number.
    ///
    /// # Errors
    /// [`RoomError::RoomNotFound`].
    pub fn known_room(&self, room: &RoomId) -> Result<RoomNid, RoomError> {
        self.room_nid(room)?.ok_or(RoomError::RoomNotFound)
    }

    /// The id behind a number.
    ///
    /// # Errors
    /// [`RoomError::Inconsistent`] for a number that was never given.
    pub fn room_id(&self, room: RoomNid) -> Result<RoomId, RoomError> {
        Ok(self.head(room)?.room_id().clone())
    }

    /// A number no user has, unless another process wrote to the store: guarded by `expect_absent`.
    fn new_user_nid(&self) -> UserNid {
        UserNid(self.memory.next_user.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    pub(crate) fn new_room_nid(&self) -> RoomNid {
        RoomNid(self.memory.next_room.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    /// One past the highest numbers in use.
    pub(crate) fn first_free_numbers(store: &storage::Store) -> Result<(u64, u64), RoomError> {
        let user = store.scan(&USER_IDS, &()).reverse().iter().next().transpose()?.map_or(1, |(nid, _)| nid.0 + 1);
        let room = store.scan(&HEADS, &()).reverse().keys().next().transpose()?.map_or(1, |nid| nid.0 + 1);
        // Others may know a room by its number that is gone.
        let gone = store.scan(&DELETING, &()).reverse().keys().next().transpose()?.map_or(1, |nid| nid.0 + 1);
        let room = room.max(gone);
        Ok((user, room))
    }
}
