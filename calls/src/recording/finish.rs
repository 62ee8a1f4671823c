//! What becomes of a recording that has ended.

use rooms::{Draft, RoomError, RoomNid, Transaction};
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use storage::Read;

use super::{CALL_RECORDINGS, RECORDING_EVENT, RecordingRow};
use crate::calls::Calls;
use crate::error::CallError;
use crate::ports::StoredRecording;

/// The file's name for people.
const FILE_NAME: &str = "call-recording.webm";

impl Calls {
    /// Sends what was left of recordings at the last end of this server, and then what ends, until shutdown.
    pub(crate) async fn follow_recordings(&self) {
        let shutdown = self.tasks.shutdown_token();
        // What begins from now on is not among these: it is known to be running.
        let left: Result<Vec<(String, RecordingRow)>, _> = self.store.scan(&CALL_RECORDINGS, &()).iter().collect();
        match left {
            Ok(left) => {
                for (id, row) in left {
                    if self.recordings.running_in(row.room).is_none_or(|(running, _)| running != id) {
                        shutdown.run_until_cancelled(self.finish(&id, &row)).await;
                    }
                }
            }
            Err(error) => tracing::error!(%error, "recordings that were interrupted cannot be read"),
        }
        while let Some(room) = shutdown.run_until_cancelled(self.next_ended()).await {
            if let Some((id, row)) = self.recordings.running_in(room) {
                shutdown.run_until_cancelled(self.finish(&id, &row)).await;
            }
        }
    }

    async fn next_ended(&self) -> RoomNid {
        loop {
            let ended = self.recordings.ended.lock().pop();
            match ended {
                Some(room) => return room,
                None => self.recordings.news.notified().await,
            }
        }
    }

    /// Sends a recording that has ended. If that fails, it is tried again at the next start.
    async fn finish(&self, id: &str, row: &RecordingRow) {
        if let Err(error) = self.deliver(id, row).await {
            tracing::error!(%error, room = row.room.0, "a recording was not sent; it is tried again at the next start");
            self.release_recording(id, row.room);
        }
    }

    async fn deliver(&self, id: &str, row: &RecordingRow) -> Result<(), CallError> {
        let (recorder, user) = (self.recording_port()?, self.rooms.user_id(row.user)?);
        // Of what the last end of the server left, another one may have taken the place.
        if self.recordings.running_in(row.room).is_none_or(|(running, _)| running == id) {
            // If it ended by a limit of its own, the media server does not know yet.
            recorder.stop(&row.call);
            self.tell_end(&user, row.room).await?;
        }
        let may_send = self.users.may_send(row.user)? && self.check_guest(row.room, row.user, &user, None).is_ok();
        if may_send {
            match recorder.store(id, &user, FILE_NAME).await? {
                Some(stored) => self.send_recording(id, row, user, &stored).await?,
                None => tracing::info!(room = row.room.0, "a recording had nothing in it"),
            }
        } else {
            tracing::warn!(room = row.room.0, "a recording is given up: who began it may not send any more");
        }
        recorder.discard(id).await?;
        self.forget_recording(id, row).await
    }

    async fn send_recording(
        &self,
        id: &str,
        row: &RecordingRow,
        user: UserId,
        stored: &StoredRecording,
    ) -> Result<(), CallError> {
        let draft = Draft { only_if_joined: true, ..Draft::message(user, "m.room.message", message(stored)) };
        // Whatever interrupts this, it is sent once.
        let transaction = Transaction { device: "".into(), scope: RECORDING_EVENT.into(), id: id.into() };
        match self.rooms.append(row.room, vec![draft], Some((row.user, transaction))).await {
            Err(error @ (RoomError::Forbidden(_) | RoomError::NotInRoom)) => {
                tracing::warn!(%error, room = row.room.0, "a recording may not be sent");
            }
            sent => drop(sent?),
        }
        tracing::info!(
            room = row.room.0,
            bytes = stored.bytes,
            seconds = stored.duration_ms / 1000,
            "a recording was sent"
        );
        Ok(())
    }

    /// Says in the room that no call is recorded any more, unless its state says so: as who began it, or, where they may
    /// not any more, as the member of this server with the most power.
    async fn tell_end(&self, user: &UserId, room: RoomNid) -> Result<(), CallError> {
        if self.told_recording(room)?.is_none() {
            return Ok(());
        }
        let mut told = self.tell_recording(user, room, Map::new()).await;
        if matches!(told, Err(CallError::Rooms(RoomError::Forbidden(_) | RoomError::NotInRoom)))
            && let Some(other) = self.rooms.most_powerful_local(room)?
        {
            told = self.tell_recording(&other, room, Map::new()).await;
        }
        if let Err(error) = told {
            tracing::warn!(%error, room = room.0, "the end of a recording could not be said in its room");
        }
        Ok(())
    }
}

/// Client-Server API §`m.video`, §`m.audio`.
fn message(stored: &StoredRecording) -> Map<String, Value> {
    let (kind, mimetype) =
        if stored.pictures.is_some() { ("m.video", "video/webm") } else { ("m.audio", "audio/webm") };
    let mut info = json!({"size": stored.bytes, "duration": stored.duration_ms, "mimetype": mimetype});
    if let (Some((width, height)), Some(info)) = (stored.pictures, info.as_object_mut()) {
        info.insert("w".to_owned(), width.into());
        info.insert("h".to_owned(), height.into());
    }
    let content = json!({"msgtype": kind, "body": FILE_NAME, "filename": FILE_NAME, "url": stored.url, "info": info});
    content.as_object().cloned().unwrap_or_default()
}
