//! Who was in which call, and how well it went: kept for a while, for administration.

use rooms::{RoomNid, UserNid};
use serde::{Deserialize, Serialize};
use spec::ids::{RoomId, UserId};
use storage::{Batch, Keyspace, Profile, Read, StreamPos, Value};

use crate::calls::Calls;
use crate::error::CallError;
use crate::seat::LegKey;
use crate::table::Leg;

/// (End of a participation in milliseconds, position of its commit) → the participation.
pub(crate) const CALL_LEGS: Keyspace<(u64, StreamPos), LegRow> = Keyspace::new("call_legs", Profile::Log);

/// How many rows one commit takes out.
const BATCH: usize = 500;

/// How well a participation went, as the media server counted it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegStatistics {
    /// How the media travelled: `udp`, `tcp`, `relay`, or `none`.
    pub transport: String,
    /// The time to the participant and back in milliseconds, on average.
    pub rtt_ms: Option<u32>,
    /// Of a thousand packets of the participant, how many were lost on the way here.
    pub loss_up_permille: u16,
    /// Of a thousand packets for the participant, how many were lost.
    pub loss_down_permille: u16,
    /// The variation of the time between the participant's packets in milliseconds, on average.
    pub jitter_ms: u32,
    /// Bytes of media that the participant sent.
    pub bytes_up: u64,
    /// Bytes of media that it was sent.
    pub bytes_down: u64,
    /// How often the participant came back after a broken connection.
    pub resumes: u32,
}

/// See [`PastLeg`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LegRow {
    pub room: RoomNid,
    slot: String,
    user: UserNid,
    device: Option<String>,
    identity: String,
    call_ms: u64,
    joined_ms: u64,
    statistics: LegStatistics,
}
storage::stored!(LegRow, 1);

/// A participation that has ended. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastLeg {
    /// The Matrix room.
    pub room: RoomId,
    /// The slot.
    pub slot: String,
    /// Who.
    pub user: UserId,
    /// On which device, as far as that is known.
    pub device: Option<String>,
    /// The media server's name of the participant.
    pub identity: String,
    /// When the call began: the same for all participations in it.
    pub call_ms: u64,
    /// When the participant joined.
    pub joined_ms: u64,
    /// When the participant was gone.
    pub left_ms: u64,
    /// How well it went.
    pub statistics: LegStatistics,
}

impl Calls {
    /// Keeps that a participant has gone.
    pub(crate) async fn keep_leg(&self, key: LegKey, leg: Leg, statistics: LegStatistics) -> Result<(), CallError> {
        let Leg { grant, joined_ms, call_ms, is_revoked: _ } = leg;
        let row = LegRow {
            room: grant.room,
            slot: grant.slot,
            user: grant.user,
            device: grant.device,
            identity: key.identity,
            call_ms,
            joined_ms,
            statistics,
        };
        let mut batch = Batch::new();
        batch.put(&CALL_LEGS, &(self.clock.now_ms(), StreamPos::PENDING), &row);
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Participations that have ended, the last first, at most `limit`; of one room if it is given, and only those that
    /// ended before `before_ms`.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn history(&self, room: Option<RoomNid>, before_ms: u64, limit: usize) -> Result<Vec<PastLeg>, CallError> {
        let mut legs = Vec::new();
        for row in self.store.scan(&CALL_LEGS, &()).until_prefix(&before_ms).reverse().iter() {
            if legs.len() >= limit {
                break;
            }
            let ((left_ms, _), row) = row?;
            // A leg that ended after its room was deleted has no room any more.
            let Some(room_id) = self.room_of(row.room)?.filter(|_| room.is_none_or(|room| room == row.room)) else {
                continue;
            };
            legs.push(PastLeg {
                room: room_id,
                slot: row.slot,
                user: self.rooms.user_id(row.user)?,
                device: row.device,
                identity: row.identity,
                call_ms: row.call_ms,
                joined_ms: row.joined_ms,
                left_ms,
                statistics: row.statistics,
            });
        }
        Ok(legs)
    }

    /// Forgets what ended too long ago, and the oldest of too many.
    pub(crate) async fn forget_old<V: Value>(&self, keyspace: &Keyspace<(u64, StreamPos), V>) -> Result<(), CallError> {
        let kept_ms = u64::try_from(self.config.history.duration().as_millis()).unwrap_or(u64::MAX);
        let oldest_ms = self.clock.now_ms().saturating_sub(kept_ms);
        let keys: Vec<(u64, StreamPos)> = self.store.scan(keyspace, &()).keys().collect::<Result<_, _>>()?;
        let surplus = keys.len().saturating_sub(self.config.history_entries);
        let old = keys.iter().enumerate().take_while(|(index, key)| *index < surplus || key.0 < oldest_ms);
        let old: Vec<_> = old.map(|(_, key)| *key).collect();
        for chunk in old.chunks(BATCH) {
            let mut batch = Batch::new();
            for key in chunk {
                batch.delete(keyspace, key);
            }
            self.store.commit(batch).await?;
        }
        Ok(())
    }
}
