//! What an operator sees of calls that go on, and does to them, as LiveKit's room service would.

use rooms::RoomNid;
use spec::ids::{RoomId, UserId};
use storage::Batch;

use crate::calls::Calls;
use crate::error::CallError;
use crate::grants::CALL_GRANTS;
use crate::ports::{LiveLeg, LiveTrack};
use crate::seat::LegKey;
use crate::table::{CallOverview, Leg};

/// A participant of a call that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallParticipant {
    /// Who.
    pub user: UserId,
    /// On which device, as far as that is known.
    pub device: Option<String>,
    /// The slot of the room whose call it is.
    pub slot: String,
    /// The media server's name of the participant.
    pub identity: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How it goes, as of a few seconds ago; `None` in the first seconds.
    pub live: Option<LiveLeg>,
}

/// Which tracks are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MuteScope {
    /// Every track.
    All,
    /// Microphones and the sound of shared screens.
    Sound,
    /// Cameras and shared screens.
    Pictures,
}

impl MuteScope {
    fn contains(self, track: &LiveTrack) -> bool {
        match self {
            MuteScope::All => true,
            MuteScope::Sound => matches!(track.source.as_str(), "microphone" | "screen_share_audio"),
            MuteScope::Pictures => matches!(track.source.as_str(), "camera" | "screen_share"),
        }
    }
}

impl Calls {
    /// The calls that go on in a room, one for each slot.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn calls_in(&self, room: &RoomId) -> Result<Vec<CallOverview>, CallError> {
        let mut calls = self.overview()?;
        calls.retain(|call| call.room == *room);
        Ok(calls)
    }

    /// Who is in the calls of a room, and how it goes for them.
    ///
    /// # Errors
    /// Storage errors; [`CallError::Off`].
    pub fn participants(&self, room: &RoomId) -> Result<Vec<CallParticipant>, CallError> {
        let (media, _) = self.media()?;
        let mut shown: Vec<CallParticipant> = Vec::new();
        let (mut name, mut live): (Option<String>, Vec<LiveLeg>) = (None, Vec::new());
        for (key, leg) in self.legs_in(room)? {
            // Legs come in the order of calls.
            if name.as_ref() != Some(&key.room) {
                live = media.participants(&key.room);
                name = Some(key.room);
            }
            shown.push(CallParticipant {
                user: self.rooms.user_id(leg.grant.user)?,
                device: leg.grant.device,
                slot: leg.grant.slot,
                live: live.iter().find(|live| live.identity == key.identity).cloned(),
                identity: key.identity,
                since_ms: leg.joined_ms,
            });
        }
        Ok(shown)
    }

    /// Puts a user out of the calls of a room, on all devices, and makes the tokens for it worthless. Whoever is still a
    /// member of the room may ask for a new one: to keep somebody out, remove them from the room. Returns how many
    /// participations end. Cancel-safe: what is not done is as before.
    ///
    /// # Errors
    /// Storage errors; [`CallError::Off`].
    pub async fn remove_participant(&self, room: &RoomId, user: &UserId) -> Result<usize, CallError> {
        let legs = self.legs_of(room, user)?;
        let mut batch = Batch::new();
        for (key, _) in &legs {
            // First, so that the end of the leg does not renew it.
            self.table.revoke(key);
            batch.delete(&CALL_GRANTS, &key.row_key());
        }
        if !legs.is_empty() {
            self.store.commit(batch).await?;
        }
        let (media, _) = self.media()?;
        for (key, _) in &legs {
            tracing::info!(call = key.room, room = %room, user = %user, "an operator ends a call leg");
            media.disconnect(&key.room, &key.identity);
        }
        Ok(legs.len())
    }

    /// Mutes what a user sends in the calls of a room; only they can unmute it. Returns how many tracks that are.
    ///
    /// # Errors
    /// Storage errors; [`CallError::Off`].
    pub fn mute_participant(&self, room: &RoomId, user: &UserId, scope: MuteScope) -> Result<usize, CallError> {
        let (media, _) = self.media()?;
        let mut muted = 0;
        for (key, _) in self.legs_of(room, user)? {
            let live = media.participants(&key.room);
            let tracks = live.iter().filter(|live| live.identity == key.identity).flat_map(|live| &live.tracks);
            for track in tracks.filter(|track| !track.muted && scope.contains(track)) {
                media.mute(&key.room, &key.identity, &track.id);
                muted += 1;
            }
        }
        Ok(muted)
    }

    fn legs_of(&self, room: &RoomId, user: &UserId) -> Result<Vec<(LegKey, Leg)>, CallError> {
        let Some(user) = self.rooms.user_nid(user)? else { return Ok(Vec::new()) };
        let mut legs = self.legs_in(room)?;
        legs.retain(|(_, leg)| leg.grant.user == user);
        Ok(legs)
    }

    fn legs_in(&self, room: &RoomId) -> Result<Vec<(LegKey, Leg)>, CallError> {
        let Some(room): Option<RoomNid> = self.rooms.room_nid(room)? else { return Ok(Vec::new()) };
        let mut legs = self.table.legs();
        legs.retain(|(_, leg)| leg.grant.room == room);
        Ok(legs)
    }
}
