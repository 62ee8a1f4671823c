//! Recordings of calls: written by the media server into a folder of their own, and stored as media at the end.

use std::io::ErrorKind;
use std::path::PathBuf;

use calls::{CallAnswer, CallError, Recorder, RecordingError, RecordingStart, StoredRecording};
use media::{Description, Media};
use runtime::Tasks;
use sfu::{RecordError, RecordingFile, RecordingOrder, Sfu};
use spec::ids::UserId;

/// The folder in `data_dir` for recordings that go on, or were interrupted.
pub(super) const RECORDINGS_DIR: &str = "recordings";

/// Records with the media server, if there is one.
pub(super) struct FileRecorder {
    pub sfu: Option<Sfu>,
    pub media: Media,
    pub tasks: Tasks,
    pub folder: PathBuf,
}

impl FileRecorder {
    /// The file of a recording; its id is of our own making.
    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.webm"))
    }

    async fn begin(&self, order: RecordingStart) -> Result<(), CallError> {
        let sfu = self.sfu.as_ref().ok_or(CallError::Off)?;
        let RecordingStart { call, id, max_duration, max_bytes, ended } = order;
        tokio::fs::create_dir_all(&self.folder).await.map_err(failed)?;
        let order = RecordingOrder { room: call, file: self.path(&id), max_duration, max_bytes, ended };
        sfu.record(order).await.map_err(|error| match error {
            RecordError::NoCall => RecordingError::NoCall.into(),
            RecordError::Encrypted => RecordingError::Encrypted.into(),
            RecordError::Recorded => RecordingError::Recorded.into(),
            error @ (RecordError::Overloaded | RecordError::Thread(_)) => failed(error),
        })
    }

    async fn keep(&self, id: &str, user: &UserId, name: &str) -> Result<Option<StoredRecording>, CallError> {
        let path = self.path(id);
        let read = {
            let path = path.clone();
            self.tasks.compute("recording", move || RecordingFile::read(&path)).await.map_err(failed)?
        };
        let about = match read {
            Ok(Some(about)) => about,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
        let mut upload = self.media.new_upload_within(about.bytes);
        upload.write_from(&mut file).await.map_err(failed)?;
        let content_type = if about.pictures.is_some() { "video/webm" } else { "audio/webm" };
        let description = Description { content_type: Some(content_type.to_owned()), file_name: Some(name.to_owned()) };
        let mxc = self.media.upload(user, upload, description).await.map_err(failed)?;
        let RecordingFile { bytes, duration_ms, pictures, .. } = about;
        Ok(Some(StoredRecording { url: mxc.to_string(), bytes, duration_ms, pictures }))
    }

    async fn remove(&self, id: &str) -> Result<(), CallError> {
        match tokio::fs::remove_file(self.path(id)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> CallError {
    RecordingError::Failed(error.to_string()).into()
}

impl Recorder for FileRecorder {
    fn start(&self, order: RecordingStart) -> CallAnswer<'_, ()> {
        Box::pin(self.begin(order))
    }

    fn stop(&self, call: &str) {
        if let Some(sfu) = &self.sfu {
            sfu.stop_recording(call);
        }
    }

    fn store<'a>(&'a self, id: &'a str, user: &'a UserId, name: &'a str) -> CallAnswer<'a, Option<StoredRecording>> {
        Box::pin(self.keep(id, user, name))
    }

    fn discard<'a>(&'a self, id: &'a str) -> CallAnswer<'a, ()> {
        Box::pin(self.remove(id))
    }
}
