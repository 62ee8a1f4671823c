//! How the server speaks in the admin room: notices, edits of them, files; and how it removes what should not stay.

use media::{Description, Media};
use rooms::{Draft, RoomError, RoomNid, Rooms};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, UserId};

use super::page::Page;
use super::passing::MARK;
use crate::error::AdminError;
use crate::outcome::File;

/// How much of a long answer is shown beside its file, in lines and characters.
const EXCERPT_LINES: usize = 5;
const EXCERPT_CHARS: usize = 500;

/// The server in the admin room. A cheap handle.
#[derive(Clone)]
pub(crate) struct Voice {
    pub rooms: Rooms,
    pub media: Media,
    pub room: RoomNid,
    /// Whom the server speaks as.
    pub user: UserId,
}

impl Voice {
    /// Says something, as a reply to a message. What is too long becomes a file. Cancel-safe.
    ///
    /// # Errors
    /// What the room or the media store refuse.
    pub async fn say(&self, page: &Page, reply_to: Option<&str>) -> Result<EventId, AdminError> {
        if !page.is_long() {
            return self.send(notice(&page.clone().with_notice()), reply_to).await;
        }
        let (name, mime) = ("answer.txt".to_owned(), "text/plain".to_owned());
        let file = File { name, mime, bytes: page.plain.clone().into_bytes() };
        self.send_file(&file, reply_to, page.passing.is_some()).await?;
        let lines = page.plain.lines().count();
        let excerpt: String = page.plain.lines().take(EXCERPT_LINES).collect::<Vec<_>>().join("\n");
        let excerpt: String = excerpt.chars().take(EXCERPT_CHARS).collect();
        let summary = Page::text(format!("The answer has {lines} lines and is in the file. It begins:"));
        let summary = Page { passing: page.passing.clone(), ..summary.and(&Page::columns(excerpt)) };
        self.send(notice(&summary.with_notice()), reply_to).await
    }

    /// Replaces what was said. Cancel-safe.
    ///
    /// # Errors
    /// What the room refuses.
    pub async fn edit(&self, said: &EventId, page: &Page) -> Result<(), AdminError> {
        let mut content = notice(page);
        let replacement = Value::Object(content.clone());
        content.insert("m.new_content".into(), replacement);
        content.insert("body".into(), format!("* {}", page.plain).into());
        content.insert("m.relates_to".into(), json!({"rel_type": "m.replace", "event_id": said.as_str()}));
        self.append(Draft::message(self.user.clone(), "m.room.message", content)).await.map(drop)
    }

    /// Uploads a file and shows it; one that holds a secret is removed after a while. Cancel-safe.
    ///
    /// # Errors
    /// What the media store or the room refuse.
    pub async fn send_file(
        &self,
        file: &File,
        reply_to: Option<&str>,
        holds_secret: bool,
    ) -> Result<EventId, AdminError> {
        let mut upload = self.media.new_upload();
        upload.write(&file.bytes).await?;
        let about = Description { content_type: Some(file.mime.clone()), file_name: Some(file.name.clone()) };
        let mxc = self.media.upload(&self.user, upload, about).await?;
        let content = json!({
            "msgtype": "m.file",
            "body": file.name,
            "filename": file.name,
            "url": mxc.to_string(),
            "info": {"mimetype": file.mime, "size": file.bytes.len()},
            "m.mentions": {},
        });
        let mut content = object(content);
        if holds_secret {
            content.insert(MARK.into(), true.into());
        }
        self.send(content, reply_to).await
    }

    /// Removes a message from the room. Cancel-safe.
    ///
    /// # Errors
    /// What the room refuses.
    pub async fn redact(&self, event_id: &str) -> Result<(), AdminError> {
        let event_id = EventId::parse(event_id).map_err(AdminError::internal)?;
        let content = object(json!({"redacts": event_id, "reason": "it may have held secrets"}));
        self.append(Draft::redaction(self.user.clone(), event_id, content)).await.map(drop)
    }

    async fn send(&self, mut content: Map<String, Value>, reply_to: Option<&str>) -> Result<EventId, AdminError> {
        if let Some(event_id) = reply_to {
            content.insert("m.relates_to".into(), json!({"m.in_reply_to": {"event_id": event_id}}));
        }
        self.append(Draft::message(self.user.clone(), "m.room.message", content)).await
    }

    async fn append(&self, draft: Draft) -> Result<EventId, AdminError> {
        let ids = self.rooms.append(self.room, vec![draft], None).await?;
        Ok(ids.into_iter().next().ok_or(RoomError::Inconsistent("a draft made no event"))?)
    }
}

fn notice(page: &Page) -> Map<String, Value> {
    let mut content = object(json!({
        "msgtype": "m.notice",
        "body": page.plain,
        "format": "org.matrix.custom.html",
        "formatted_body": page.html,
        // Nobody is mentioned by a name that stands in an answer.
        "m.mentions": {},
    }));
    if page.passing.is_some() {
        content.insert(MARK.into(), true.into());
    }
    content
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
