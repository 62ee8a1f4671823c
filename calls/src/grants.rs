//! Whom a token was given for: the media server's names say it by hashes only, and a token outlives the reason for which
//! it was given.

use rooms::{Membership, RoomNid, UserNid};
use serde::{Deserialize, Serialize};
use spec::ids::UserId;
use storage::{Batch, Keyspace, Profile, Read};

use crate::calls::Calls;
use crate::error::CallError;
use crate::seat::LegKey;

/// (Call, participant) → who that is. The names are the media server's.
pub(crate) const CALL_GRANTS: Keyspace<(String, String), GrantRow> = Keyspace::new("call_grants", Profile::Points);

/// How long after its end a token may still be used: media take a moment after signalling, and clocks differ.
const LEEWAY_MS: u64 = 60_000;
/// How many rows one commit changes.
const BATCH: usize = 500;

/// A participant that was given a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GrantRow {
    /// Who.
    pub user: UserNid,
    /// On which device; of users of other servers only what they say.
    pub device: Option<String>,
    /// In which Matrix room.
    pub room: RoomNid,
    /// In which slot of it.
    pub slot: String,
    /// Whether the participant may send media.
    pub can_publish: bool,
    /// Until when the participant may join, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}
storage::stored!(GrantRow, 1);

impl Calls {
    /// Whether a participant may join now: it was given a token for this call lately, and what it was given for still
    /// holds. Reads a few rows; does not wait.
    #[must_use]
    pub fn may_join(&self, room: &str, identity: &str) -> bool {
        let key = LegKey { room: room.to_owned(), identity: identity.to_owned() };
        match self.find_guest(&key) {
            Ok(found) => found.is_some(),
            Err(error) => {
                tracing::error!(%error, "it cannot be read who wants to join a call");
                false
            }
        }
    }

    /// Who the participant is, if it may be in the call.
    pub(crate) fn find_guest(&self, key: &LegKey) -> Result<Option<GrantRow>, CallError> {
        let Some(grant) = self.store.get(&CALL_GRANTS, &key.row_key())? else { return Ok(None) };
        let is_fresh = grant.expires_ms.saturating_add(LEEWAY_MS) > self.clock.now_ms() || self.table.contains(key);
        Ok((is_fresh && self.is_welcome(&grant)?).then_some(grant))
    }

    /// Whether what a grant was given for still holds.
    pub(crate) fn is_welcome(&self, grant: &GrantRow) -> Result<bool, CallError> {
        let user = self.rooms.user_id(grant.user)?;
        match self.check_guest(grant.room, grant.user, &user, grant.device.as_deref()) {
            Ok(()) => Ok(true),
            Err(CallError::NotInRoom | CallError::Forbidden(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Refuses who is not in the room and, of the users of this server, who may not send or has no such device.
    pub(crate) fn check_guest(
        &self,
        room: RoomNid,
        nid: UserNid,
        user: &UserId,
        device: Option<&str>,
    ) -> Result<(), CallError> {
        let membership = self.rooms.membership(room, nid)?;
        if membership.is_none_or(|row| row.membership != Membership::Join) || !self.rooms.is_resident(room)? {
            return Err(CallError::NotInRoom);
        }
        if user.server_name() != self.rooms.server_name().as_str() {
            return Ok(());
        }
        if !self.users.may_send(nid)? {
            return Err(CallError::Forbidden("this account may not take part in calls"));
        }
        match device {
            Some(device) if self.users.device(nid, device)?.is_none() => {
                Err(CallError::Forbidden("the user has no such device"))
            }
            _ => Ok(()),
        }
    }

    /// Keeps whom a token is given for.
    pub(crate) async fn keep_grant(&self, key: &LegKey, grant: &GrantRow) -> Result<(), CallError> {
        let mut batch = Batch::new();
        batch.put(&CALL_GRANTS, &key.row_key(), grant);
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Until when a token that is given out now is good, in milliseconds since the Unix epoch.
    pub(crate) fn new_expiry(&self) -> u64 {
        let lifetime = u64::try_from(self.config.token_lifetime.duration().as_millis()).unwrap_or(u64::MAX);
        self.clock.now_ms().saturating_add(lifetime)
    }

    /// Lets those who are in calls come back after a restart, however long ago they joined.
    pub(crate) async fn renew_grants(&self) -> Result<(), CallError> {
        let keys = self.table.keys();
        for chunk in keys.chunks(BATCH) {
            let mut batch = Batch::new();
            for key in chunk {
                if let Some(grant) = self.store.get(&CALL_GRANTS, &key.row_key())? {
                    batch.put(&CALL_GRANTS, &key.row_key(), &GrantRow { expires_ms: self.new_expiry(), ..grant });
                }
            }
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    /// Forgets those who may not join any more and are not in.
    pub(crate) async fn forget_grants(&self) -> Result<(), CallError> {
        let now = self.clock.now_ms();
        let mut expired = Vec::new();
        for row in self.store.scan(&CALL_GRANTS, &()).iter() {
            let (key, grant) = row?;
            if grant.expires_ms.saturating_add(LEEWAY_MS) <= now {
                expired.push((key, grant));
            }
        }
        for chunk in expired.chunks(BATCH) {
            let mut batch = Batch::new();
            for (key, _) in chunk.iter().filter(|(key, _)| !self.table.contains(&LegKey::from(key.clone()))) {
                batch.delete(&CALL_GRANTS, key);
            }
            self.store.commit(batch).await?;
        }
        Ok(())
    }
}
