//! Account data that a client does not have yet.

use std::collections::BTreeMap;

use rooms::{RoomNid, TOPIC_USER};
use storage::{StreamPos, Topic};
use users::{AccountDataEvent, RoomAccountDataEvent, Session};

use crate::error::SyncError;
use crate::sync::Inner;

/// What changed of a user's account data.
#[derive(Default)]
pub(crate) struct AccountDataChanges {
    pub global: Vec<AccountDataEvent>,
    pub rooms: BTreeMap<RoomNid, Vec<RoomAccountDataEvent>>,
}

impl Inner {
    /// Global account data and that of rooms, after `since`; without `since` all global account data.
    pub fn read_account_data(
        &self,
        caller: &Session,
        since: Option<StreamPos>,
        until: StreamPos,
    ) -> Result<AccountDataChanges, SyncError> {
        let Some(since) = since else {
            return Ok(AccountDataChanges {
                global: self.users.all_account_data(caller.user)?,
                rooms: BTreeMap::new(),
            });
        };
        if !self.feed.may_have_changed(Topic::new(TOPIC_USER, caller.user.0), since) {
            return Ok(AccountDataChanges::default());
        }
        let mut rooms: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for event in self.users.room_account_data_changes(caller.user, since, until)? {
            rooms.entry(event.room).or_default().push(event);
        }
        Ok(AccountDataChanges { global: self.users.account_data_changes(caller.user, since, until)?, rooms })
    }
}
