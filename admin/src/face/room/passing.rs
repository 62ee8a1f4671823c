//! Answers with secrets in them: the server removes them from the room after a while, with their files.
//!
//! Such an answer is marked in its content. The follower notes it when it reads it, so that it is removed also by a
//! server that was stopped meanwhile.

use media::Mxc;
use rooms::Event;
use serde::Deserialize;
use storage::{Batch, Read};

use super::AdminRoom;
use super::page::Page;
use super::rows::{ADMIN_ROOM_PASSING, PassingRow};
use super::voice::Voice;
use crate::error::AdminError;

/// The key in the content of a message that is to be removed.
pub(super) const MARK: &str = "org.conduit.holds_secret";

#[derive(Deserialize)]
struct Marked {
    #[serde(rename = "org.conduit.holds_secret", default)]
    holds_secret: bool,
    url: Option<String>,
}

impl AdminRoom {
    /// Notes when a message of the server's own is to be removed, if it is. Done again, it changes nothing. Cancel-safe.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn note_passing(&self, event: &Event) -> Result<(), AdminError> {
        let Some(marked) = event.content_as::<Marked>().filter(|content| content.holds_secret) else { return Ok(()) };
        let sent_ms = u64::try_from(event.origin_server_ts()).unwrap_or(0);
        let shown = self.admin.config().secrets_shown.duration();
        let due_ms = sent_ms.saturating_add(u64::try_from(shown.as_millis()).unwrap_or(u64::MAX));
        let row = PassingRow { event_id: event.event_id().to_owned(), media: marked.url };
        let mut batch = Batch::new();
        batch.put(&ADMIN_ROOM_PASSING, &(due_ms, event.seq()), &row);
        self.admin.store().commit(batch).await?;
        Ok(())
    }

    /// Removes what is due. What cannot be removed is told, and not tried again. Gives when the next is due, in
    /// milliseconds.
    ///
    /// # Errors
    /// Those of the store, and of a room in which the server cannot speak.
    pub(super) async fn remove_passed(&self, voice: &Voice) -> Result<Option<u64>, AdminError> {
        let store = self.admin.store();
        loop {
            let Some(first) = store.scan(&ADMIN_ROOM_PASSING, &()).iter().next() else { return Ok(None) };
            let (key, row) = first?;
            if key.0 > self.admin.clock().now_ms() {
                return Ok(Some(key.0));
            }
            if let Err(error) = self.remove(voice, &row).await {
                tracing::error!(%error, "an answer with a secret was not removed from the admin room");
                let text = "This answer holds a secret and could not be removed: remove it yourself.";
                voice.say(&Page::text(text), Some(&row.event_id)).await?;
            }
            let mut batch = Batch::new();
            batch.delete(&ADMIN_ROOM_PASSING, &key);
            store.commit(batch).await?;
        }
    }

    async fn remove(&self, voice: &Voice, row: &PassingRow) -> Result<(), AdminError> {
        if let Some(media) = &row.media {
            let mxc = Mxc::parse(media).map_err(|_| AdminError::internal("the address of an answer is malformed"))?;
            self.admin.media().delete(&mxc).await?;
        }
        voice.redact(&row.event_id).await
    }
}
