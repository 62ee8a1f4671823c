//! What is left of a room that was deleted for those who were in it: that they are so no more.
//!
//! Everybody leaves a room before it is deleted, but clients that were offline then ask after the rows are gone, and would
//! show the room for ever. So each user of this server gets a row in place of the membership, at the position at which the
//! membership changed last, with the event that ended it. It is kept for some months.

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use spec::ids::{RoomId, UserId};
use storage::{Batch, Read, StreamPos, stored};

use crate::error::RoomError;
use crate::ids::{RoomNid, UserNid};
use crate::keyspaces::{DEPARTURES, USER_ROOMS};
use crate::membership::Membership;
use crate::rooms::Rooms;

/// How long it is remembered who was in a deleted room: clients that come later start anew as a rule.
const KEPT_MS: u64 = 90 * 24 * 3_600_000;
/// How many rows one commit takes out.
const BATCH: usize = 500;

/// See [`Departure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DepartureRow {
    room_id: Box<str>,
    /// Whether the user was banned.
    is_ban: bool,
    event: Box<str>,
    /// When the room was deleted, in milliseconds since the Unix epoch.
    at_ms: u64,
}
stored!(DepartureRow, 1);

/// A user's end in a room that was deleted.
#[derive(Clone, Debug)]
pub struct Departure {
    /// The number that the room had.
    pub room: RoomNid,
    /// Its id.
    pub room_id: RoomId,
    /// When the membership ended.
    pub pos: StreamPos,
    /// [`Membership::Leave`] or [`Membership::Ban`].
    pub membership: Membership,
    /// The member event, as clients are shown it in `/sync`, without anything in it but the membership.
    pub event: Box<RawValue>,
}

impl Rooms {
    /// The user's ends in rooms that were deleted, after one position and up to another, oldest first. Rooms that the
    /// user is, or was, in again are left out.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn departures(&self, user: UserNid, since: StreamPos, until: StreamPos) -> Result<Vec<Departure>, RoomError> {
        let mut departures = Vec::new();
        let from = (user, since.next(), RoomNid(0));
        for row in self.store.scan(&DEPARTURES, &user).from(&from).iter() {
            let ((_, pos, room), row) = row?;
            if pos > until {
                break;
            }
            let room_id = RoomId::parse(row.room_id).map_err(|_| RoomError::Inconsistent("malformed room id"))?;
            if let Some(again) = self.room_nid(&room_id)?
                && self.membership(again, user)?.is_some()
            {
                continue;
            }
            let membership = if row.is_ban { Membership::Ban } else { Membership::Leave };
            let event = RawValue::from_string(row.event.into());
            let event = event.map_err(|_| RoomError::Inconsistent("malformed departure"))?;
            departures.push(Departure { room, room_id, pos, membership, event });
        }
        Ok(departures)
    }

    /// Adds what is left of the membership of a user of this server, which is about to be taken out. Who wants to see the
    /// room no more, or left it long ago, needs nothing.
    pub(crate) fn note_departure(
        &self,
        room: RoomNid,
        room_id: &str,
        (user, user_id): (UserNid, &UserId),
        batch: &mut Batch,
    ) -> Result<(), RoomError> {
        let Some(stored) = self.store.get(&USER_ROOMS, &(user, room))?.filter(|row| !row.value.forgotten) else {
            return Ok(());
        };
        let now_ms = self.clock.now_ms();
        let is_ban = stored.value.membership == Membership::Ban;
        let membership = if is_ban { Membership::Ban } else { Membership::Leave };
        let mut event = json!({
            "type": "m.room.member", "state_key": user_id, "content": {"membership": membership.as_str()},
        });
        let pos = match is_ban || stored.value.membership == Membership::Leave {
            true => {
                let ended = self.event_at(room, stored.value.seq)?;
                let sent_ms = u64::try_from(ended.origin_server_ts()).unwrap_or(0);
                if sent_ms.saturating_add(KEPT_MS) < now_ms {
                    return Ok(());
                }
                event["event_id"] = ended.event_id().into();
                event["sender"] = ended.sender().into();
                event["origin_server_ts"] = sent_ms.into();
                stored.pos
            }
            // The room is taken from under them: no event says so.
            false => {
                event["event_id"] = format!("${}", self.random.token(43)).into();
                event["sender"] = user_id.as_str().into();
                event["origin_server_ts"] = now_ms.into();
                StreamPos::PENDING
            }
        };
        let row = DepartureRow { room_id: room_id.into(), is_ban, event: event.to_string().into(), at_ms: now_ms };
        batch.put(&DEPARTURES, &(user, pos, room), &row);
        Ok(())
    }

    /// Forgets who was in rooms that were deleted long ago. Cancel-safe: what is left is taken out next time.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn forget_departures(&self) -> Result<usize, RoomError> {
        let before_ms = self.clock.now_ms().saturating_sub(KEPT_MS);
        let rows = self.store.scan(&DEPARTURES, &()).iter().collect::<Result<Vec<_>, _>>()?;
        let old: Vec<_> = rows.into_iter().filter(|(_, row)| row.at_ms < before_ms).map(|(key, _)| key).collect();
        for chunk in old.chunks(BATCH) {
            let mut batch = Batch::new();
            for key in chunk {
                batch.delete(&DEPARTURES, key);
            }
            self.store.commit(batch).await?;
        }
        Ok(old.len())
    }
}
