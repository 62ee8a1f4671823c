//! Recording of calls that are not encrypted: who may, that all in the room see it, and what becomes of the file.
//!
//! While a call is recorded the room's state says so ([`RECORDING_EVENT`], sent as who began it). At the end the file is
//! stored as media of that user and sent into the room. What this server's end interrupts is sent at its next start.

mod finish;

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{Draft, Event, Membership, RoomNid, UserNid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, UserId};
use storage::{Batch, Keyspace, Profile};
use tokio::sync::{Notify, oneshot};

use crate::calls::{Calls, WeakCalls};
use crate::error::CallError;
use crate::names::room_name;
use crate::ports::{Recorder, RecordingStart};
use crate::seat::check_name;

/// The state event, with an empty state key, that says that a call is being recorded. Empty when none is.
pub const RECORDING_EVENT: &str = "io.conduit.call.recording";

/// The file's name → the recording: also of those that have ended and were not sent yet.
pub(crate) const CALL_RECORDINGS: Keyspace<String, RecordingRow> = Keyspace::new("call_recordings", Profile::Points);

/// A recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordingRow {
    room: RoomNid,
    slot: String,
    /// The media server's name of the call.
    call: String,
    /// Who began it.
    user: UserNid,
    since_ms: u64,
}
storage::stored!(RecordingRow, 1);

/// A recording that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Who began it.
    pub user: UserId,
    /// The slot of the room whose call it is.
    pub slot: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// Of what the room's state says of a recording: who began it.
#[derive(Deserialize)]
struct Told {
    user_id: UserId,
}

/// Why a call is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The operator has not switched it on (nobody's fault).
    #[error("this server does not record calls")]
    Off,
    /// There is no such call over the media server here (client).
    #[error("there is no such call on this server")]
    NoCall,
    /// What is encrypted end to end cannot be recorded by a server (client).
    #[error("what is encrypted end to end cannot be recorded by the server")]
    Encrypted,
    /// The room has one (client).
    #[error("a call of this room is being recorded")]
    Recorded,
    /// The room has none (client).
    #[error("no call of this room is being recorded")]
    NotRecorded,
    /// As many calls are recorded as the operator allows.
    #[error("as many calls are being recorded as this server allows")]
    TooMany,
    /// The media server or the disk failed.
    #[error("{0}")]
    Failed(String),
}

/// What is being recorded, with the file's name, and what has ended and was not looked at.
#[derive(Default)]
pub(crate) struct Recordings {
    running: Mutex<BTreeMap<RoomNid, (String, RecordingRow)>>,
    ended: Mutex<Vec<RoomNid>>,
    news: Notify,
}

impl Recordings {
    /// The recording of a room, with the file's name.
    fn running_in(&self, room: RoomNid) -> Option<(String, RecordingRow)> {
        self.running.lock().get(&room).cloned()
    }

    fn end(&self, room: RoomNid) {
        self.ended.lock().push(room);
        self.news.notify_one();
    }
}

impl Calls {
    /// Records the call in a slot of a room from now on. Cancel-safe: what has begun goes on.
    ///
    /// # Errors
    /// [`CallError::Recording`]; [`CallError::NotInRoom`]; that of the room if the user may not send its
    /// [`RECORDING_EVENT`].
    pub async fn start_recording(&self, user: &UserId, room: &RoomId, slot: &str) -> Result<Recording, CallError> {
        self.recorder()?;
        check_name(slot)?;
        let (room_nid, user_nid) = self.member(user, room)?;
        let call = room_name(room, slot);
        let (media, _) = self.media()?;
        if self.is_encrypted(room_nid)? {
            return Err(RecordingError::Encrypted.into());
        }
        if !self.table.has_call(&call) {
            return Err(RecordingError::NoCall.into());
        }
        if media.participants(&call).iter().flat_map(|leg| &leg.tracks).any(|track| track.encrypted) {
            return Err(RecordingError::Encrypted.into());
        }
        let since_ms = self.clock.now_ms();
        let id = format!("{since_ms}-{}", room_nid.0);
        let row = RecordingRow { room: room_nid, slot: slot.to_owned(), call, user: user_nid, since_ms };
        self.reserve_recording(&id, &row)?;
        // In a task of its own: whoever asks may go away meanwhile.
        let (calls, starter, (reply, answer)) = (self.clone(), user.clone(), oneshot::channel());
        self.tasks.spawn("recording begins", async move {
            let mut begun = calls.begin_recording(&starter, &id, &row).await;
            if begun.is_err()
                && let Err(error) = calls.forget_recording(&id, &row).await
            {
                begun = Err(error);
            }
            let _ = reply.send(begun);
        });
        let stopped = |_| RecordingError::Failed("the server stops".to_owned());
        answer.await.map_err(stopped)??;
        tracing::info!(room = room_nid.0, user = user_nid.0, "a call is recorded");
        Ok(Recording { user: user.clone(), slot: slot.to_owned(), since_ms })
    }

    /// Ends the recording in a room. Its file is sent soon after. Where the room's state speaks of one that is over, and
    /// nobody here had the power to empty it then, it is emptied. Cancel-safe: it is ended once the state says so.
    ///
    /// # Errors
    /// As [`Calls::start_recording`].
    pub async fn stop_recording(&self, user: &UserId, room: &RoomId) -> Result<(), CallError> {
        let recorder = self.recorder()?;
        let (room, _) = self.member(user, room)?;
        let running = self.recordings.running_in(room);
        if running.is_none() && !self.tells_of_ours(room)? {
            return Err(RecordingError::NotRecorded.into());
        }
        // First: whoever may not say so may not end it.
        self.tell_recording(user, room, Map::new()).await?;
        if let Some((_, row)) = running {
            recorder.stop(&row.call);
        }
        Ok(())
    }

    /// The recording in a room, for somebody who is in it.
    ///
    /// # Errors
    /// [`CallError::NotInRoom`], [`CallError::Recording`] where nothing is recorded, and storage errors.
    pub fn recording(&self, user: &UserId, room: &RoomId) -> Result<Option<Recording>, CallError> {
        self.recorder()?;
        let (room, _) = self.member(user, room)?;
        let Some((_, row)) = self.recordings.running_in(room) else { return Ok(None) };
        Ok(Some(Recording { user: self.rooms.user_id(row.user)?, slot: row.slot, since_ms: row.since_ms }))
    }

    /// Ends what users record who are not in the room any more.
    pub(crate) fn end_recordings_of(&self, users: &[UserNid]) -> Result<(), CallError> {
        let running: Vec<RecordingRow> = {
            let running = self.recordings.running.lock();
            running.values().map(|(_, row)| row).filter(|row| users.contains(&row.user)).cloned().collect()
        };
        for row in running {
            let membership = self.rooms.membership(row.room, row.user)?;
            if membership.is_none_or(|row| row.membership != Membership::Join) {
                self.recording_port()?.stop(&row.call);
            }
        }
        Ok(())
    }

    fn recorder(&self) -> Result<&dyn Recorder, CallError> {
        self.media()?;
        if self.config.recording.enabled { self.recording_port() } else { Err(RecordingError::Off.into()) }
    }

    fn recording_port(&self) -> Result<&dyn Recorder, CallError> {
        Ok(self.recorder.as_deref().ok_or(RecordingError::Off)?)
    }

    fn member(&self, user: &UserId, room: &RoomId) -> Result<(RoomNid, UserNid), CallError> {
        let nid = self.rooms.user_nid(user)?.ok_or(CallError::NotInRoom)?;
        let room = self.rooms.room_nid(room)?.ok_or(CallError::NotInRoom)?;
        self.check_guest(room, nid, user, None)?;
        Ok((room, nid))
    }

    fn is_encrypted(&self, room: RoomNid) -> Result<bool, CallError> {
        let state = self.rooms.head(room)?.state();
        Ok(self.rooms.state_event(room, state, "m.room.encryption", "")?.is_some())
    }

    fn reserve_recording(&self, id: &str, row: &RecordingRow) -> Result<(), RecordingError> {
        let mut running = self.recordings.running.lock();
        if running.contains_key(&row.room) {
            return Err(RecordingError::Recorded);
        }
        if running.len() >= self.config.recording.max_at_once {
            return Err(RecordingError::TooMany);
        }
        running.insert(row.room, (id.to_owned(), row.clone()));
        Ok(())
    }

    async fn begin_recording(&self, user: &UserId, id: &str, row: &RecordingRow) -> Result<(), CallError> {
        let mut batch = Batch::new();
        batch.put(&CALL_RECORDINGS, &id.to_owned(), row);
        self.store.commit(batch).await?;
        let content = json!({"recording": true, "user_id": user, "started_ts": row.since_ms, "slot_id": row.slot});
        let content = content.as_object().cloned().unwrap_or_default();
        self.tell_recording(user, row.room, content).await?;
        let (calls, room) = (self.downgrade(), row.room);
        let limits = &self.config.recording;
        let order = RecordingStart {
            call: row.call.clone(),
            id: id.to_owned(),
            max_duration: Duration::from_secs(limits.max_minutes.saturating_mul(60)),
            max_bytes: limits.max_bytes.bytes(),
            ended: Box::new(move || calls.recording_ended(room)),
        };
        let started = self.recording_port()?.start(order).await;
        if started.is_err() {
            self.tell_recording(user, row.room, Map::new()).await?;
        }
        started
    }

    /// Says in the room whether a call is recorded.
    async fn tell_recording(&self, user: &UserId, room: RoomNid, content: Map<String, Value>) -> Result<(), CallError> {
        let draft = Draft { only_if_joined: true, ..Draft::state(user.clone(), RECORDING_EVENT, "", content) };
        self.rooms.append(room, vec![draft], None).await?;
        Ok(())
    }

    /// What the room's state says of a recording, if it says anything.
    fn told_recording(&self, room: RoomNid) -> Result<Option<Event>, CallError> {
        let state = self.rooms.head(room)?.state();
        let event = self.rooms.state_event(room, state, RECORDING_EVENT, "")?;
        Ok(event.filter(|event| event.content() != "{}"))
    }

    /// Whether the room's state speaks of a recording by a user of this server. Whether others record is not known.
    fn tells_of_ours(&self, room: RoomNid) -> Result<bool, CallError> {
        let told = self.told_recording(room)?.and_then(|event| event.content_as::<Told>());
        Ok(told.is_some_and(|told| told.user_id.server_name() == self.rooms.server_name().as_str()))
    }

    async fn forget_recording(&self, id: &str, row: &RecordingRow) -> Result<(), CallError> {
        let mut batch = Batch::new();
        batch.delete(&CALL_RECORDINGS, &id.to_owned());
        let forgotten = self.store.commit(batch).await;
        self.release_recording(id, row.room);
        forgotten?;
        Ok(())
    }

    /// Another call of the room may be recorded.
    fn release_recording(&self, id: &str, room: RoomNid) {
        let mut running = self.recordings.running.lock();
        if running.get(&room).is_some_and(|(running, _)| running == id) {
            running.remove(&room);
        }
    }
}

impl WeakCalls {
    fn recording_ended(&self, room: RoomNid) {
        if let Some(calls) = self.upgrade() {
            calls.recordings.end(room);
        }
    }
}
