//! What is told of users of another server besides events (Server-Server API §EDUs): typing, receipts, presence,
//! messages to devices, changes of devices and keys.
//!
//! A server speaks for its own users only; whom a policy list keeps away is not heard. What is about a room counts only if the room's access control list lets
//! the server take part. An EDU that is wrong is dropped and never fails its transaction; only when something that
//! must not be lost cannot be written down is the transaction refused, so that it comes again.

use std::time::Duration;

use rooms::{Membership, RoomError, RoomNid, UserNid};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use spec::ids::{RoomId, ServerName, UserId};
use users::{Presence, PresenceState, UserError};

use crate::Federation;
use crate::inbound::error::ServeError;

mod receipts;

pub(super) use receipts::ParkedReceipts;

/// How long a user of another server counts as typing without being mentioned again.
const TYPING_TIME: Duration = Duration::from_secs(60);
/// The most users of one presence EDU.
const MAX_PRESENCE: usize = 500;

/// Why an EDU is not applied.
#[derive(Debug, thiserror::Error)]
enum EduError {
    /// It is not what its type says (remote server).
    #[error("malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is about somebody else's user, or a room that the server has no part in (remote server).
    #[error("{0}")]
    Refused(&'static str),
    /// The room domain did not take it.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The domain of accounts did not take it.
    #[error(transparent)]
    User(#[from] UserError),
}

impl EduError {
    /// Whether it is not the EDU's fault: it may be taken when it comes again.
    fn is_ours(&self) -> bool {
        match self {
            EduError::Malformed(_) | EduError::Refused(_) => false,
            EduError::Room(error) => is_ours(error),
            EduError::User(UserError::Rooms(error)) => is_ours(error),
            EduError::User(error) => matches!(
                error,
                UserError::Storage(_) | UserError::Commit(_) | UserError::Busy { .. } | UserError::ShuttingDown
            ),
        }
    }
}

fn is_ours(error: &RoomError) -> bool {
    matches!(error, RoomError::Storage(_) | RoomError::Commit(_) | RoomError::Busy)
}

impl From<EduError> for ServeError {
    fn from(error: EduError) -> Self {
        match error {
            EduError::Malformed(error) => ServeError::bad_json(error.to_string()),
            EduError::Refused(message) => ServeError::forbidden(message),
            EduError::Room(error) => error.into(),
            EduError::User(error) => error.into(),
        }
    }
}

#[derive(Deserialize)]
struct Typing {
    room_id: RoomId,
    user_id: UserId,
    typing: bool,
}

#[derive(Deserialize)]
struct PresenceUpdates {
    push: Vec<Value>,
}

#[derive(Deserialize)]
struct PresenceUpdate {
    user_id: UserId,
    presence: PresenceState,
    #[serde(default)]
    status_msg: Option<String>,
    #[serde(default)]
    last_active_ago: u64,
    #[serde(default)]
    currently_active: bool,
}

/// Whether an EDU was one that this server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    Yes,
    UnknownType,
}

impl Federation {
    /// Applies the EDUs of a transaction in their order. What is wrong with one of them concerns no other.
    ///
    /// # Errors
    /// Storage errors only: the transaction is to come again. Applying an EDU twice changes nothing.
    pub(super) async fn apply_edus(
        &self,
        origin: &ServerName,
        edus: Vec<Map<String, Value>>,
    ) -> Result<(), ServeError> {
        let counters = &self.inbound.counters;
        for mut edu in edus {
            let (kind, content) = (edu.remove("edu_type"), edu.remove("content"));
            let (Some(Value::String(kind)), Some(Value::Object(content))) = (kind, content) else {
                counters.edus_refused.add(1);
                continue;
            };
            match self.apply_edu(origin, &kind, content).await {
                Ok(Applied::Yes) => counters.edus_applied.add(1),
                Ok(Applied::UnknownType) => counters.edus_unknown.add(1),
                Err(error) if error.is_ours() => return Err(error.into()),
                Err(error) => {
                    counters.edus_refused.add(1);
                    tracing::debug!(%origin, kind, %error, "an EDU was not applied");
                }
            }
        }
        Ok(())
    }

    async fn apply_edu(
        &self,
        origin: &ServerName,
        kind: &str,
        content: Map<String, Value>,
    ) -> Result<Applied, EduError> {
        match kind {
            "m.typing" => self.apply_typing(origin, read(content)?).await?,
            "m.presence" => self.apply_presence(origin, read(content)?)?,
            "m.receipt" => self.apply_receipts(origin, content).await?,
            "m.direct_to_device" => self.apply_messages(origin, content).await?,
            "m.device_list_update" => self.users.receive_device_list_update(origin, content).await?,
            "m.signing_key_update" => self.users.receive_signing_key_update(origin, content).await?,
            _ => return Ok(Applied::UnknownType),
        }
        Ok(Applied::Yes)
    }

    async fn apply_messages(&self, origin: &ServerName, content: Map<String, Value>) -> Result<(), EduError> {
        let sender = content.get("sender").and_then(Value::as_str).and_then(|sender| UserId::parse(sender).ok());
        if let Some(sender) = sender {
            self.expect_heard(origin, &sender)?;
        }
        Ok(self.users.receive_to_device(origin, content).await?)
    }

    async fn apply_typing(&self, origin: &ServerName, typing: Typing) -> Result<(), EduError> {
        let room = self.find_edu_room(origin, &typing.room_id)?;
        let user = self.find_member(origin, room, &typing.user_id).await?;
        self.rooms.set_typing(room, user, typing.typing.then_some(TYPING_TIME));
        Ok(())
    }

    fn apply_presence(&self, origin: &ServerName, updates: PresenceUpdates) -> Result<(), EduError> {
        if !self.config.presence {
            return Ok(());
        }
        let now = self.clock.now_ms();
        for update in updates.push.into_iter().take(MAX_PRESENCE) {
            let update: PresenceUpdate = read_value(update)?;
            self.expect_heard(origin, &update.user_id)?;
            // Only of users who are in some room here is anything kept.
            let Some(user) = self.rooms.user_nid(&update.user_id)? else { continue };
            if self.rooms.joined_rooms(user)?.is_empty() {
                continue;
            }
            self.users.record_remote_presence(Presence {
                user,
                state: update.presence,
                status_msg: update.status_msg.map(Into::into),
                last_active_ms: now.saturating_sub(update.last_active_ago),
                currently_active: update.currently_active,
            });
        }
        Ok(())
    }

    /// A server speaks for its own users only, and for those of them who are not kept away from here.
    fn expect_heard(&self, origin: &ServerName, user: &UserId) -> Result<(), EduError> {
        if user.server_name() != origin.as_str() {
            return Err(EduError::Refused("a server speaks for its own users only"));
        }
        if !self.rooms.hears(user) {
            return Err(EduError::Refused("the user is kept away from this server"));
        }
        Ok(())
    }

    /// A room that an EDU is about, if this server is in it and the room lets the other one take part.
    fn find_edu_room(&self, origin: &ServerName, room_id: &RoomId) -> Result<RoomNid, EduError> {
        let room = self.rooms.room_nid(room_id)?.ok_or(EduError::Refused("the room is not known here"))?;
        if !self.rooms.is_resident(room)? {
            return Err(EduError::Refused("nobody here is in the room"));
        }
        if !self.rooms.is_server_allowed(room, origin)? {
            return Err(EduError::Refused("the server is denied access to the room"));
        }
        Ok(room)
    }

    /// A user of the server that sends the EDU, who is joined to the room. In a partial room that may be anybody of a
    /// server in it, unless they are known to be out of it.
    async fn find_member(&self, origin: &ServerName, room: RoomNid, user_id: &UserId) -> Result<UserNid, EduError> {
        self.expect_heard(origin, user_id)?;
        let user = self.rooms.user_nid(user_id)?;
        let row = user.map(|user| self.rooms.membership(room, user)).transpose()?.flatten();
        match (user, row) {
            (Some(user), Some(row)) if row.membership == Membership::Join => Ok(user),
            (user, None) if self.rooms.head(room)?.is_partial() && self.rooms.is_server_joined(room, origin)? => {
                match user {
                    Some(user) => Ok(user),
                    None => Ok(self.rooms.intern_user(user_id).await?),
                }
            }
            _ => Err(EduError::Refused("the user is not in the room")),
        }
    }
}

fn read<T: DeserializeOwned>(content: Map<String, Value>) -> Result<T, EduError> {
    read_value(Value::Object(content))
}

fn read_value<T: DeserializeOwned>(value: Value) -> Result<T, EduError> {
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests;
